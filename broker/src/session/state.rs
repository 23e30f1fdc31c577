//! Queues of a session and their contents.

use std::sync::Arc;

use bytestring::ByteString;

use super::entry::QueueEntry;
use super::freeing;
use super::gated::Gated;
use super::queue::Queue;
use super::sending::append_entry;
use super::{Scratch, SessionState};
use crate::bus::BusRoots;
use crate::codec::Acknowledge;
use crate::config::Limits;
use crate::counters::Counters;
use crate::link::{Appended, Link};
use crate::message::{Message, QoS};
use crate::shared::BrokerState;
use crate::store::{self, Op, Phase, Ticket};

impl SessionState {
    /// Returns whether a message may be sent at once: no earlier message waits, and the in-flight window has room.
    pub(super) fn may_send(&self, qos: QoS, link: &Link, limits: &Limits) -> bool {
        match qos {
            QoS::AtMostOnce => self.queue_qos0.is_empty(),
            _ => self.queue.is_empty() && self.in_flight.has_room(link, limits) && !self.in_flight.capped,
        }
    }

    /// Returns whether a packet that depends on `ticket` has to wait. Even if the ticket is on disk, the packet waits
    /// for earlier packets in the gated queue, because the disk may catch up before the queue is processed
    /// \[MQTT-4.6.0-6].
    pub(super) fn must_gate(&self, ticket: Ticket, durable: Ticket) -> bool {
        !self.gated.is_empty() || ticket > durable
    }

    /// Returns whether acknowledgements wait for the disk for messages that would be refused at once if their
    /// publisher sent them again. At QoS 2, messages are refused only if the session, which contains the packet ids,
    /// ends with the connection.
    pub(crate) fn has_gated_answers(&self) -> bool {
        self.gated.frames().any(|frame| {
            let is = |kind: Acknowledge| frame.first() == Some(&(kind as u8));
            is(Acknowledge::PubAck) || !self.durable && is(Acknowledge::PubRec)
        })
    }

    /// Returns whether nothing waits for the window, for room in the outbox, for the disk, or to be read.
    pub(super) fn has_nothing_to_send(&self) -> bool {
        self.queue.is_empty()
            && self.queue_qos0.is_empty()
            && self.gated.is_empty()
            && self.resend.is_empty()
            && self.reads.is_empty()
    }

    pub(super) fn push(&mut self, entry: QueueEntry) {
        self.queue_bytes += entry.size();
        if let Some(expires) = entry.message.expires {
            self.note_expiry(expires);
        }
        self.queue.push_back(entry);
    }

    pub(super) fn pop(&mut self) -> Option<QueueEntry> {
        let entry = self.queue.pop_front()?;
        self.queue_bytes -= entry.size();
        Some(entry)
    }

    pub(super) fn pop_newest(&mut self) -> Option<QueueEntry> {
        let entry = self.queue.pop_back()?;
        self.queue_bytes -= entry.size();
        Some(entry)
    }

    pub(super) fn pop_qos0(&mut self) -> Option<QueueEntry> {
        let entry = self.queue_qos0.pop_front()?;
        self.queue_qos0_bytes -= entry.size();
        Some(entry)
    }

    /// Removes the first entry without delivering it.
    pub(super) fn drop_front(&mut self, key: u64, scratch: &mut Scratch) {
        if let Some(entry) = self.pop()
            && self.durable
        {
            scratch.ops.push(Op::Dequeue { key, seq: entry.seq });
        }
    }

    /// Queues an entry; at QoS 0 the oldest entries are dropped if the queue is full.
    pub(super) fn enqueue(&mut self, entry: QueueEntry, shared: &BrokerState) {
        if entry.qos != QoS::AtMostOnce {
            return self.push(entry);
        }
        let limits = shared.limits();
        let size = entry.size();
        while self.queue_qos0_bytes + size > limits.queue_qos0_bytes
            || self.queue_qos0.len() >= limits.queue_messages
        {
            Counters::add(&shared.counters.dropped_qos0, 1);
            if self.pop_qos0().is_none() {
                // This message alone exceeds the limit.
                return;
            }
        }
        self.queue_qos0_bytes += size;
        self.queue_qos0.push_back(entry);
    }

