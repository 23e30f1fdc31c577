//! Who publishes and subscribes.

/// A client, as far as rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who<'a> {
    /// The user it logged in as; `None` for a client that did not log in, whatever its client id.
    pub user: Option<&'a str>,
    /// Its client id, never empty.
    pub client_id: &'a str,
}
