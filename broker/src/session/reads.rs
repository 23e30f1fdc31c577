//! Retained messages that are being read for a session's subscriptions: a part of each filter in turn.

use bytestring::ByteString;
use indexmap::IndexMap;

use super::State;
use crate::message::QoS;
use crate::retained::Cursor;
use crate::store::{Op, SubscriptionRecord};

/// How far one filter has been read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) qos: QoS,
    pub(super) identifier: Option<u32>,
    pub(super) cursor: Cursor,
}

/// The filters that are being read. Each operation costs the same however many there are.
#[derive(Debug, Default)]
pub(super) struct Reads(Option<Box<Round>>);

#[derive(Debug, Default)]
struct Round {
    by_filter: IndexMap<ByteString, Read, hashbrown::DefaultHashBuilder>,
    next: usize,
}

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Begins to read a filter, from its beginning if it is being read already.
    pub(super) fn begin(&mut self, filter: ByteString, read: Read) {
        self.0.get_or_insert_default().by_filter.insert(filter, read);
    }

    pub(super) fn end(&mut self, filter: &ByteString) {
        if let Some(round) = &mut self.0 {
            round.by_filter.swap_remove(filter);
        }
        self.release_memory();
    }

    /// Ends those at QoS 0: nothing at QoS 0 is kept for a client that is away.
    pub(super) fn keep_acknowledged(&mut self) {
        if let Some(round) = &mut self.0 {
            round.by_filter.retain(|_, read| read.qos != QoS::AtMostOnce);
            round.by_filter.shrink_to_fit();
        }
        self.release_memory();
    }

    /// The filter whose turn it is.
    pub(super) fn current(&mut self) -> Option<(&ByteString, &mut Read)> {
        let round = self.0.as_mut()?;
        if round.next >= round.by_filter.len() {
            round.next = 0;
        }
        round.by_filter.get_index_mut(round.next)
    }

    /// Takes the filter whose turn it was away, if it has been read to its end; the next one's turn begins.
    pub(super) fn advance(&mut self, done: bool) {
        let Some(round) = &mut self.0 else { return };
        if done {
            round.by_filter.swap_remove_index(round.next);
        } else {
            round.next += 1;
        }
        self.release_memory();
    }

    fn get(&self, filter: &ByteString) -> Option<&Read> {
        self.0.as_ref()?.by_filter.get(filter)
    }

    fn release_memory(&mut self) {
        if self.0.as_ref().is_some_and(|round| round.by_filter.is_empty()) {
            self.0 = None;
        }
    }
}

impl State {
    /// Unsubscribes from `filter`: nothing more of it is read.
    pub(crate) fn end_read(&mut self, filter: &ByteString) {
        self.reads.end(filter);
    }

    /// A read that was begun before the broker was started goes on from where it was.
    pub(crate) fn restore_read(&mut self, filter: ByteString, record: &SubscriptionRecord) {
        if let Some(key) = &record.reading {
            let cursor = Cursor::at(key);
            self.reads.begin(filter, Read { qos: record.qos, identifier: record.identifier, cursor });
        }
    }

    /// What the store is to keep of a subscription, with how far its retained messages have been read. `begins`: they
    /// are about to be read from the first one on.
    pub(crate) fn subscription_op(&self, key: u64, filter: &ByteString, begins: bool) -> Option<Op> {
        let (options, identifier) = self.subscriptions.get(filter)?;
        let reading = if begins {
            Some(Cursor::default())
        } else {
            let read = self.reads.get(filter).filter(|read| read.qos != QoS::AtMostOnce);
            read.map(|read| read.cursor.clone())
        };
        let options = SubscriptionRecord {
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling as u8,
            identifier: *identifier,
            reading: reading.filter(|_| options.qos != QoS::AtMostOnce).map(Cursor::into_key),
        };
        Some(Op::Subscribe { key, filter: filter.clone(), options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read() -> Read {
        Read { qos: QoS::AtLeastOnce, identifier: None, cursor: Cursor::default() }
    }

    #[test]
    fn every_filter_has_its_turn_and_none_is_left_out_when_another_ends() {
        let mut reads = Reads::default();
        for filter in ["a", "b", "c"] {
            reads.begin(filter.into(), read());
        }
        let mut turns = Vec::new();
        for turn in 0..7 {
            let (filter, _) = reads.current().expect("some are left");
            turns.push(filter.to_string());
            reads.advance(turn == 3);
        }
        assert_eq!(turns, ["a", "b", "c", "a", "c", "b", "c"]);
        reads.end(&"b".into());
        assert_eq!(reads.current().expect("one is left").0, "c");
        reads.advance(true);
        assert!(reads.current().is_none() && reads.is_empty());
    }
}