    pub(super) fn release_gated(
        &mut self,
        key: u64,
        shared: &BrokerState,
        link: &Arc<Link>,
        scratch: &mut Scratch,
    ) {
        if self.gated.is_empty() {
            return;
        }
        let (durable, now) = (shared.durable(), scratch.now);
        while let Some(gated) = self.gated.pop_durable(durable) {
            match gated {
                Gated::Frame(frame) => link.append(&frame, &mut scratch.dirty),
                Gated::Release(id) => link.append_release(id, &mut scratch.dirty),
                Gated::Publish(id) => {
                    if let Some(index) = self.in_flight.position(id)
                        && append_entry(link, self.in_flight.get(index), now, scratch) == Appended::TooLarge
                    {
                        let gone = self.in_flight.remove(index);
                        shared.put([Op::Dequeue { key, seq: gone.seq }], None);
                    }
                }
            }
        }
    }

    /// Discards the state of the ended connection. Reads of retained messages at QoS 1 and 2 continue on the next
    /// connection.
    pub(crate) fn disconnect(&mut self) {
        self.link = None;
        self.gated.clear();
        self.reads.keep_acknowledged();
        self.resend.clear();
        freeing::free(std::mem::take(&mut self.queue_qos0));
        self.queue_qos0_bytes = 0;
        self.in_flight.release_memory();
    }

    /// Removes the unacknowledged messages of shared subscriptions and returns them, for the other members of the
    /// groups. Excluded are messages being sent at QoS 2, which no other client may get \[MQTT-4.8.2-5], and requests
    /// on `buses` that were being sent: they may have been executed already, and must not be executed twice.
    pub(crate) fn take_shared(&mut self, buses: &BusRoots) -> Vec<(ByteString, Arc<Message>)> {
        let in_flight = Queue::from(self.in_flight.take());
        let queue = std::mem::take(&mut self.queue);
        let is_request = |topic: &str| buses.topic(topic).is_some_and(|topic| topic.is_request());
        let unfinished = in_flight.iter().filter(|entry| {
            entry.qos == QoS::AtLeastOnce && (entry.shared.is_none() || !is_request(&entry.message.topic))
        });
        let left = unfinished
            .chain(queue.iter())
            .filter_map(|e| Some((e.shared.clone()?, e.message.clone())))
            .collect();
        freeing::free(in_flight);
        freeing::free(queue);
        left
    }

    /// Restores the queue and the received packet ids from the store.
    pub(crate) fn restore(&mut self, queue: Vec<(u64, store::EntryRecord)>, received: Vec<u16>) {
        self.received = received.into_iter().collect();
        for (seq, record) in queue {
            self.last_seq = self.last_seq.max(seq);
            let entry = QueueEntry {
                seq,
                message: record.message,
                qos: record.qos,
                retain: record.retain,
                identifiers: record.identifiers,
                shared: record.shared,
                id: record.packet_id,
                phase: record.phase,
                dup: record.phase != Phase::Queued,
                ticket: 0,
            };
            if entry.phase == Phase::Queued {
                self.push(entry);
            } else {
                self.in_flight.restore(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once, a QoS 2 message overtook the one before it: the earlier one waited for the disk, and the disk had caught
    /// up when the later one was checked.
    #[test]
    fn packets_wait_behind_gated_packets_even_if_their_ticket_is_on_disk() {
        let mut state = SessionState::default();
        assert!(!state.must_gate(0, 0), "nothing to wait for");
        assert!(!state.must_gate(7, 7));
        assert!(state.must_gate(8, 7));
        state.gated.push(8, Gated::Publish(1));
        assert!(state.must_gate(9, 9), "packet 1 has not been released yet");
        assert!(state.must_gate(0, 9), "an acknowledgement keeps its place too");
        state.gated.clear();
        assert!(!state.must_gate(9, 9));
    }
}
