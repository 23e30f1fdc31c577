//! Sessions: the state of a client that outlives a connection. Subscriptions, messages in flight and queued, QoS 2
//! state, the will.

mod counted;
mod entry;
mod freeing;
mod full;
mod gated;
mod in_flight;
mod info;
mod overflow;
mod queue;
mod reads;
mod received;
mod rights;
mod scratch;
mod sending;
mod shedding;
mod state;
mod subscribed;
mod wait_credit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::access::Principal;
use crate::codec::{Options, Outgoing};
use crate::counters::Counters;
use crate::link::{Appended, Link};
use crate::log::ClientText;
use crate::logged::{LoggedLimits, ReachedLimit};
use crate::message::QoS;
use crate::owner::Account;
use crate::parted::PartedMap;
use crate::shared::BrokerState;
use crate::store::{Op, Phase, Ticket};
use crate::subscriptions::{Readiness, Subscriber};
use crate::tally::Held;
use crate::wills::HeldWill;

pub(crate) use entry::Delivery;
use entry::{PENDING, QueueEntry};
use full::Overflow;
use gated::{Gated, GatedQueue};
use in_flight::InFlight;
use queue::Queue;
use reads::{ReadTurn, Reads, RetainedRead};
use received::ReceivedIds;
use rights::DeliveryRights;
pub(crate) use scratch::Scratch;
pub(crate) use wait_credit::WaitCredit;

/// The session of one client.
#[derive(Debug)]
pub(crate) struct Session {
    /// Unique key of the session, never reused, not even for the same client.
    pub(crate) key: u64,
    pub(crate) client_id: ByteString,
    pub(crate) state: Mutex<SessionState>,
    /// Notified when a full queue has room again, and when the session ends.
    pub(crate) space: Notify,
}

/// Subscriptions of a session: options and subscription identifier by filter.
pub(crate) type Filters = PartedMap<ByteString, (Options, Option<u32>)>;

/// Room in a session's queue for a message at QoS 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Free,
    /// The queue is full, but its client is connected and takes messages. A publisher may wait for room, at most for
    /// this time.
    Soon(Duration),
    /// The queue is full, and its client is absent or takes no messages.
    None,
}

#[derive(Debug, Default)]
pub(crate) struct SessionState {
    pub(crate) link: Option<Arc<Link>>,
    /// Whether the session has ended, so that nothing may be added.
    pub(crate) ended: bool,
    /// Whether the session has a record on disk.
    pub(crate) durable: bool,
    /// Session Expiry Interval in seconds; `u32::MAX` means that the session never expires.
    pub(crate) expiry: u32,
    pub(crate) version5: bool,
    pub(crate) principal: Arc<Principal>,
    pub(crate) will: Option<Box<HeldWill>>,
    pub(crate) subscriptions: Filters,
    /// Approximate size of the subscriptions in bytes, in the session and in the router.
    pub(crate) subscription_bytes: usize,
    /// Subscriptions that are wider than the client's read rights, and cached decisions about topics; `None` before
    /// the first one.
    rights: Option<Box<DeliveryRights>>,
    /// Lower 32 bits of the generation of access rules with which the subscriptions were last checked; they suffice to
    /// distinguish generations.
    checked: u32,
    /// QoS 2 packet ids received from the client and not released.
    pub(crate) received: ReceivedIds,
    /// Timer for the will delay and the session expiry.
    pub(crate) timer: Option<AbortHandle>,
    /// Messages at QoS 1 and 2 that wait for the in-flight window and for room in the outbox.
    queue: Queue<QueueEntry>,
    queue_bytes: usize,
    /// Messages at QoS 0 that wait for room in the outbox; no window applies to them (MQTT 5, 4.9).
    queue_qos0: Queue<QueueEntry>,
    queue_qos0_bytes: usize,
    in_flight: InFlight,
    last_seq: u64,
    gated: GatedQueue,
    reads: Reads,
    /// Packet ids in flight since an earlier connection that were not retransmitted on this one yet.
    resend: VecDeque<u16>,
    pub(crate) wait_credit: WaitCredit,
    /// Time at which the client last took a message from the queue, or connected; for an absent client, when it
    /// disconnected. In milliseconds since 1970.
    pub(crate) since: u64,
    /// Amount currently included in the count of absent sessions.
    counted: Held,
    /// Account of the session's owner, if it has one.
    pub(crate) account: Option<Arc<Account>>,
    /// Limits that the session has reached and that were logged.
    pub(crate) logged: LoggedLimits,
    overflow: Option<Box<Overflow>>,
}

