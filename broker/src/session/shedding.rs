//! What a session holds, and what it gives back when memory is short.

use super::{State, freeing};

impl State {
    /// About how many bytes it holds: queued, in flight, subscribed, and its will.
    pub(crate) fn weight(&self) -> usize {
        self.queue_bytes
            + self.queue_qos0_bytes
            + self.in_flight.bytes()
            + self.subscription_bytes
            + self.will.as_ref().map_or(0, |will| will.bytes())
    }

    /// Bytes queued at QoS 0.
    pub(crate) fn qos0_bytes(&self) -> usize {
        self.queue_qos0_bytes
    }

    /// Drops what is queued at QoS 0; how many messages and bytes.
    pub(crate) fn drop_qos0(&mut self) -> (usize, usize) {
        let queue = std::mem::take(&mut self.queue_qos0);
        let messages = queue.len();
        freeing::free(queue);
        (messages, std::mem::take(&mut self.queue_qos0_bytes))
    }
}
