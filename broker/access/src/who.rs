//! Identity of a client.

/// Client as known to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who<'a> {
    /// User that the client logged in as; `None` for a client that did not log in, whatever its client id.
    pub user: Option<&'a str>,
    /// Client id, never empty.
    pub client_id: &'a str,
}
