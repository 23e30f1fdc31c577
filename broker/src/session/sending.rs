//! Sending: moves queued messages, messages in flight since an earlier connection, and retained messages to the
//! outbox.

use std::sync::Arc;

use bytestring::ByteString;

use super::entry::{PENDING, QueueEntry};
use super::gated::Gated;
use super::reads::{FoundMessage, ReadTurn};
use super::{Scratch, Session, SessionState};
use crate::codec::Outgoing;
use crate::counters::Counters;
use crate::link::{Appended, Link, Refill};
use crate::message::QoS;
use crate::retained::ReadLimits;
use crate::store::{Op, Phase};

/// Maximum number of retained messages visited per lock, which bounds how long a publisher waits for a reader.
const STEPS_PER_LOCK: usize = 64;
/// Maximum number of retained messages delivered per lock.
const MESSAGES_PER_LOCK: usize = 64;

impl Refill for Session {
    fn client_id(&self) -> &ByteString {
        &self.client_id
    }

    fn refill(self: Arc<Self>, link: &Arc<Link>, now: u64) {
        let mut scratch = Scratch::at(now);
        {
            let mut state = self.state.lock();
            if state.link.as_ref().is_some_and(|l| Arc::ptr_eq(l, link)) {
                self.pump(&mut state, link, &mut scratch, ReadTurn::Now);
            }
        }
        scratch.settle(&link.shared);
        // The caller writes this link itself, and keeps its outbox marked as busy.
        crate::link::flush_all(&mut scratch.dirty);
    }
}

impl Session {
    /// Moves waiting messages to the outbox as long as it has room.
    pub(super) fn pump(
        self: &Arc<Self>,
        state: &mut SessionState,
        link: &Arc<Link>,
        scratch: &mut Scratch,
        turn: ReadTurn,
    ) {
        if state.has_nothing_to_send() {
            return;
        }
        let shared = &link.shared;
        state.count_in_flight(&self.client_id, shared);
        state.release_gated(self.key, shared, link, scratch);
        let was_full = state.full(shared);
        let mut popped = false;
        let now = scratch.now;
        let mut blocked = self.send_again(state, link, now, scratch);
        loop {
            let first = state.queue.front().filter(|e| !blocked && e.ticket != PENDING).map(|e| e.seq);
            let first_qos0 = state.queue_qos0.front().map(|e| e.seq);
            // In order of arrival, unless the queue with the older entry is blocked.
            let qos0 = match (first, first_qos0) {
                (None, None) => break,
                (Some(one), Some(other)) => other < one,
                (_, other) => other.is_some(),
            };
            if !link.room() {
                link.more(&mut scratch.dirty);
                blocked = true;
                break;
            }
            if qos0 {
                let entry = state.pop_qos0().expect("looked at just before");
                if entry.message.expired(now) {
                    Counters::add(&shared.counters.expired, 1);
                } else {
                    append_entry(link, &entry, now, scratch);
                }
                continue;
            }
            if state.queue.front().is_some_and(|e| e.message.expired(now)) {
                Counters::add(&shared.counters.expired, 1);
                state.drop_front(self.key, scratch);
                popped = true;
                continue;
            }
            let size = state.queue.front().map_or(0, QueueEntry::size);
            state.update_capped_for(&self.client_id, size, shared);
            if !state.in_flight.has_room(link, shared.limits()) || state.is_held_back(size, shared) {
                blocked = true;
                continue;
            }
            let Some(id) = state.in_flight.next_id() else {
                blocked = true;
                continue;
            };
            let mut entry = state.pop().expect("looked at just before");
            state.wait_credit.earn(entry.size(), shared.limits());
            state.since = now;
            popped = true;
            entry.id = id;
            entry.phase = Phase::Sent;
            if state.durable {
                let (key, seq) = (self.key, entry.seq);
                let op = Op::Phase { key, seq, packet_id: id, phase: Phase::Sent };
                // The packet id of a QoS 2 message must be the same after a crash: otherwise the message would arrive
                // twice.
                let exactly_once = entry.qos == QoS::ExactlyOnce;
                let ticket = shared.put([op], exactly_once.then_some(key));
                if exactly_once && state.must_gate(ticket, shared.durable()) {
                    state.gated.push(ticket, Gated::Publish(id));
                    state.in_flight.push(entry, now);
                    state.count_in_flight(&self.client_id, shared);
                    continue;
                }
            }
            if append_entry(link, &entry, now, scratch) == Appended::TooLarge {
                if state.durable {
                    shared.put([Op::Dequeue { key: self.key, seq: entry.seq }], None);
                }
            } else {
                state.in_flight.push(entry, now);
                state.count_in_flight(&self.client_id, shared);
            }
        }
        if !blocked && state.queue.is_empty() {
            match turn {
                ReadTurn::Now => self.read_retained(state, link, scratch),
                ReadTurn::Later if state.reads.is_empty() => {}
                ReadTurn::Later => link.more(&mut scratch.dirty),
            }
        }
        state.count_in_flight(&self.client_id, shared);
        if popped {
            state.drained(&self.client_id, shared);
            if was_full && !state.full(shared) {
                self.space.notify_waiters();
            }
        }
    }

