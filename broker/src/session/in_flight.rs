//! In-flight table: messages sent and not acknowledged, in sending order, with their packet ids.

use std::collections::VecDeque;

use super::entry::QueueEntry;
use crate::config::Limits;
use crate::link::Link;

/// Time without an acknowledgement, in milliseconds, after which a client with messages in flight counts as stalled:
/// its process may have been stopped, or its network connection lost.
const STALLED_MS: u32 = 1_000;

/// Messages in flight. Packet ids increase in sending order, so the entries are sorted by their distance from the
/// oldest id.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    entries: VecDeque<QueueEntry>,
    bytes: usize,
    /// Number of bytes currently included in the count of all sessions.
    pub(super) counted: usize,
    /// Time of the last acknowledgement, or of the first message in flight if there was none since: the lower 32 bits
    /// of milliseconds since 1970, because sessions have to be small.
    moved: u32,
    last_id: u16,
    /// Whether all sessions together, or those of this owner, have reached their limit of bytes in flight.
    pub(super) capped: bool,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, index: usize) -> &QueueEntry {
        &self.entries[index]
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut QueueEntry {
        &mut self.entries[index]
    }

    /// Returns the next packet id, or `None` while the oldest delivery still uses it.
    pub(super) fn next_id(&mut self) -> Option<u16> {
        let next = match self.last_id.wrapping_add(1) {
            0 => 1,
            id => id,
        };
        if self.entries.front().is_some_and(|oldest| oldest.id == next) {
            return None;
        }
        self.last_id = next;
        Some(next)
    }

    /// Returns the index of the delivery with the packet id `id`.
    pub(super) fn position(&self, id: u16) -> Option<usize> {
        let first = self.entries.front()?.id;
        if first == id {
            return Some(0);
        }
        self.entries.binary_search_by_key(&id.wrapping_sub(first), |e| e.id.wrapping_sub(first)).ok()
    }

    pub(super) fn push(&mut self, entry: QueueEntry, now: u64) {
        if self.entries.is_empty() {
            self.note_progress(now);
        }
        self.bytes += entry.size();
        self.entries.push_back(entry);
    }

    /// Records that the client acknowledges messages, or has connected.
    pub(super) fn note_progress(&mut self, now: u64) {
        self.moved = now as u32;
    }

    /// Returns whether messages are in flight and none was acknowledged for [`STALLED_MS`].
    pub(super) fn is_stalled(&self, now: u64) -> bool {
        !self.entries.is_empty() && (now as u32).wrapping_sub(self.moved) > STALLED_MS
    }

    /// Restores a delivery that was in flight when the broker stopped. Packet ids continue after it.
    pub(super) fn restore(&mut self, entry: QueueEntry) {
        self.last_id = entry.id;
        self.push(entry, 0);
    }

    /// Removes the delivery at `index`, which must exist.
    pub(super) fn remove(&mut self, index: usize) -> QueueEntry {
        let entry = self.entries.remove(index).expect("the index of a delivery in flight");
        self.bytes -= entry.size();
        entry
    }

    pub(super) fn take(&mut self) -> VecDeque<QueueEntry> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }

    pub(super) fn release_memory(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Returns whether another message may be sent on `link`: the window and the limit in bytes are not used up. The
    /// last message may exceed the limit in bytes.
    pub(super) fn has_room(&self, link: &Link, limits: &Limits) -> bool {
        self.entries.len() < link.window() && self.bytes < limits.in_flight_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, QoS};
    use crate::session::Delivery;

    fn entry(id: u16) -> QueueEntry {
        let message = Message { payload: vec![0; 10].into(), ..Message::default() };
        let mut kept = None;
        let mut delivery = Delivery {
            message: &message,
            kept: &mut kept,
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers: &[],
            shared: None,
        };
        QueueEntry { id, ..delivery.entry(1) }
    }

    #[test]
    fn packet_ids_wrap_around_and_are_never_used_twice() {
        let mut in_flight = InFlight { last_id: 65_533, ..InFlight::default() };
        for expected in [65_534, 65_535, 1, 2] {
            let id = in_flight.next_id().unwrap();
            assert_eq!(id, expected);
            in_flight.push(entry(id), 0);
        }
        for (index, id) in [65_534, 65_535, 1, 2].into_iter().enumerate() {
            assert_eq!(in_flight.position(id), Some(index));
        }
        assert_eq!(in_flight.position(3), None);
        assert_eq!(in_flight.position(65_533), None);
        in_flight.last_id = 65_533;
        assert_eq!(in_flight.next_id(), None, "the oldest still holds 65,534");
        in_flight.remove(0);
        assert_eq!(in_flight.next_id(), Some(65_534));
    }

    #[test]
    fn a_client_is_stalled_after_a_second_without_an_acknowledgement() {
        // Times above 32 bits of milliseconds, and at their overflow.
        for start in [1_800_000_000_000, u64::from(u32::MAX) - 500] {
            let mut in_flight = InFlight::default();
            assert!(!in_flight.is_stalled(start), "nothing is in flight");
            in_flight.push(entry(1), start);
            in_flight.push(entry(2), start + 900);
            assert!(!in_flight.is_stalled(start + 1_000));
            assert!(in_flight.is_stalled(start + 1_001), "counted from the first");
            in_flight.remove(0);
            in_flight.note_progress(start + 1_500);
            assert!(!in_flight.is_stalled(start + 2_500));
            assert!(in_flight.is_stalled(start + 2_501));
            in_flight.remove(0);
            assert!(!in_flight.is_stalled(start + 9_000), "nothing is left");
            in_flight.push(entry(3), start + 9_000);
            assert!(!in_flight.is_stalled(start + 9_500));
        }
    }

    #[test]
    fn removed_deliveries_free_all_their_bytes() {
        let mut in_flight = InFlight::default();
        for id in 1..=3 {
            in_flight.restore(entry(id));
        }
        let one = entry(1).size();
        assert!(
            one > 10 + size_of::<QueueEntry>() + size_of::<Message>(),
            "what it takes beside its payload counts"
        );
        assert_eq!(in_flight.bytes, 3 * one);
        in_flight.remove(1);
        assert_eq!(in_flight.bytes, 2 * one);
        assert_eq!(in_flight.take().len(), 2);
        assert_eq!((in_flight.bytes, in_flight.len()), (0, 0));
    }
}
