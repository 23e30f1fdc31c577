//! What outlives a socket: subscriptions, messages in flight and waiting, QoS 2 state, the will.

mod counted;
mod entry;
mod freeing;
mod full;
mod gated;
mod in_flight;
mod overflow;
mod reads;
mod received;
mod rights;
mod scratch;
mod sending;
mod shedding;
mod state;
mod subscribed;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::access::Principal;
use crate::codec::{Options, Outgoing};
use crate::counters::Counters;
use crate::link::{Appended, Link};
use crate::log::ClientText;
use crate::logged::{Logged, Met};
use crate::message::QoS;
use crate::owner::Account;
use crate::shared::Shared;
use crate::store::{Op, Phase, Ticket};
use crate::subscriptions::{Readiness, Subscriber};
use crate::tally::Held;
use crate::wills::HeldWill;

pub(crate) use entry::Delivery;
use entry::{Entry, PENDING};
use full::Overflow;
use gated::{Gated, GatedQueue};
use in_flight::InFlight;
use reads::{Read, ReadTurn, Reads};
use received::ReceivedIds;
use rights::DeliveryRights;
pub(crate) use scratch::Scratch;

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

/// The subscriptions of a session, by filter, and the identifier of each.
pub(crate) type Filters = HashMap<ByteString, (Options, Option<u32>)>;

/// Whether a session's queue has room for a message at QoS 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Free,
    /// Full, but its client is connected and taking messages: room may be waited for, for this long.
    Soon(Duration),
    /// Full, and its client is away or does not take anything.
    None,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) link: Option<Arc<Link>>,
    /// Nothing may be added to it any more.
    pub(crate) ended: bool,
    /// It has a record on disk.
    pub(crate) durable: bool,
    /// Seconds it outlives its connection; `u32::MAX` for ever.
    pub(crate) expiry: u32,
    pub(crate) version5: bool,
    pub(crate) principal: Arc<Principal>,
    pub(crate) will: Option<Box<HeldWill>>,
    pub(crate) subscriptions: Filters,
    /// About how many bytes those take, here and among all subscriptions.
    pub(crate) subscription_bytes: usize,
    /// Subscriptions that are wider than what the client may read, and decisions about topics; none before the first.
    rights: Option<Box<DeliveryRights>>,
    /// The generation of rules by which its subscriptions were looked at last, of which the lower half tells them apart.
    checked: u32,
    /// QoS 2 packet ids that came from the client and are not released.
    pub(crate) received: ReceivedIds,
    /// Waits for the will's delay and for the session's end.
    pub(crate) timer: Option<AbortHandle>,
    /// At QoS 1 and 2, for the window and for room in the outbox.
    queue: VecDeque<Entry>,
    queue_bytes: usize,
    /// At QoS 0, for room in the outbox alone: no window holds it up (MQTT 5, 4.9).
    queue_qos0: VecDeque<Entry>,
    queue_qos0_bytes: usize,
    in_flight: InFlight,
    last_seq: u64,
    gated: GatedQueue,
    reads: Reads,
    /// In flight since an earlier connection and not sent on this one yet.
    resend: VecDeque<u16>,
    /// How long publishers may still be held back for its full queue: spent by waiting, earned by taking messages.
    pub(crate) wait_credit: Duration,
    /// When the client last took a message from the queue, or connected; while it is away: when it left.
    pub(crate) since: u64,
    /// What it counts for among the absent.
    counted: Held,
    /// Who the session counts for, if for anyone.
    pub(crate) account: Option<Arc<Account>>,
    /// Limits that it has met and that were logged.
    pub(crate) logged: Logged,
    overflow: Option<Box<Overflow>>,
}

impl Subscriber for Arc<Session> {
    type Ground = Shared;

    fn key(&self) -> u64 {
        self.key
    }

    /// A session that is being worked on elsewhere counts as waiting: this is asked while the subscriptions are locked.
    fn readiness(&self, qos: QoS, shared: &Shared) -> Readiness {
        let Some(state) = self.state.try_lock() else { return Readiness::Waiting };
        if state.ended {
            return Readiness::Gone;
        }
        match &state.link {
            Some(link) => {
                if state.may_send(qos, link, &shared.config.limits) && link.room() {
                    Readiness::Ready
                } else if qos != QoS::AtMostOnce && state.full(shared) {
                    Readiness::Full
                } else {
                    Readiness::Waiting
                }
            }
            None if qos == QoS::AtMostOnce => Readiness::Gone,
            None if state.full(shared) => Readiness::Full,
            None => Readiness::Away,
        }
    }
}

impl Session {
    pub(crate) fn new(key: u64, client_id: ByteString) -> Arc<Self> {
        Arc::new(Self { key, client_id, state: Mutex::default(), space: Notify::new() })
    }

