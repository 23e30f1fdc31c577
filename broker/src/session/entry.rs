//! One message for one session, and the packet ids of those in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use bytestring::ByteString;

use crate::message::{Message, QoS};
use crate::retained::Cursor;
use crate::store::{self, Phase, Ticket};

/// A message for this session.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) message: Arc<Message>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Vec<u32>,
    pub(super) shared: Option<ByteString>,
    pub(super) id: u16,
    pub(super) phase: Phase,
    pub(super) dup: bool,
    /// Given to the store; until then (`PENDING`) it may not be sent.
    pub(super) ticket: Ticket,
}

/// The store has not been told of it yet.
pub(super) const PENDING: Ticket = Ticket::MAX;

/// What may be sent only once it is on disk.
#[derive(Debug)]
pub(super) enum Gated {
    Frame(Vec<u8>),
    Publish(u16),
    Release(u16),
}

/// Retained messages being read for a subscription.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) filter: ByteString,
    pub(super) qos: QoS,
    pub(super) identifier: Option<u32>,
    pub(super) cursor: Cursor,
}

/// One message on its way to one session.
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) message: &'a Message,
    /// The same in memory of its own, made when the first session has to keep it.
    pub(crate) kept: &'a mut Option<Arc<Message>>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: &'a [u32],
    pub(crate) shared: Option<&'a ByteString>,
}

impl Delivery<'_> {
    fn keep(&mut self) -> Arc<Message> {
        self.kept.get_or_insert_with(|| Arc::new(self.message.detach())).clone()
    }
}

impl Delivery<'_> {
    pub(super) fn entry(&mut self, seq: u64) -> Entry {
        Entry {
            seq,
            message: self.keep(),
            qos: self.qos,
            retain: self.retain,
            identifiers: self.identifiers.to_vec(),
            shared: self.shared.cloned(),
            id: 0,
            phase: Phase::Queued,
            dup: false,
            ticket: 0,
        }
    }
}

impl Entry {
    pub(super) fn record(&self) -> store::EntryRecord {
        store::EntryRecord {
            message: self.message.clone(),
            qos: self.qos,
            retain: self.retain,
            identifiers: self.identifiers.clone(),
            shared: self.shared.clone(),
            packet_id: self.id,
            phase: self.phase,
        }
    }
}

/// The next packet id; none while the oldest delivery still holds it.
///
/// Ids rise with the order of sending, so that those in flight are sorted, counted from the oldest.
pub(super) fn next_id(last: &mut u16, in_flight: &VecDeque<Entry>) -> Option<u16> {
    let next = match last.wrapping_add(1) {
        0 => 1,
        id => id,
    };
    if in_flight.front().is_some_and(|oldest| oldest.id == next) {
        return None;
    }
    *last = next;
    Some(next)
}

pub(super) fn position(in_flight: &VecDeque<Entry>, id: u16) -> Option<usize> {
    let first = in_flight.front()?.id;
    if first == id {
        return Some(0);
    }
    in_flight.binary_search_by_key(&id.wrapping_sub(first), |e| e.id.wrapping_sub(first)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u16) -> Entry {
        let message = Message::default();
        let mut kept = None;
        let mut delivery = Delivery {
            message: &message,
            kept: &mut kept,
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers: &[],
            shared: None,
        };
        Entry { id, ..delivery.entry(1) }
    }

    #[test]
    fn packet_ids_wrap_round_and_never_meet_the_oldest() {
        let mut last = 65_533;
        let mut in_flight = VecDeque::new();
        for expected in [65_534, 65_535, 1, 2] {
            let id = next_id(&mut last, &in_flight).unwrap();
            assert_eq!(id, expected);
            in_flight.push_back(entry(id));
        }
        for (index, id) in [65_534, 65_535, 1, 2].into_iter().enumerate() {
            assert_eq!(position(&in_flight, id), Some(index));
        }
        assert_eq!(position(&in_flight, 3), None);
        assert_eq!(position(&in_flight, 65_533), None);
        last = 65_533;
        assert_eq!(next_id(&mut last, &in_flight), None, "the oldest still holds 65,534");
        in_flight.pop_front();
        assert_eq!(next_id(&mut last, &in_flight), Some(65_534));
    }
}
