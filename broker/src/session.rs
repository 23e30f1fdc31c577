//! What outlives a socket: subscriptions, messages in flight and waiting, QoS 2 state, the will.

use std::collections::VecDeque;
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::clock::now_ms;
use crate::codec::{Options, Outgoing, Will};
use crate::config::{Limits, QueueFull};
use crate::counters::Counters;
use crate::hub::Hub;
use crate::link::{Appended, Dirty, Frames, Link};
use crate::message::{Message, QoS};
use crate::retained::Cursor;
use crate::store::{self, Op, Phase, Ticket};

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Never used twice, not even by the same client.
    pub(crate) key: u64,
    pub(crate) client_id: ByteString,
    pub(crate) state: Mutex<State>,
    /// Told when a full queue has room again, and when the session ends.
    pub(crate) space: Notify,
}

/// What a session may say of itself when a message is to be shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It would be sent at once.
    Ready,
    /// It would wait in the queue.
    Waiting,
    /// The queue is full.
    Full,
    /// Nothing can be delivered to it.
    Gone,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own; all combinations occur")]
pub(crate) struct State {
    pub(crate) link: Option<Arc<Link>>,
    /// Nothing may be added to it any more.
    pub(crate) ended: bool,
    /// It has a record on disk.
    pub(crate) durable: bool,
    /// Seconds it outlives its connection; `u32::MAX` for ever.
    pub(crate) expiry: u32,
    pub(crate) version5: bool,
    pub(crate) user_name: Option<ByteString>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) subscriptions: HashMap<ByteString, (Options, Option<u32>)>,
    /// QoS 2 packet ids that came from the client and are not released.
    pub(crate) received: HashSet<u16>,
    /// Waits for the will's delay and for the session's end.
    pub(crate) timer: Option<AbortHandle>,
    /// At QoS 1 and 2, for the window and for room in the outbox.
    queue: VecDeque<Entry>,
    queue_bytes: usize,
    /// At QoS 0, for room in the outbox alone: no window holds it up (MQTT 5, 4.9).
    queue_qos0: VecDeque<Entry>,
    queue_qos0_bytes: usize,
    in_flight: VecDeque<Entry>,
    last_id: u16,
    last_seq: u64,
    gated: VecDeque<(Ticket, Gated)>,
    reads: VecDeque<Read>,
    /// In flight since an earlier connection and not sent on this one yet.
    resend: VecDeque<u16>,
    /// A publisher has waited for its queue in vain, and there has been no room since.
    stalled: bool,
}

/// A message for this session.
#[derive(Debug)]
struct Entry {
    seq: u64,
    message: Arc<Message>,
    qos: QoS,
    retain: bool,
    identifiers: Vec<u32>,
    shared: Option<ByteString>,
    id: u16,
    phase: Phase,
    dup: bool,
    /// Given to the store; until then (`PENDING`) it may not be sent.
    ticket: Ticket,
}

/// The store has not been told of it yet.
const PENDING: Ticket = Ticket::MAX;

/// What may be sent only once it is on disk.
#[derive(Debug)]
enum Gated {
    Frame(Vec<u8>),
    Publish(u16),
    Release(u16),
}

/// Retained messages being read for a subscription.
#[derive(Debug)]
struct Read {
    filter: ByteString,
    qos: QoS,
    identifier: Option<u32>,
    cursor: Cursor,
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
    /// The time of all deliveries of one message, on [`now_ms`]'s clock.
    pub(crate) now: u64,
}

impl Delivery<'_> {
    fn keep(&mut self) -> Arc<Message> {
        self.kept.get_or_insert_with(|| Arc::new(self.message.compact())).clone()
    }
}

/// What a delivery leaves to be done.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) dirty: Dirty,
    pub(crate) frames: Frames,
    /// For the store, together with whatever else belongs to the same publish.
    pub(crate) ops: Vec<Op>,
    /// Queued for sessions on disk: to be released by [`Session::stored`].
    pub(crate) stored: Vec<(Arc<Session>, u64)>,
    found: Vec<Arc<Message>>,
}

impl Session {
    pub(crate) fn new(key: u64, client_id: ByteString) -> Arc<Self> {
        Arc::new(Self { key, client_id, state: Mutex::default(), space: Notify::new() })
    }

    #[cfg(test)]
    pub(crate) fn for_tests(key: u64) -> Arc<Self> {
        Self::new(key, key.to_string().into())
    }