impl Subscriber for Arc<Session> {
    type Ground = BrokerState;

    fn key(&self) -> u64 {
        self.key
    }

    /// Does not block: a session that is locked by another task counts as waiting, because the subscriptions are
    /// locked during this call.
    fn readiness(&self, qos: QoS, now: u64, shared: &BrokerState) -> Readiness {
        let Some(state) = self.state.try_lock() else { return Readiness::Waiting };
        if state.ended {
            return Readiness::Gone;
        }
        match &state.link {
            Some(link) => {
                let is_stalled = state.in_flight.is_stalled(now);
                if !is_stalled && state.may_send(qos, link, shared.limits()) && link.room() {
                    Readiness::Ready
                } else if qos != QoS::AtMostOnce && state.full(shared) {
                    Readiness::Full
                } else if is_stalled {
                    Readiness::Stalled
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

    /// Sends a message to the client, or queues it, or drops it if the queue is full.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        shared: &BrokerState,
        mut delivery: Delivery<'_>,
        scratch: &mut Scratch,
    ) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.ended || state.link.is_none() && delivery.qos == QoS::AtMostOnce {
            return;
        }
        // It expired while its publisher waited for a full queue [MQTT-3.3.2-5]. A message with an interval of 0 may
        // be sent at once.
        if delivery.message.expires.is_some_and(|at| at < scratch.now) {
            Counters::add(&shared.counters.expired, 1);
            return;
        }
        // Not checked for shared subscriptions: the member's rights were checked when it subscribed, and a message
        // withheld here would not reach another member.
        if delivery.shared.is_none() && !state.may_get(&self.client_id, &delivery.message.topic, shared) {
            Counters::add(&shared.counters.withheld_access, 1);
            return;
        }
        let on_disk = state.durable && delivery.qos != QoS::AtMostOnce;
        if delivery.qos != QoS::AtMostOnce && state.link.is_some() {
            state.update_capped_for(&self.client_id, delivery.message.text_bytes(), shared);
        }
        if let Some(link) = &state.link
            && !on_disk
            && state.may_send(delivery.qos, link, shared.limits())
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
                        state.in_flight.push(entry, scratch.now);
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
            // Also requests a refill: otherwise the queue would not be sent after the outbox was written.
            self.pump(state, &link, scratch, ReadTurn::Later);
        } else {
            state.count_absent(&shared.absent);
        }
    }

    /// Records that the entry `seq` was passed to the store with `ticket`.
    pub(crate) fn stored(self: &Arc<Self>, seq: u64, ticket: Ticket, scratch: &mut Scratch) {
        let mut state = self.state.lock();
        if let Some(entry) = state.queue.iter_mut_newest_first().find(|e| e.seq == seq) {
            entry.ticket = ticket;
        }
        if let Some(link) = state.link.clone() {
            self.pump(&mut state, &link, scratch, ReadTurn::Later);
        }
    }

    /// Sends `frame` to the client when `ticket` is on disk, in the order of the calls \[MQTT-4.6.0-2].
    pub(crate) fn acknowledge(
        &self,
        shared: &BrokerState,
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

    /// Returns the number of packets that wait for the disk, and the number of bytes of the acknowledgements among
    /// them.
    pub(crate) fn gated(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.gated.len(), state.gated.bytes())
    }

    /// Sends the packets that waited for the disk, up to the ticket that is on disk.
    pub(crate) fn committed(self: &Arc<Self>, scratch: &mut Scratch) {
        let mut state = self.state.lock();
        if let Some(link) = state.link.clone() {
            self.pump(&mut state, &link, scratch, ReadTurn::Later);
        }
        drop(state);
        self.space.notify_waiters();
    }

    /// Begins to send the retained messages of filters, with the identifier of their subscriptions. Unless these are
    /// the `last` filters of their packet, reading begins later, together with the others.
    pub(crate) fn begin_reads(
        self: &Arc<Self>,
        link: &Arc<Link>,
        filters: Vec<(ByteString, QoS)>,
        identifier: Option<u32>,
        last: bool,
        scratch: &mut Scratch,
    ) {
        let mut state = self.state.lock();
        // The connection may have ended since the acknowledgement, and another one may have replaced it.
        let same = state.link.as_ref().is_some_and(|now| Arc::ptr_eq(now, link));
        for (filter, qos) in filters {
            if same || !state.ended && qos != QoS::AtMostOnce && state.subscriptions.contains_key(&filter) {
                state.reads.begin(RetainedRead { filter, qos, identifier, from: ByteString::new() });
            }
        }
        if last && same {
            self.pump(&mut state, link, scratch, ReadTurn::Now);
        }
    }

    /// Handles PUBACK, PUBCOMP, or a PUBREC with an error code: ends the delivery. Returns false if there is no such
    /// delivery.
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
        state.in_flight.note_progress(scratch.now);
        state.count_in_flight(&self.client_id, &link.shared);
        if state.durable {
            link.shared.put([Op::Dequeue { key: self.key, seq: entry.seq }], None);
        }
        self.pump(&mut state, link, scratch, ReadTurn::Now);
        true
    }

