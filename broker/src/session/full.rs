//! State of a session's queue that was full.

/// State of a queue that was full at least once.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    /// Messages dropped or refused since the queue became full; 0 once it is at most half full again.
    pub(super) lost: u64,
    /// Whether the overflow has been logged.
    pub(super) logged: bool,
    /// Messages dropped that have not been reported to the client yet.
    pub(super) untold: u64,
    /// Time of the next search for expired messages, in milliseconds since 1970.
    pub(super) next_search: u64,
    /// Lower bound of the expiry of all messages in the queue, in milliseconds since 1970.
    pub(super) next_expiry: u64,
    /// A message was dropped whose rule for full queues is to disconnect the client.
    pub(super) disconnect: bool,
}