    /// Whether a message at `qos` could be taken now. A session that is being worked on elsewhere counts as
    /// waiting: this is asked while the subscriptions are locked.
    pub(crate) fn readiness(&self, qos: QoS) -> Readiness {
        let Some(state) = self.state.try_lock() else { return Readiness::Waiting };
        if state.ended {
            return Readiness::Gone;
        }
        match &state.link {
            Some(link) => {
                if state.may_send(qos, link) && link.room() {
                    Readiness::Ready
                } else if qos != QoS::AtMostOnce && state.full(&link.hub.config.limits) {
                    Readiness::Full
                } else {
                    Readiness::Waiting
                }
            }
            None if qos == QoS::AtMostOnce => Readiness::Gone,
            None => Readiness::Waiting,
        }
    }

    /// Delivers or queues a message.
    pub(crate) fn deliver(self: &Arc<Self>, hub: &Hub, mut delivery: Delivery<'_>, scratch: &mut Scratch) {
        let now = delivery.now;
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.ended || state.link.is_none() && delivery.qos == QoS::AtMostOnce {
            return;
        }
        let on_disk = state.durable && delivery.qos != QoS::AtMostOnce;
        if let Some(link) = &state.link
            && !on_disk
            && state.may_send(delivery.qos, link)
            && link.room()
        {
            let mut outgoing = Outgoing {
                qos: delivery.qos,
                retain: delivery.retain,
                identifiers: delivery.identifiers,
                ..Outgoing::default()
            };
            if delivery.qos != QoS::AtMostOnce {
                match next_id(&mut state.last_id, &state.in_flight) {
                    Some(id) => outgoing.id = id,
                    None => return state.enqueue(delivery.entry(0), hub),
                }
            }
            let link = link.clone();
            let appended = link.append_publish(
                delivery.message,
                outgoing,
                now,
                Some(&mut scratch.frames),
                &mut scratch.dirty,
            );
            match appended {
                Appended::TooLarge => Counters::add(&hub.counters.too_large, 1),
                Appended::Closed if delivery.qos == QoS::AtMostOnce => {}
                Appended::Yes | Appended::Closed => {
                    Counters::add(&hub.counters.messages_sent, 1);
                    if delivery.qos != QoS::AtMostOnce {
                        state.last_seq += 1;
                        let mut entry = delivery.entry(state.last_seq);
                        entry.id = outgoing.id;
                        entry.phase = Phase::Sent;
                        state.in_flight.push_back(entry);
                    }
                }
            }
            return;
        }
        if delivery.qos != QoS::AtMostOnce && state.full(&hub.config.limits) {
            // Only here where the publisher did not wait: `QueueFull::Drop`, a will, or a race.
            Counters::add(&hub.counters.dropped_queue_full, 1);
            return;
        }
        state.last_seq += 1;
        let mut entry = delivery.entry(state.last_seq);
        if on_disk {
            entry.ticket = PENDING;
            scratch.ops.push(Op::Enqueue { key: self.key, seq: entry.seq, entry: entry.record() });
            scratch.stored.push((self.clone(), entry.seq));
        }
        state.enqueue(entry, hub);
        if let Some(link) = state.link.clone() {
            // Otherwise nobody would be asked for more when what is buffered is written.
            self.pump(state, &link, scratch);
        }
    }

    /// The store has been told of what was queued as `seq`.
    pub(crate) fn stored(self: &Arc<Self>, seq: u64, ticket: Ticket, scratch: &mut Scratch) {
        let mut state = self.state.lock();
        if let Some(entry) = state.queue.iter_mut().rev().find(|e| e.seq == seq) {
            entry.ticket = ticket;
        }
        if let Some(link) = state.link.clone() {
            self.pump(&mut state, &link, scratch);
        }
    }

    /// Sends `frame` to the client once `ticket` is on disk, in the order of the calls \[MQTT-4.6.0-2].
    pub(crate) fn acknowledge(
        &self,
        hub: &Hub,
        link: &Arc<Link>,
        ticket: Ticket,
        scratch: &mut Scratch,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut state = self.state.lock();
        if state.gated.is_empty() && (ticket == 0 || ticket <= hub.durable()) {
            drop(state);
            link.append_with(&mut scratch.dirty, encode);
        } else if state.link.as_ref().is_some_and(|l| Arc::ptr_eq(l, link)) {
            let mut frame = Vec::new();
            encode(&mut frame);
            state.gated.push_back((ticket, Gated::Frame(frame)));
        }
    }

    /// How many things wait for the disk.
    pub(crate) fn gated(&self) -> usize {
        self.state.lock().gated.len()
    }

