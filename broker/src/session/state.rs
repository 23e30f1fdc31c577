//! A session's queues and what they hold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;

use super::entry::{Entry, Gated, position};
use super::sending::append_entry;
use super::{Scratch, State};
use crate::config::Limits;
use crate::counters::Counters;
use crate::link::{Appended, Link};
use crate::log::ClientText;
use crate::message::{Message, QoS};
use crate::shared::Shared;
use crate::store::{self, Op, Phase, Ticket};

/// What a session has to take from its queue to earn [`WAIT_PER_UNIT`]: a message, or this many bytes of one.
const WAIT_UNIT_BYTES: usize = 64 << 10;
/// How long publishers may be held back for each unit that a session takes. A hundred messages, or 6 MB, a second are
/// waited for without end; a session that takes a message a second holds its publishers back for a hundredth of the
/// time.
const WAIT_PER_UNIT: Duration = Duration::from_millis(10);

impl State {
    /// Whether another message at QoS 1 or 2 would be one too many.
    pub(super) fn full(&self, limits: &Limits) -> bool {
        self.queue.len() >= limits.queue_messages || self.queue_bytes >= limits.queue_bytes
    }

    /// The queue was full, and a message for it was dropped or refused: logged for the first one, with what the session holds.
    pub(super) fn dropped(&mut self, client: &str) {
        self.overflow += 1;
        if self.overflow > 1 {
            return;
        }
        tracing::warn!(
            client = %ClientText(client),
            user = %ClientText(self.principal.user.as_deref().unwrap_or("-")),
            connected = self.link.is_some(),
            messages = self.queue.len(),
            bytes = self.queue_bytes,
            "queue full: messages for this session are dropped or refused until it has taken half of them"
        );
    }

    /// Messages have left the queue. The end of an overflow is noted at half of the limits, so that a session which
    /// takes a message now and then does not fill the log.
    pub(super) fn drained(&mut self, client: &str, limits: &Limits) {
        if self.queue.len() <= limits.queue_messages / 2
            && self.queue_bytes <= limits.queue_bytes / 2
            && self.overflow > 0
        {
            let dropped = std::mem::take(&mut self.overflow);
            tracing::info!(client = %ClientText(client), dropped, "queue has room again");
        }
    }