    /// Handles PUBREC: the client has the message, and only PUBREL is sent from now on. Returns false if there is no
    /// such delivery.
    pub(crate) fn received(&self, link: &Arc<Link>, id: u16, scratch: &mut Scratch) -> bool {
        let mut state = self.state.lock();
        let Some(index) = state.in_flight.position(id) else { return false };
        if state.in_flight.get(index).qos != QoS::ExactlyOnce {
            return false;
        }
        state.in_flight.note_progress(scratch.now);
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

    /// Records that a message was refused to its publisher, possibly because this queue is full. Logged like a dropped
    /// message.
    pub(crate) fn note_refusal(&self, shared: &BrokerState, now: u64) {
        let mut state = self.state.lock();
        if state.full(shared) {
            state.note_full(&self.client_id, 1, now, shared);
        }
    }

    /// Logs, the first time, that a packet of the client was refused because it could not be stored on disk.
    pub(crate) fn log_disk_refusal(&self, state: &mut SessionState, shared: &BrokerState) {
        if shared.may_log_limit(&mut state.logged, ReachedLimit::Disk) {
            tracing::warn!(
                client = %ClientText(&self.client_id),
                user = %ClientText(state.principal.user.as_deref().unwrap_or("-")),
                "refused: what would have to be kept on disk, which is full or fails"
            );
        }
    }

    /// Returns whether the queue has room for a message at QoS 1 or 2.
    pub(crate) fn room(&self, shared: &BrokerState) -> Room {
        let state = self.state.lock();
        if state.ended || !state.full(shared) {
            Room::Free
        } else if let Some(credit) = state.wait_credit.left().filter(|_| state.link.is_some()) {
            Room::Soon(credit)
        } else {
            Room::None
        }
    }

    /// Same as [`room`](Self::room), after dropping expired messages from a full queue.
    pub(crate) fn room_for_live(&self, shared: &BrokerState, scratch: &mut Scratch) -> Room {
        let room = self.room(shared);
        if room == Room::Free {
            return room;
        }
        self.state.lock().drop_expired(self.key, shared, scratch);
        self.room(shared)
    }

    /// Returns whether the client is connected, so that a message at QoS 0 would be sent or queued.
    pub(crate) fn is_connected(&self) -> bool {
        self.state.lock().link.is_some()
    }

    /// Deducts `time`, by which this full queue delayed a publisher, from the session's wait credit.
    pub(crate) fn charge_wait(&self, time: Duration) {
        self.state.lock().wait_credit.spend(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With its reference counts and the overhead of malloc, an idle session takes 464 bytes.
    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of::<Session>() <= 440, "{}", size_of::<Session>());
    }
}