    /// Everything up to the store's durable ticket may go out now.
    pub(crate) fn committed(self: &Arc<Self>, scratch: &mut Scratch) {
        let mut state = self.state.lock();
        if let Some(link) = state.link.clone() {
            self.pump(&mut state, &link, scratch);
        }
        drop(state);
        self.space.notify_waiters();
    }

    /// The outbox was written and has room again.
    pub(crate) fn refill(self: &Arc<Self>, link: &Arc<Link>) {
        let mut scratch = Scratch::default();
        {
            let mut state = self.state.lock();
            if state.link.as_ref().is_some_and(|l| Arc::ptr_eq(l, link)) {
                self.pump(&mut state, link, &mut scratch);
            }
        }
        link.hub.settle(&mut scratch);
        // The caller writes this link itself; it holds the outbox as busy.
        crate::link::flush_all(&mut scratch.dirty);
    }

    /// Moves what waits to the outbox as far as it has room.
    pub(crate) fn pump(self: &Arc<Self>, state: &mut State, link: &Arc<Link>, scratch: &mut Scratch) {
        let hub = &link.hub;
        state.release_gated(hub, link, scratch);
        let was_full = state.full(&hub.config.limits);
        let mut popped = false;
        let now = now_ms();
        let mut blocked = self.send_again(state, link, now, scratch);
        loop {
            let first = state.queue.front().filter(|e| !blocked && e.ticket != PENDING).map(|e| e.seq);
            let first_qos0 = state.queue_qos0.front().map(|e| e.seq);
            // As they came, unless the one is held up by what does not hold up the other.
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
                    Counters::add(&hub.counters.expired, 1);
                } else {
                    append_entry(link, &entry, now, scratch);
                }
                continue;
            }
            if state.queue.front().is_some_and(|e| e.message.expired(now)) {
                Counters::add(&hub.counters.expired, 1);
                state.drop_front(self.key, scratch);
                popped = true;
                continue;
            }
            if state.in_flight.len() >= link.window() {
                blocked = true;
                continue;
            }
            let Some(id) = next_id(&mut state.last_id, &state.in_flight) else {
                blocked = true;
                continue;
            };
            let mut entry = state.pop().expect("looked at just before");
            popped = true;
            entry.id = id;
            entry.phase = Phase::Sent;
            if state.durable {
                let (key, seq) = (self.key, entry.seq);
                let op = Op::Phase { key, seq, packet_id: id, phase: Phase::Sent };
                // A packet id of QoS 2 has to be the same one after a crash, or the message arrives twice.
                let exactly_once = entry.qos == QoS::ExactlyOnce;
                let ticket = hub.put([op], exactly_once.then_some(key));
                if exactly_once && ticket > hub.durable() {
                    state.gated.push_back((ticket, Gated::Publish(id)));
                    state.in_flight.push_back(entry);
                    continue;
                }
            }
            if append_entry(link, &entry, now, scratch) == Appended::TooLarge {
                if state.durable {
                    hub.put([Op::Dequeue { key: self.key, seq: entry.seq }], None);
                }
            } else {
                state.in_flight.push_back(entry);
            }
        }
        if !blocked && state.queue.is_empty() {
            self.read_retained(state, link, scratch);
        }
        if popped && was_full && !state.full(&hub.config.limits) {
            state.stalled = false;
            self.space.notify_waiters();
        }
    }

    /// Sends what an earlier connection left in flight, within the window of this one; true while some is left.
    fn send_again(&self, state: &mut State, link: &Arc<Link>, now: u64, scratch: &mut Scratch) -> bool {
        while let Some(&id) = state.resend.front() {
            if state.in_flight.len().saturating_sub(state.resend.len()) >= link.window() {
                return true;
            }
            if !link.room() {
                link.more(&mut scratch.dirty);
                return true;
            }
            state.resend.pop_front();
            let Some(index) = position(&state.in_flight, id) else { continue };
            let entry = &state.in_flight[index];
            if entry.phase == Phase::Released {
                continue;
            }
            if state.durable && entry.qos == QoS::ExactlyOnce {
                let op = Op::Phase { key: self.key, seq: entry.seq, packet_id: id, phase: Phase::Sent };
                let ticket = link.hub.put([op], Some(self.key));
                if ticket > link.hub.durable() {
                    state.gated.push_back((ticket, Gated::Publish(id)));
                    continue;
                }
            }
            if append_entry(link, entry, now, scratch) == Appended::TooLarge {
                let gone = state.in_flight.remove(index).expect("found just before");
                if state.durable {
                    link.hub.put([Op::Dequeue { key: self.key, seq: gone.seq }], None);
                }
            }
        }
        false
    }

    /// Hands over retained messages while the outbox has room.
    fn read_retained(self: &Arc<Self>, state: &mut State, link: &Arc<Link>, scratch: &mut Scratch) {
        const AT_ONCE: usize = 64;
        const STEPS: usize = 2_000;
        let hub = &link.hub;
        // A bound on the work of one call; the rest is asked for when this is written.
        let mut budget = 4;
        while let Some(read) = state.reads.front_mut() {
            if read.qos != QoS::AtMostOnce && state.in_flight.len() >= link.window() {
                return;
            }
            budget -= 1;
            if !link.room() || budget == 0 {
                link.more(&mut scratch.dirty);
                return;
            }
            let free =
                if read.qos == QoS::AtMostOnce { AT_ONCE } else { link.window() - state.in_flight.len() };
            let mut found = std::mem::take(&mut scratch.found);
            let done = hub.retained.read().read(
                &read.filter,
                &mut read.cursor,
                free.min(AT_ONCE),
                STEPS,
                &mut found,
            );
            let (qos, identifier) = (read.qos, read.identifier);
            if done {
                state.reads.pop_front();
            }
            let now = now_ms();
            for message in found.drain(..) {
                state.last_seq += 1;
                let mut entry = Entry {
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
                } else if let Some(id) = next_id(&mut state.last_id, &state.in_flight) {
                    entry.id = id;
                    entry.phase = Phase::Sent;
                    if append_entry(link, &entry, now, scratch) != Appended::TooLarge {
                        state.in_flight.push_back(entry);
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

    /// Reads the retained messages of a filter to the client.
    pub(crate) fn begin_read(
        self: &Arc<Self>,
        link: &Arc<Link>,
        filter: ByteString,
        qos: QoS,
        identifier: Option<u32>,
        scratch: &mut Scratch,
    ) {
        let mut state = self.state.lock();
        state.reads.retain(|r| r.filter != filter);
        state.reads.push_back(Read { filter, qos, identifier, cursor: Cursor::default() });
        self.pump(&mut state, link, scratch);
    }

    /// PUBACK, PUBCOMP, or a PUBREC that refuses: the delivery is over. False: there is none by this id.
    pub(crate) fn finished(
        self: &Arc<Self>,
        link: &Arc<Link>,
        id: u16,
        phase: Phase,
        scratch: &mut Scratch,
    ) -> bool {
        let mut state = self.state.lock();
        let Some(index) = position(&state.in_flight, id) else { return false };
        let entry = &state.in_flight[index];
        let fits = match entry.qos {
            QoS::ExactlyOnce => entry.phase == phase,
            _ => phase == Phase::Queued,
        };
        if !fits {
            return false;
        }
        let entry = state.in_flight.remove(index).expect("found just before");
        if state.durable {
            link.hub.put([Op::Dequeue { key: self.key, seq: entry.seq }], None);
        }
        self.pump(&mut state, link, scratch);
        true
    }

    /// PUBREC: the client has it; from now on only PUBREL is sent. False: there is none by this id.
    pub(crate) fn received(&self, link: &Arc<Link>, id: u16, scratch: &mut Scratch) -> bool {
        let mut state = self.state.lock();
        let Some(index) = position(&state.in_flight, id) else { return false };
        if state.in_flight[index].qos != QoS::ExactlyOnce {
            return false;
        }
        let entry = &mut state.in_flight[index];
        entry.phase = Phase::Released;
        let seq = entry.seq;
        if state.durable {
            let op = Op::Phase { key: self.key, seq, packet_id: id, phase: Phase::Released };
            let ticket = link.hub.put([op], Some(self.key));
            if ticket > link.hub.durable() {
                state.gated.push_back((ticket, Gated::Release(id)));
                return true;
            }
        }
        drop(state);
        link.append_release(id, &mut scratch.dirty);
        true
    }

    /// What was in flight when the last connection ended is sent again, in its order \[MQTT-4.4.0-1].
    pub(crate) fn resume(self: &Arc<Self>, state: &mut State, link: &Arc<Link>, scratch: &mut Scratch) {
        state.gated.clear();
        state.resend.clear();
        for entry in &mut state.in_flight {
            if entry.phase == Phase::Released {
                let op =
                    Op::Phase { key: self.key, seq: entry.seq, packet_id: entry.id, phase: Phase::Released };
                let ticket = if state.durable { link.hub.put([op], Some(self.key)) } else { 0 };
                if ticket > link.hub.durable() {
                    state.gated.push_back((ticket, Gated::Release(entry.id)));
                } else {
                    link.append_release(entry.id, &mut scratch.dirty);
                }
                continue;
            }
            entry.dup = true;
            state.resend.push_back(entry.id);
        }
        self.pump(state, link, scratch);
    }

    /// Whether a message at QoS 1 or 2 has to wait for this session's queue.
    pub(crate) fn must_wait(&self, limits: &Limits) -> bool {
        if limits.queue_full == QueueFull::Drop {
            return false;
        }
        let state = self.state.lock();
        !state.ended && state.full(limits)
    }

    /// Whether waiting for its queue was in vain the last time.
    pub(crate) fn is_stalled(&self) -> bool {
        let state = self.state.lock();
        state.stalled || state.link.is_none()
    }

    /// A publisher has waited in vain.
    pub(crate) fn set_stalled(&self) {
        self.state.lock().stalled = true;
    }
}

impl State {
    /// Whether another message at QoS 1 or 2 would be one too many.
    fn full(&self, limits: &Limits) -> bool {
        self.queue.len() >= limits.queue_messages || self.queue_bytes >= limits.queue_bytes
    }

    /// Whether a message needs not wait for others, nor for the window.
    fn may_send(&self, qos: QoS, link: &Link) -> bool {
        match qos {
            QoS::AtMostOnce => self.queue_qos0.is_empty(),
            _ => self.queue.is_empty() && self.in_flight.len() < link.window(),
        }
    }

    fn push(&mut self, entry: Entry) {
        self.queue_bytes += entry.message.size();
        self.queue.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        self.queue_bytes -= entry.message.size();
        release_memory(&mut self.queue);
        Some(entry)
    }

    fn pop_qos0(&mut self) -> Option<Entry> {
        let entry = self.queue_qos0.pop_front()?;
        self.queue_qos0_bytes -= entry.message.size();
        release_memory(&mut self.queue_qos0);
        Some(entry)
    }

    /// Takes the first entry away undelivered.
    fn drop_front(&mut self, key: u64, scratch: &mut Scratch) {
        if let Some(entry) = self.pop()
            && self.durable
        {
            scratch.ops.push(Op::Dequeue { key, seq: entry.seq });
        }
    }

    /// Queues; at QoS 0 the oldest make room for the newest.
    fn enqueue(&mut self, entry: Entry, hub: &Hub) {
        if entry.qos != QoS::AtMostOnce {
            return self.push(entry);
        }
        let limits = &hub.config.limits;
        let size = entry.message.size();
        while self.queue_qos0_bytes + size > limits.queue_qos0_bytes
            || self.queue_qos0.len() >= limits.queue_messages
        {
            Counters::add(&hub.counters.dropped_qos0, 1);
            if self.pop_qos0().is_none() {
                // Above the limit all by itself.
                return;
            }
        }
        self.queue_qos0_bytes += size;
        self.queue_qos0.push_back(entry);
    }

    fn release_gated(&mut self, hub: &Hub, link: &Arc<Link>, scratch: &mut Scratch) {
        if self.gated.is_empty() {
            return;
        }
        let (durable, now) = (hub.durable(), now_ms());
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
                        hub.put([Op::Dequeue { key: link.session.key, seq: gone.seq }], None);
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

impl Delivery<'_> {
    fn entry(&mut self, seq: u64) -> Entry {
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
    fn record(&self) -> store::EntryRecord {
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

/// An empty queue needs no memory.
fn release_memory(queue: &mut VecDeque<Entry>) {
    if queue.is_empty() && queue.capacity() > 64 {
        *queue = VecDeque::new();
    }
}

fn append_entry(link: &Arc<Link>, entry: &Entry, now: u64, scratch: &mut Scratch) -> Appended {
    let outgoing = Outgoing {
        qos: entry.qos,
        retain: entry.retain,
        dup: entry.dup,
        id: entry.id,
        identifiers: &entry.identifiers,
        ..Outgoing::default()
    };
    let counters = &link.hub.counters;
    let appended = link.append_publish(&entry.message, outgoing, now, None, &mut scratch.dirty);
    match appended {
        Appended::TooLarge => Counters::add(&counters.too_large, 1),
        Appended::Yes => Counters::add(&counters.messages_sent, 1),
        Appended::Closed => {}
    }
    appended
}

/// The next packet id; none while the oldest delivery still holds it.
///
/// Ids rise with the order of sending, so that those in flight are sorted, counted from the oldest.
fn next_id(last: &mut u16, in_flight: &VecDeque<Entry>) -> Option<u16> {
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

fn position(in_flight: &VecDeque<Entry>, id: u16) -> Option<usize> {
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
            now: 0,
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
