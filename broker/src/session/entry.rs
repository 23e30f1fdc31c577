//! Queue entries: a message for one session.

use std::sync::Arc;

use bytestring::ByteString;

use crate::message::{Message, QoS};
use crate::store::{self, Phase, Ticket};

/// A message queued for, or in flight to, one session.
#[derive(Debug)]
pub(super) struct QueueEntry {
    pub(super) seq: u64,
    pub(super) message: Arc<Message>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Vec<u32>,
    pub(super) shared: Option<ByteString>,
    pub(super) id: u16,
    pub(super) phase: Phase,
    pub(super) dup: bool,
    /// Ticket of the store operation that wrote the entry. The entry must not be sent while it is [`PENDING`].
    pub(super) ticket: Ticket,
}

/// Ticket of an entry that was not passed to the store yet.
pub(super) const PENDING: Ticket = Ticket::MAX;

/// Delivery of one message to one session.
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) message: &'a Message,
    /// Copy of the message in its own memory, made when the first session has to store it.
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
    pub(super) fn entry(&mut self, seq: u64) -> QueueEntry {
        QueueEntry {
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

impl QueueEntry {
    /// Returns the approximate size in a queue or in flight, in bytes, as if no other session had the same message.
    pub(super) fn size(&self) -> usize {
        // The spare capacity of a short queue is half of its contents on average.
        const PLACE: usize = size_of::<QueueEntry>() * 3 / 2;
        let identifiers = self.identifiers.len() * size_of::<u32>();
        PLACE + identifiers + self.message.size()
    }

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
