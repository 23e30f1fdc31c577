//! Reduction of operations to the rows they change, so that operations that cancel out are never written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytestring::ByteString;

use super::{EntryRecord, Op, Phase, SessionRecord, SubscriptionRecord};
use crate::message::Message;

/// Rows changed by a group of operations, in key order: neighbouring rows share pages.
///
/// Applying a batch is idempotent, which makes a retry safe if it is not known whether a failed commit reached the
/// disk.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) retained: BTreeMap<ByteString, Option<Arc<Message>>>,
    /// Sessions whose rows are deleted before the other changes are applied.
    pub(super) forgotten: BTreeSet<u64>,
    /// Deleted sessions that leave a will or messages to others, which must be on disk before the deletion.
    bound: BTreeSet<u64>,
    pub(super) sessions: BTreeMap<u64, SessionRecord>,
    pub(super) subscriptions: BTreeMap<(u64, ByteString), Option<SubscriptionRecord>>,
    pub(super) queue: BTreeMap<(u64, u64), QueueChange>,
    /// Whether each packet id is added or deleted.
    pub(super) received: BTreeMap<(u64, u16), bool>,
}

/// Change of a queue row.
#[derive(Debug)]
pub(super) enum QueueChange {
    Put {
        entry: EntryRecord,
        /// No row with this key is on disk.
        fresh: bool,
    },
    Moved {
        packet_id: u16,
        phase: Phase,
    },
    Gone,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.retained.is_empty()
            && self.forgotten.is_empty()
            && self.sessions.is_empty()
            && self.subscriptions.is_empty()
            && self.queue.is_empty()
            && self.received.is_empty()
    }

    pub(super) fn add(&mut self, op: Op) {
        match op {
            Op::Retain { message } => {
                self.retained.insert(message.topic.clone(), Some(message));
            }
            Op::Unretain { topic } => {
                self.retained.insert(topic, None);
            }
            Op::SaveSession { key, record } => {
                self.sessions.insert(key, record);
            }
            Op::DeleteSession { key, leaves } => {
                self.forget(key);
                if leaves {
                    self.bound.insert(key);
                }
            }
            Op::Subscribe { key, filter, options } => {
                self.subscriptions.insert((key, filter), Some(options));
            }
            Op::Unsubscribe { key, filter } => {
                self.subscriptions.insert((key, filter), None);
            }
            Op::Enqueue { key, seq, entry } => {
                // Sequence numbers are never reused, so a key that is new in this batch is not on disk.
                let fresh = !self.queue.contains_key(&(key, seq));
                self.queue.insert((key, seq), QueueChange::Put { entry, fresh });
            }
            Op::Phase { key, seq, packet_id, phase } => {
                let row = self.queue.entry((key, seq)).or_insert(QueueChange::Moved { packet_id, phase });
                match row {
                    QueueChange::Put { entry, .. } => {
                        entry.packet_id = packet_id;
                        entry.phase = phase;
                    }
                    QueueChange::Moved { .. } => *row = QueueChange::Moved { packet_id, phase },
                    QueueChange::Gone => {}
                }
            }
            Op::Dequeue { key, seq } => {
                if let Some(QueueChange::Put { fresh: true, .. }) = self.queue.get(&(key, seq)) {
                    self.queue.remove(&(key, seq));
                } else {
                    self.queue.insert((key, seq), QueueChange::Gone);
                }
            }
            Op::Received { key, packet_id } => {
                self.received.insert((key, packet_id), true);
            }
            // Not cancelled against a `Received` of the same batch: the client may have sent the packet twice, and an
            // earlier batch may have stored its id already.
            Op::Released { key, packet_id } => {
                self.received.insert((key, packet_id), false);
            }
        }
    }

    /// Records that an attempt to write the batch has failed: any of its rows may be on disk, so that a later removal
    /// must be written.
    pub(super) fn attempted(&mut self) {
        for row in self.queue.values_mut() {
            if let QueueChange::Put { fresh, .. } = row {
                *fresh = false;
            }
        }
    }

    /// Returns whether the batch deletes anything.
    pub(super) fn deletes(&self) -> bool {
        !self.forgotten.is_empty()
            || self.retained.values().any(Option::is_none)
            || self.subscriptions.values().any(Option::is_none)
            || self.queue.values().any(|row| matches!(row, QueueChange::Gone))
            || self.received.values().any(|keep| !keep)
    }

    /// Removes at most `most` deletions from the batch, and returns them as a batch. They may be written before the
    /// rest, because no addition needs a deleted row. The exception are sessions that leave something to others, which
    /// are not included.
    pub(super) fn take_deletions(&mut self, most: usize) -> Self {
        let mut part = Self::default();
        let mut left = most;
        let mut one = |deletion: bool| {
            let taken = deletion && left > 0;
            left -= usize::from(taken);
            taken
        };
        let bound = &self.bound;
        part.forgotten = self.forgotten.extract_if(.., |key| one(!bound.contains(key))).collect();
        part.queue = self.queue.extract_if(.., |_, row| one(matches!(row, QueueChange::Gone))).collect();
        part.retained = self.retained.extract_if(.., |_, message| one(message.is_none())).collect();
        part.subscriptions = self.subscriptions.extract_if(.., |_, record| one(record.is_none())).collect();
        part.received = self.received.extract_if(.., |_, keep| one(!*keep)).collect();
        part
    }

    /// Returns the deletions from [`take_deletions`](Self::take_deletions) to the batch.
    pub(super) fn put_back(&mut self, part: Self) {
        self.forgotten.extend(part.forgotten);
        self.queue.extend(part.queue);
        self.retained.extend(part.retained);
        self.subscriptions.extend(part.subscriptions);
        self.received.extend(part.received);
    }

    fn forget(&mut self, key: u64) {
        self.sessions.remove(&key);
        while let Some((row, _)) = self.queue.range((key, 0)..=(key, u64::MAX)).next() {
            let row = *row;
            self.queue.remove(&row);
        }
        while let Some((row, _)) = self.received.range((key, 0)..=(key, u16::MAX)).next() {
            let row = *row;
            self.received.remove(&row);
        }
        let from = (key, ByteString::new());
        while let Some((row, _)) = self.subscriptions.range(&from..).next().filter(|(row, _)| row.0 == key) {
            let row = row.clone();
            self.subscriptions.remove(&row);
        }
        self.forgotten.insert(key);
    }
}
