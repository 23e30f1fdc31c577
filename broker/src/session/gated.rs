//! Packets of a session that must not be sent before a commit to disk.

use std::collections::VecDeque;

use crate::store::Ticket;

/// Capacity that an empty queue keeps, in packets.
const KEPT_CAPACITY: usize = 64;

/// Packet that may be sent when its ticket is on disk.
#[derive(Debug)]
pub(super) enum Gated {
    Frame(Vec<u8>),
    Publish(u16),
    Release(u16),
}

/// Packets that wait for the disk, in sending order. Boxed, because the queue is always empty without a store.
#[derive(Debug, Default)]
pub(super) struct GatedQueue(Option<Box<GatedPackets>>);

#[derive(Debug, Default)]
struct GatedPackets {
    waiting: VecDeque<(Ticket, Gated)>,
    /// Number of bytes of the frames; a single SUBACK may have a hundred thousand.
    bytes: usize,
}

impl GatedQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of waiting packets.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |line| line.waiting.len())
    }

    /// Returns the number of bytes of the waiting frames.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |line| line.bytes)
    }

    /// Returns the waiting acknowledgements.
    pub(super) fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(|line| &line.waiting).filter_map(|(_, gated)| match gated {
            Gated::Frame(frame) => Some(&**frame),
            _ => None,
        })
    }

    pub(super) fn push(&mut self, ticket: Ticket, gated: Gated) {
        let line = self.0.get_or_insert_default();
        line.bytes += gated.bytes();
        line.waiting.push_back((ticket, gated));
    }

    /// Removes and returns the first packet if its ticket is on disk.
    pub(super) fn pop_durable(&mut self, durable: Ticket) -> Option<Gated> {
        let line = self.0.as_mut()?;
        if line.waiting.front()?.0 > durable {
            return None;
        }
        let (_, gated) = line.waiting.pop_front()?;
        line.bytes -= gated.bytes();
        if line.waiting.is_empty() && line.waiting.capacity() > KEPT_CAPACITY {
            self.0 = None;
        }
        Some(gated)
    }

    /// Removes all packets and frees their memory.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Gated {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::Publish(_) | Self::Release(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_in_order_and_free_their_bytes_and_memory() {
        let mut queue = GatedQueue::default();
        for ticket in 1..=1_000 {
            queue.push(ticket, Gated::Frame(vec![0; 10]));
        }
        queue.push(1_001, Gated::Publish(1));
        assert_eq!((queue.len(), queue.bytes()), (1_001, 10_000));
        assert!(queue.pop_durable(0).is_none());
        assert!(matches!(queue.pop_durable(1), Some(Gated::Frame(_))));
        assert!(queue.pop_durable(1).is_none(), "the next one waits");
        assert_eq!((queue.len(), queue.bytes()), (1_000, 9_990));
        while queue.pop_durable(1_001).is_some() {}
        assert!(queue.bytes() == 0 && queue.0.is_none());
        queue.push(1_002, Gated::Frame(vec![0; 10]));
        queue.clear();
        assert!(queue.is_empty() && queue.bytes() == 0);
    }
}
