//! What a session remembers of its queue having been full.

/// What is known of a queue that was full at least once.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    /// Messages dropped or refused since it became full; 0 once it has room again.
    pub(super) lost: u64,
    /// The log has said so.
    pub(super) logged: bool,
    /// Messages dropped of which the client has not been told.
    pub(super) untold: u64,
    /// From when on it may be searched for expired messages again.
    pub(super) next_search: u64,
    /// No message in the queue expires before this.
    pub(super) next_expiry: u64,
    /// A message was dropped for it whose rule is to disconnect.
    pub(super) disconnect: bool,
}
