//! Memory used by a session, and the part that can be freed when memory is short.

use super::{SessionState, freeing};

impl SessionState {
    /// Returns the approximate number of bytes used: queues, messages in flight, subscriptions, and the will.
    pub(crate) fn weight(&self) -> usize {
        self.queue_bytes
            + self.queue_qos0_bytes
            + self.in_flight.bytes()
            + self.subscription_bytes
            + self.will.as_ref().map_or(0, |will| will.bytes())
    }

    /// Returns the number of bytes queued at QoS 0.
    pub(crate) fn qos0_bytes(&self) -> usize {
        self.queue_qos0_bytes
    }

    /// Drops all messages queued at QoS 0. Returns their number and bytes.
    pub(crate) fn drop_qos0(&mut self) -> (usize, usize) {
        let queue = std::mem::take(&mut self.queue_qos0);
        let messages = queue.len();
        freeing::free(queue);
        (messages, std::mem::take(&mut self.queue_qos0_bytes))
    }
}