    /// Delivers or queues a message.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        shared: &Shared,
        mut delivery: Delivery<'_>,
        scratch: &mut Scratch,
    ) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.ended || state.link.is_none() && delivery.qos == QoS::AtMostOnce {
            return;
        }
        // A member of a group is not asked: it was looked at when it subscribed, and others would not get the message.
        if delivery.shared.is_none() && !state.may_get(&self.client_id, &delivery.message.topic, shared) {
            Counters::add(&shared.counters.withheld_access, 1);
            return;
        }
        let on_disk = state.durable && delivery.qos != QoS::AtMostOnce;
        if delivery.qos != QoS::AtMostOnce && state.link.is_some() {
            state.look_at_large(&self.client_id, delivery.message.text_bytes(), shared);
        }
        if let Some(link) = &state.link
            && !on_disk
            && state.may_send(delivery.qos, link, &shared.config.limits)
            && link.room()
        {
            let mut outgoing = Outgoing {
                qos: delivery.qos,
                retain: delivery.retain,
                identifiers: delivery.identifiers,
                ..Outgoing::default()
            };
            if delivery.qos != QoS::AtMostOnce {
                if let Some(id) = state.in_flight.next_id() {
                    outgoing.id = id;
                } else {
                    state.last_seq += 1;
                    let entry = delivery.entry(state.last_seq);
                    return state.enqueue(entry, shared);
                }
            }
            let link = link.clone();
            let granted =
                !outgoing.retain && link.grant_reply(delivery.message, (delivery.shared, false), scratch.now);
            let appended = link.append_publish(
                delivery.message,
                outgoing,
                scratch.now,
                Some(&mut scratch.frames),
                &mut scratch.dirty,
            );
            if granted && appended != Appended::Yes {
                link.take_back_reply(delivery.message);
            }
            match appended {
                Appended::TooLarge => Counters::add(&shared.counters.too_large, 1),
                Appended::Closed if delivery.qos == QoS::AtMostOnce => {}
                Appended::Yes | Appended::Closed => {
                    Counters::add(&shared.counters.messages_sent, 1);
                    if delivery.qos != QoS::AtMostOnce {
                        state.last_seq += 1;
                        let mut entry = delivery.entry(state.last_seq);
                        entry.id = outgoing.id;
                        entry.phase = Phase::Sent;
                        state.in_flight.push(entry);
                        state.count_in_flight(&self.client_id, shared);
                    }
                }
            }
            return;
        }
        if delivery.qos != QoS::AtMostOnce
            && state.full(shared)
            && !state.make_room((self.key, &self.client_id), shared, scratch)
        {
            Counters::add(&shared.counters.dropped_queue_full, 1);
            state.note_dropped(&self.client_id, 1, scratch.now, shared);
            return state.apply_rule(shared.queue_full(&delivery.message.topic));
        }
        state.last_seq += 1;
        let mut entry = delivery.entry(state.last_seq);
        if on_disk {
            entry.ticket = PENDING;
            scratch.ops.push(Op::Enqueue { key: self.key, seq: entry.seq, entry: entry.record() });
            scratch.stored.push((self.clone(), entry.seq));
        }
        state.enqueue(entry, shared);
        if let Some(link) = state.link.clone() {
            // Otherwise nobody would be asked for more when what is buffered is written.
            self.pump(state, &link, scratch, ReadTurn::Later);
        } else {
            state.count_absent(&shared.absent);
        }
    }

    /// The store has been told of what was queued as `seq`.
    pub(crate) fn stored(self: &Arc<Self>, seq: u64, ticket: Ticket, scratch: &mut Scratch) {
        let mut state = self.state.lock();
        if let Some(entry) = state.queue.iter_mut().rev().find(|e| e.seq == seq) {
            entry.ticket = ticket;
        }
        if let Some(link) = state.link.clone() {
            self.pump(&mut state, &link, scratch, ReadTurn::Later);
        }
    }

    /// Sends `frame` to the client once `ticket` is on disk, in the order of the calls \[MQTT-4.6.0-2].
    pub(crate) fn acknowledge(
        &self,
        shared: &Shared,
        link: &Arc<Link>,
        ticket: Ticket,
        scratch: &mut Scratch,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut state = self.state.lock();
        if !state.must_gate(ticket, shared.durable()) {
            drop(state);
            link.append_with(&mut scratch.dirty, encode);
        } else if state.link.as_ref().is_some_and(|l| Arc::ptr_eq(l, link)) {
            let mut frame = Vec::new();
            encode(&mut frame);
            state.gated.push(ticket, Gated::Frame(frame));
        }
    }

    /// How many things wait for the disk, and bytes of answers among them.
    pub(crate) fn gated(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.gated.len(), state.gated.bytes())
    }

    /// Everything up to the store's durable ticket may go out now.
    pub(crate) fn committed(self: &Arc<Self>, scratch: &mut Scratch) {
        let mut state = self.state.lock();
        if let Some(link) = state.link.clone() {
            self.pump(&mut state, &link, scratch, ReadTurn::Later);
        }
        drop(state);
        self.space.notify_waiters();
    }

    /// Reads the retained messages of filters to the client, with the identifier of their subscriptions. Unless these are
    /// the `last` of their packet it begins later, with the others.
    pub(crate) fn begin_reads(
        self: &Arc<Self>,
        link: &Arc<Link>,
        filters: Vec<(ByteString, QoS)>,
        identifier: Option<u32>,
        last: bool,
        scratch: &mut Scratch,
    ) {
        let mut state = self.state.lock();
        // The connection may have ended since the packet was acknowledged, and another one begun.
        let same = state.link.as_ref().is_some_and(|now| Arc::ptr_eq(now, link));
        for (filter, qos) in filters {
            if same || !state.ended && qos != QoS::AtMostOnce && state.subscriptions.contains_key(&filter) {
                state.reads.begin(Read { filter, qos, identifier, from: ByteString::new() });
            }
        }
        if last && same {
            self.pump(&mut state, link, scratch, ReadTurn::Now);
        }
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
        let Some(index) = state.in_flight.position(id) else { return false };
        let entry = state.in_flight.get(index);
        let fits = match entry.qos {
            QoS::ExactlyOnce => entry.phase == phase,
            _ => phase == Phase::Queued,
        };
        if !fits {
            return false;
        }
        let entry = state.in_flight.remove(index);
        state.count_in_flight(&self.client_id, &link.shared);
        if state.durable {
            link.shared.put([Op::Dequeue { key: self.key, seq: entry.seq }], None);
        }
        self.pump(&mut state, link, scratch, ReadTurn::Now);
        true
    }

    /// PUBREC: the client has it; from now on only PUBREL is sent. False: there is none by this id.
    pub(crate) fn received(&self, link: &Arc<Link>, id: u16, scratch: &mut Scratch) -> bool {
        let mut state = self.state.lock();
        let Some(index) = state.in_flight.position(id) else { return false };
        if state.in_flight.get(index).qos != QoS::ExactlyOnce {
            return false;
        }
        let entry = state.in_flight.get_mut(index);
        entry.phase = Phase::Released;
        let seq = entry.seq;
        if state.durable {
            let op = Op::Phase { key: self.key, seq, packet_id: id, phase: Phase::Released };
            let ticket = link.shared.put([op], Some(self.key));
            if state.must_gate(ticket, link.shared.durable()) {
                state.gated.push(ticket, Gated::Release(id));
                return true;
            }
        }
        drop(state);
        link.append_release(id, &mut scratch.dirty);
        true
    }

    /// A message was refused to its publisher, perhaps because this queue is full: logged like one that was dropped.
    pub(crate) fn note_refusal(&self, shared: &Shared, now: u64) {
        let mut state = self.state.lock();
        if state.full(shared) {
            state.note_full(&self.client_id, 1, now, shared);
        }
    }

    /// Something of its client's was refused because it could not be kept on disk: logged for the first time.
    pub(crate) fn log_disk_refusal(&self, state: &mut State, shared: &Shared) {
        if shared.may_log_limit(&mut state.logged, Met::Disk) {
            tracing::warn!(
                client = %ClientText(&self.client_id),
                user = %ClientText(state.principal.user.as_deref().unwrap_or("-")),
                "refused: what would have to be kept on disk, which is full or fails"
            );
        }
    }

    /// Whether the queue has room for a message at QoS 1 or 2.
    pub(crate) fn room(&self, shared: &Shared) -> Room {
        let state = self.state.lock();
        if state.ended || !state.full(shared) {
            Room::Free
        } else if state.link.is_some() && !state.wait_credit.is_zero() {
            Room::Soon(state.wait_credit)
        } else {
            Room::None
        }
    }

    /// [`room`](Self::room), once what has expired has made room.
    pub(crate) fn room_for_live(&self, shared: &Shared, scratch: &mut Scratch) -> Room {
        let room = self.room(shared);
        if room == Room::Free {
            return room;
        }
        self.state.lock().drop_expired(self.key, shared, scratch);
        self.room(shared)
    }

    /// Whether a message at QoS 0 would be sent or queued: its client is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.state.lock().link.is_some()
    }

    /// A publisher was held back for `time`, waiting for room in the queue.
    pub(crate) fn charge_wait(&self, time: Duration) {
        let mut state = self.state.lock();
        state.wait_credit = state.wait_credit.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With its reference counts and what malloc adds, an idle session takes 464 bytes.
    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of::<Session>() <= 440, "{}", size_of::<Session>());
    }
}
