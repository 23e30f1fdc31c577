//! Freeing discarded queues in parts: a full queue has a hundred thousand messages of several allocations each.

use super::entry::QueueEntry;
use super::queue::Queue;

/// Number of messages freed before the task yields.
const MESSAGES_PER_TURN: usize = 256;
/// Number of bytes freed before the task yields: the allocator returns large allocations to the system page by page.
const BYTES_PER_TURN: usize = 4 << 20;

/// Frees a queue; for a long one, a task is spawned that yields in between.
pub(super) fn free(mut queue: Queue<QueueEntry>) {
    free_some(&mut queue);
    if queue.is_empty() {
        return;
    }
    tokio::spawn(async move {
        while !queue.is_empty() {
            tokio::task::yield_now().await;
            free_some(&mut queue);
        }
    });
}

fn free_some(queue: &mut Queue<QueueEntry>) {
    let mut bytes = 0;
    for _ in 0..MESSAGES_PER_TURN {
        bytes += queue.pop_front().map_or(0, |entry| entry.size());
        if queue.front().is_none_or(|entry| bytes + entry.size() > BYTES_PER_TURN) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use super::*;
    use crate::message::{Message, QoS};
    use crate::session::Delivery;

    fn queue(count: usize, message: &Arc<Message>) -> Queue<QueueEntry> {
        let entry = |seq| {
            let mut delivery = Delivery {
                message,
                kept: &mut Some(message.clone()),
                qos: QoS::AtLeastOnce,
                retain: false,
                identifiers: &[],
                shared: None,
            };
            delivery.entry(seq)
        };
        (0..count as u64).map(entry).collect::<VecDeque<_>>().into()
    }

    #[tokio::test]
    async fn a_long_queue_is_freed_in_parts() {
        let message = Arc::new(Message::default());
        free(queue(10 * MESSAGES_PER_TURN, &message));
        let (mut before, mut turns) = (10 * MESSAGES_PER_TURN + 1, 0);
        while Arc::strong_count(&message) > 1 {
            let now = Arc::strong_count(&message);
            assert!(before - now <= MESSAGES_PER_TURN, "{} in one turn", before - now);
            before = now;
            turns += 1;
            tokio::task::yield_now().await;
        }
        assert!(turns >= 9, "{turns}");
    }

    #[tokio::test]
    async fn few_large_messages_are_freed_in_parts_and_an_empty_queue_at_once() {
        let message = Arc::new(Message { payload: vec![0; 3 << 20].into(), ..Message::default() });
        free(queue(3, &message));
        assert_eq!(Arc::strong_count(&message), 3);
        while Arc::strong_count(&message) > 1 {
            tokio::task::yield_now().await;
        }
        free(Queue::default());
    }
}
