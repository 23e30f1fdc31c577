//! State of a session's queue that is or was full.

/// State of a queue that was full at least once.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    /// Number of messages dropped or refused since the queue became full; reset to 0 when it is at most half full.
    pub(super) lost: u64,
    /// Whether the overflow was logged.
    pub(super) logged: bool,
    /// Number of dropped messages that were not reported to the client yet.
    pub(super) unreported: u64,
    /// Time of the next search for expired messages, in milliseconds since 1970.
    pub(super) next_search: u64,
    /// Lower bound of the expiry of all messages in the queue, in milliseconds since 1970.
    pub(super) next_expiry: u64,
    /// Whether a message was dropped whose rule for full queues is to disconnect the client.
    pub(super) disconnect: bool,
}