    /// Retransmits messages in flight since an earlier connection, within the window of this one. Returns whether some
    /// are left.
    fn send_again(
        &self,
        state: &mut SessionState,
        link: &Arc<Link>,
        now: u64,
        scratch: &mut Scratch,
    ) -> bool {
        while let Some(&id) = state.resend.front() {
            if state.in_flight.len().saturating_sub(state.resend.len()) >= link.window() {
                return true;
            }
            if !link.room() {
                link.more(&mut scratch.dirty);
                return true;
            }
            state.resend.pop_front();
            let Some(index) = state.in_flight.position(id) else { continue };
            let entry = state.in_flight.get(index);
            if entry.phase == Phase::Released {
                continue;
            }
            if state.durable && entry.qos == QoS::ExactlyOnce {
                let op = Op::Phase { key: self.key, seq: entry.seq, packet_id: id, phase: Phase::Sent };
                let ticket = link.shared.put([op], Some(self.key));
                if state.must_gate(ticket, link.shared.durable()) {
                    state.gated.push(ticket, Gated::Publish(id));
                    continue;
                }
            }
            if append_entry(link, entry, now, scratch) == Appended::TooLarge {
                let gone = state.in_flight.remove(index);
                if state.durable {
                    link.shared.put([Op::Dequeue { key: self.key, seq: gone.seq }], None);
                }
            }
        }
        false
    }