    /// The client has taken `entry`: publishers may be held back a little longer for it.
    pub(super) fn earn_wait(&mut self, entry: &Entry, limits: &Limits) {
        let units = 1 + entry.message.size() / WAIT_UNIT_BYTES;
        let earned = WAIT_PER_UNIT.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX));
        self.wait_credit = self.wait_credit.saturating_add(earned).min(limits.publish_wait);
    }

    /// Whether a message needs not wait for others, nor for the window.
    pub(super) fn may_send(&self, qos: QoS, link: &Link) -> bool {
        match qos {
            QoS::AtMostOnce => self.queue_qos0.is_empty(),
            _ => self.queue.is_empty() && self.in_flight.len() < link.window(),
        }
    }

    /// Whether what belongs to `ticket` has to wait. Being on disk is not enough: what was to be sent before it
    /// may still stand in the line, for the disk may catch up between two looks at it \[MQTT-4.6.0-6].
    pub(super) fn must_gate(&self, ticket: Ticket, durable: Ticket) -> bool {
        !self.gated.is_empty() || ticket > durable
    }

    /// Whether nothing waits: for the window, for room, for the disk, or to be read.
    pub(super) fn has_nothing_to_send(&self) -> bool {
        self.queue.is_empty()
            && self.queue_qos0.is_empty()
            && self.gated.is_empty()
            && self.resend.is_empty()
            && self.reads.is_empty()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.queue_bytes += entry.message.size();
        self.queue.push_back(entry);
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        self.queue_bytes -= entry.message.size();
        release_memory(&mut self.queue);
        Some(entry)
    }

    pub(super) fn pop_qos0(&mut self) -> Option<Entry> {
        let entry = self.queue_qos0.pop_front()?;
        self.queue_qos0_bytes -= entry.message.size();
        release_memory(&mut self.queue_qos0);
        Some(entry)
    }

    /// Takes the first entry away undelivered.
    pub(super) fn drop_front(&mut self, key: u64, scratch: &mut Scratch) {
        if let Some(entry) = self.pop()
            && self.durable
        {
            scratch.ops.push(Op::Dequeue { key, seq: entry.seq });
        }
    }

    /// Queues; at QoS 0 the oldest make room for the newest.
    pub(super) fn enqueue(&mut self, entry: Entry, shared: &Shared) {
        if entry.qos != QoS::AtMostOnce {
            return self.push(entry);
        }
        let limits = &shared.config.limits;
        let size = entry.message.size();
        while self.queue_qos0_bytes + size > limits.queue_qos0_bytes
            || self.queue_qos0.len() >= limits.queue_messages
        {
            Counters::add(&shared.counters.dropped_qos0, 1);
            if self.pop_qos0().is_none() {
                // Above the limit all by itself.
                return;
            }
        }
        self.queue_qos0_bytes += size;
        self.queue_qos0.push_back(entry);
    }

    pub(super) fn release_gated(
        &mut self,
        key: u64,
        shared: &Shared,
        link: &Arc<Link>,
        scratch: &mut Scratch,
    ) {
        if self.gated.is_empty() {
            return;
        }
        let (durable, now) = (shared.durable(), scratch.now);
        while let Some((ticket, _)) = self.gated.front()
            && *ticket <= durable
        {
            match self.gated.pop_front().expect("looked at just before").1 {
                Gated::Frame(frame) => link.append(&frame, &mut scratch.dirty),
                Gated::Release(id) => link.append_release(id, &mut scratch.dirty),
                Gated::Publish(id) => {
                    if let Some(index) = position(&self.in_flight, id)
                        && append_entry(link, &self.in_flight[index], now, scratch) == Appended::TooLarge
                    {
                        let gone = self.in_flight.remove(index).expect("found just before");
                        shared.put([Op::Dequeue { key, seq: gone.seq }], None);
                    }
                }
            }
        }
    }

    /// The connection is gone: what was to be sent on it alone is forgotten.
    pub(crate) fn disconnect(&mut self) {
        self.link = None;
        self.gated.clear();
        self.reads.clear();
        self.resend.clear();
        self.queue_qos0 = VecDeque::new();
        self.queue_qos0_bytes = 0;
        self.in_flight.shrink_to_fit();
        self.queue.shrink_to_fit();
    }

    /// Takes out what came by a shared subscription and was not acknowledged, for the group's other members;
    /// without what was being sent at QoS 2, which no other may get \[MQTT-4.8.2-5].
    pub(crate) fn take_shared(&mut self) -> Vec<(ByteString, Arc<Message>)> {
        let unfinished = self.in_flight.drain(..).filter(|e| e.qos == QoS::AtLeastOnce);
        unfinished
            .chain(self.queue.drain(..))
            .filter_map(|e| e.shared.map(|filter| (filter, e.message)))
            .collect()
    }

    /// Puts back what the store has kept.
    pub(crate) fn restore(&mut self, queue: Vec<(u64, store::EntryRecord)>, received: Vec<u16>) {
        self.received = received.into_iter().collect();
        for (seq, record) in queue {
            self.last_seq = self.last_seq.max(seq);
            let entry = Entry {
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
                self.last_id = entry.id;
                self.in_flight.push_back(entry);
            }
        }
    }
}

/// An empty queue needs no memory.
fn release_memory(queue: &mut VecDeque<Entry>) {
    if queue.is_empty() && queue.capacity() > 64 {
        *queue = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_earned_by_taking_messages_or_bytes() {
        let limits = Limits { publish_wait: Duration::from_millis(35), ..Limits::default() };
        let entry = |bytes: usize| {
            let message = Message { payload: vec![0; bytes].into(), ..Message::default() };
            let delivery = super::super::Delivery {
                message: &message,
                kept: &mut None,
                qos: QoS::AtLeastOnce,
                retain: false,
                identifiers: &[],
                shared: None,
            };
            { delivery }.entry(1)
        };
        let mut state = State::default();
        state.earn_wait(&entry(0), &limits);
        assert_eq!(state.wait_credit, Duration::from_millis(10));
        state.earn_wait(&entry(64 << 10), &limits);
        assert_eq!(state.wait_credit, Duration::from_millis(30));
        state.earn_wait(&entry(0), &limits);
        assert_eq!(state.wait_credit, limits.publish_wait, "never more than one publish may wait");
    }

    /// A QoS 2 message overtook the one before it: that one waited for the disk, and the disk had caught up by
    /// the time this one was looked at.
    #[test]
    fn what_is_on_disk_waits_behind_what_was_not() {
        let mut state = State::default();
        assert!(!state.must_gate(0, 0), "nothing to wait for");
        assert!(!state.must_gate(7, 7));
        assert!(state.must_gate(8, 7));
        state.gated.push_back((8, Gated::Publish(1)));
        assert!(state.must_gate(9, 9), "packet 1 has not been released yet");
        assert!(state.must_gate(0, 9), "an acknowledgement keeps its place too");
        state.gated.clear();
        assert!(!state.must_gate(9, 9));
    }
}