    /// Delivers retained messages while the outbox has room and the budget of the turn is not used up. The work per
    /// turn does not depend on the number of filters.
    fn read_retained(self: &Arc<Self>, state: &mut SessionState, link: &Arc<Link>, scratch: &mut Scratch) {
        let shared = &link.shared;
        while let Some(pass) = state.reads.current() {
            let waits = !state.in_flight.has_room(link, shared.limits())
                || state.in_flight.capped && state.in_flight.bytes() > 0;
            if pass.is_acknowledged() && waits {
                return;
            }
            if !link.room() || scratch.read_steps == 0 {
                Counters::add(&shared.counters.retained_turns, u64::from(scratch.read_steps == 0));
                link.more(&mut scratch.dirty);
                return;
            }
            let free = match pass.is_acknowledged() {
                true if state.in_flight.capped => 1,
                true => link.window() - state.in_flight.len(),
                false => MESSAGES_PER_LOCK,
            };
            let mut found = std::mem::take(&mut scratch.found);
            let limits = ReadLimits {
                messages: free.min(MESSAGES_PER_LOCK),
                steps: scratch.read_steps.min(STEPS_PER_LOCK),
            };
            let progress = pass.read(&shared.retained, limits, scratch.now, &mut found);
            scratch.read_steps -= progress.steps.min(scratch.read_steps);
            // Committed together with the messages enqueued below, so that the read continues after them in case of a
            // crash. Filters without a match need no record: they may continue earlier.
            let mut moved = if state.durable { pass.note_found(&found) } else { Vec::new() };
            if progress.done {
                moved = state.reads.finish();
            } else {
                state.reads.advance();
            }
            if state.durable {
                for filter in moved {
                    scratch.ops.extend(state.subscription_op(self.key, &filter, false));
                }
            }
            let now = scratch.now;
            for FoundMessage { message, qos, identifier, .. } in found.drain(..) {
                if !state.may_get(&self.client_id, &message.topic, shared) {
                    Counters::add(&shared.counters.withheld_access, 1);
                    continue;
                }
                state.last_seq += 1;
                let mut entry = QueueEntry {
                    seq: state.last_seq,
                    qos: message.qos.min(qos),
                    message,
                    retain: true,
                    identifiers: identifier.into_iter().collect(),
                    shared: None,
                    id: 0,
                    phase: Phase::Queued,
                    dup: false,
                    ticket: 0,
                };
                if entry.qos == QoS::AtMostOnce {
                    append_entry(link, &entry, now, scratch);
                } else if state.durable {
                    entry.ticket = PENDING;
                    scratch.ops.push(Op::Enqueue { key: self.key, seq: entry.seq, entry: entry.record() });
                    scratch.stored.push((self.clone(), entry.seq));
                    state.push(entry);
                } else if let Some(id) = state.in_flight.next_id() {
                    entry.id = id;
                    entry.phase = Phase::Sent;
                    if append_entry(link, &entry, now, scratch) != Appended::TooLarge {
                        state.in_flight.push(entry, now);
                    }
                } else {
                    state.push(entry);
                }
            }
            scratch.found = found;
            if !state.queue.is_empty() {
                return;
            }
        }
    }

    /// Resumes the session on a new connection: retransmits, in order, the messages in flight when the last connection
    /// ended \[MQTT-4.4.0-1].
    pub(crate) fn resume(
        self: &Arc<Self>,
        state: &mut SessionState,
        link: &Arc<Link>,
        scratch: &mut Scratch,
    ) {
        state.gated.clear();
        state.resend.clear();
        state.in_flight.note_progress(scratch.now);
        for index in 0..state.in_flight.len() {
            let entry = state.in_flight.get_mut(index);
            let (seq, id) = (entry.seq, entry.id);
            if entry.phase != Phase::Released {
                entry.dup = true;
                state.resend.push_back(id);
                continue;
            }
            if state.durable {
                let op = Op::Phase { key: self.key, seq, packet_id: id, phase: Phase::Released };
                let ticket = link.shared.put([op], Some(self.key));
                if state.must_gate(ticket, link.shared.durable()) {
                    state.gated.push(ticket, Gated::Release(id));
                    continue;
                }
            }
            link.append_release(id, &mut scratch.dirty);
        }
        self.pump(state, link, scratch, ReadTurn::Now);
    }
}

pub(super) fn append_entry(
    link: &Arc<Link>,
    entry: &QueueEntry,
    now: u64,
    scratch: &mut Scratch,
) -> Appended {
    let outgoing = Outgoing {
        qos: entry.qos,
        retain: entry.retain,
        dup: entry.dup,
        id: entry.id,
        identifiers: &entry.identifiers,
        ..Outgoing::default()
    };
    let counters = &link.shared.counters;
    let granted = !entry.retain && link.grant_reply(&entry.message, (entry.shared.as_ref(), entry.dup), now);
    let appended = link.append_publish(&entry.message, outgoing, now, None, &mut scratch.dirty);
    if granted && appended != Appended::Yes {
        link.take_back_reply(&entry.message);
    }
    match appended {
        Appended::TooLarge => Counters::add(&counters.too_large, 1),
        Appended::Yes => Counters::add(&counters.messages_sent, 1),
        Appended::Closed => {}
    }
    appended
}
