//! Routing of a publish: matches subscriptions, stores the message, and appends it to the outboxes of the sessions.

mod receivers;
mod subscribing;

use std::sync::Arc;

use bytestring::ByteString;
use parking_lot::{Mutex, RwLock};

use crate::codec::Reason;
use crate::config::QueueFull;
use crate::counters::Counters;
use crate::holdings::{Amount, Excess};
use crate::log::ClientText;
use crate::logged::ReachedLimit;
use crate::memory::Stage;
use crate::message::{Message, QoS, effective_qos};
use crate::owner::Owner;
use crate::session::{Delivery, Room, Scratch, Session};
use crate::shared::BrokerState;
use crate::store::{Op, Ticket, Uncommitted};
use crate::subscriptions::{Subscriptions, Target};
use crate::topic::is_own_value;
use crate::wills::HeldWill;
use receivers::RequestReceivers;

/// Routing steps charged for a retained message, which is copied, and for which two ordered maps are searched.
const STEPS_PER_RETAINED: usize = 24;

/// Deliveries that a publish requires.
pub(crate) type Targets = Vec<Target<Arc<Session>>>;

/// Result of a publish.
#[derive(Debug)]
pub(crate) enum Routed {
    Done {
        /// Whether there was at least one subscriber.
        matched: bool,
        /// Whether the message is a request that no subscriber serves.
        unserved: bool,
        /// Ticket that must be on disk before the publish is acknowledged.
        ticket: Ticket,
    },
    /// Nothing was done: the publisher must wait for room in the queue of this session.
    Full(Arc<Session>),
    /// Nothing was done, and the message must not be delivered.
    Refused(Reason, &'static str),
}

/// Origin of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin<'a> {
    /// Session of the publisher, for No Local and for wakeups; `None` for the broker itself and for wills.
    pub(crate) session: Option<&'a Session>,
    /// Owner against whose limits a retained message counts, if any.
    pub(crate) owner: Option<&'a Arc<Owner>>,
    /// Packet id at QoS 2, to be stored together with the message.
    pub(crate) received: Option<u16>,
    /// Action for full queues.
    pub(crate) full_queues: FullQueues,
    /// Whether the publisher's session is kept on disk.
    pub(crate) durable: bool,
}

/// Action of a publish for full queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FullQueues {
    /// Wait for queues that will have room soon; the message may be refused.
    #[default]
    Wait,
    /// Do not wait, because the publisher has already waited; the message may be refused.
    Waited,
    /// Deliver to the queues with room, and drop the message for the others.
    Drop,
}

/// Routes messages to their subscribers.
#[derive(Debug)]
pub(crate) struct Router {
    shared: Arc<BrokerState>,
    subscriptions: Arc<RwLock<Subscriptions<Arc<Session>>>>,
    /// Topics whose retained message was cleared, until that is on disk.
    cleared: Mutex<Uncommitted>,
    /// Clients whose subscriptions have changed, until that is on disk.
    filters_changed: Mutex<Uncommitted>,
}

impl Router {
    pub(crate) fn new(shared: Arc<BrokerState>) -> Self {
        Self {
            shared,
            subscriptions: Arc::default(),
            cleared: Mutex::default(),
            filters_changed: Mutex::default(),
        }
    }

    /// Routes a message to all subscribers, and stores it if it is retained.
    ///
    /// The operation is atomic: with [`Routed::Full`] and [`Routed::Refused`] no subscriber gets the message.
    pub(crate) fn route(
        &self,
        message: &Message,
        origin: Origin<'_>,
        scratch: &mut Scratch,
        targets: &mut Targets,
    ) -> Routed {
        targets.clear();
        let publisher = origin.session.map_or(0, |s| s.key);
        let added = self.find_targets(message, publisher, scratch, targets);
        let may_be_kept = message.retain || message.qos != QoS::AtMostOnce;
        let refusal = if may_be_kept { self.shared.disk_refusal() } else { None };
        if message.qos != QoS::AtMostOnce && origin.full_queues != FullQueues::Drop {
            let instead = match refusal {
                Some(text) if self.needs_disk(message, &origin, targets) => {
                    Counters::add(&self.shared.counters.refused_store, 1);
                    Some(Routed::Refused(Reason::QUOTA_EXCEEDED, text))
                }
                _ => self.refuse_if_full(message, origin.full_queues, targets, scratch),
            };
            if let Some(instead) = instead {
                targets.clear();
                return instead;
            }
        }
        let mut kept = None;
        let retain = message.retain && (refusal.is_none() || !self.is_kept(message));
        if message.retain && !retain {
            // A message at QoS 0 or a will is still delivered to subscribers.
            Counters::add(&self.shared.counters.refused_store, 1);
        }
        if retain
            && let Err(reason) = self.retain(message, &origin, &mut kept, scratch)
            && message.qos != QoS::AtMostOnce
        {
            targets.clear();
            return Routed::Refused(reason, "the broker retains no more messages");
        }
        if retain && added != self.subscriptions.read().added() {
            // Subscribers are matched again: a session that subscribed in between may have read the retained messages
            // before this one was stored.
            targets.clear();
            self.find_targets(message, publisher, scratch, targets);
        }
        if let (Some(packet_id), Some(session), true) = (origin.received, origin.session, origin.durable) {
            scratch.ops.push(Op::Received { key: session.key, packet_id });
        }
        scratch.frames.reset();
        let matched = !targets.is_empty();
        let unserved = self.shared.config.unserved.is_some() && self.is_unserved(message, targets);
        for target in targets.drain(..) {
            let delivery = Delivery {
                message,
                kept: &mut kept,
                qos: effective_qos(message.qos, target.qos),
                retain: message.retain && target.retain_as_published,
                identifiers: &target.identifiers,
                shared: target.shared.as_ref(),
            };
            target.subscriber.deliver(&self.shared, delivery, scratch);
        }
        let Some(publisher) = origin.session else { return Routed::Done { matched, unserved, ticket: 0 } };
        let mut ticket = scratch.settle_for(&self.shared, Some(publisher.key));
        scratch.settle(&self.shared);
        if retain && message.payload.is_empty() {
            ticket = self.note_cleared(&message.topic, ticket, publisher);
        }
        Routed::Done { matched, unserved, ticket }
    }

    /// Finds all deliveries of a message. Returns [`Subscriptions::added`] at that time.
    fn find_targets(
        &self,
        message: &Message,
        publisher: u64,
        scratch: &mut Scratch,
        targets: &mut Targets,
    ) -> u64 {
        let subscriptions = self.subscriptions.read();
        scratch.route_steps +=
            subscriptions.targets(&message.topic, publisher, message.qos, scratch.now, &self.shared, targets);
        subscriptions.added()
    }

    /// Returns whether a message is a request without a receiver. Subscribers that only monitor it do not count.
    fn is_unserved(&self, message: &Message, targets: &[Target<Arc<Session>>]) -> bool {
        let receivers = RequestReceivers::of(&self.shared.bus, &message.topic);
        !message.retain && receivers.is_some_and(|receivers| !receivers.are_in(targets))
    }

    /// Returns whether a message must be on disk before it is acknowledged.
    fn needs_disk(&self, message: &Message, origin: &Origin<'_>, targets: &[Target<Arc<Session>>]) -> bool {
        let queued = |target: &Target<Arc<Session>>| {
            effective_qos(message.qos, target.qos) != QoS::AtMostOnce
                && target.subscriber.state.lock().durable
        };
        origin.durable || message.retain && self.is_kept(message) || targets.iter().any(queued)
    }

    /// Returns whether a retained message takes space on disk; an empty one only deletes another.
    fn is_kept(&self, message: &Message) -> bool {
        self.shared.store.is_some() && !message.payload.is_empty() && !is_own_value(&message.topic)
    }

    /// Returns the result for a message at QoS 1 or 2 that must not be delivered because of full queues; `None` to
    /// deliver it.
    ///
    /// A full queue of an absent session, or of a client that reads nothing, is no reason to refuse a message to the
    /// others: the message is dropped for that session only. A request (a message with a Response Topic) for a shared
    /// group is different: if no member of the group has room and no other subscriber serves it, it is refused at
    /// once, because its caller has a deadline. Subscribers that only monitor the request do not answer it and do not
    /// count: on a bus those that are not among its [`RequestReceivers`], elsewhere a subscriber without a group whose
    /// filter is wider than the group's. Another group does count: otherwise the full group of an unrelated client
    /// could cause the requests to a server to be refused.
    fn refuse_if_full(
        &self,
        message: &Message,
        full_queues: FullQueues,
        targets: &[Target<Arc<Session>>],
        scratch: &mut Scratch,
    ) -> Option<Routed> {
        let shared = &*self.shared;
        let queued =
            |target: &Target<Arc<Session>>| effective_qos(message.qos, target.qos) != QoS::AtMostOnce;
        let mut soon = None;
        let mut full = None;
        let receivers = RequestReceivers::of(&shared.bus, &message.topic);
        let is_onlooker = |target| receivers.is_some_and(|receivers| !receivers.have(target));
        // Specificity of the filters of a full group, of the subscribers with room, and of the groups with room.
        let (mut group_full, mut taken, mut taken_by_group) = (None, None, false);
        for target in targets {
            let room =
                if queued(target) { target.subscriber.room_for_live(shared, scratch) } else { Room::Free };
            match room {
                Room::Free => {
                    if (queued(target) || target.subscriber.is_connected()) && !is_onlooker(target) {
                        taken = taken.max(Some(target.named));
                        taken_by_group |= target.shared.is_some();
                    }
                    continue;
                }
                Room::Soon(_) => soon = soon.or(Some(target)),
                Room::None => full = full.or(Some(target)),
            }
            if target.shared.is_some() && !is_onlooker(target) {
                group_full = group_full.max(Some(target.named));
            }
        }
        let refused = || {
            for full in targets.iter().filter(|target| queued(target)) {
                full.subscriber.note_refusal(shared, scratch.now);
            }
            Counters::add(&shared.counters.refused_queue_full, 1);
            Some(Routed::Refused(Reason::QUOTA_EXCEEDED, "the queues of its subscribers are full"))
        };
        let request = message.properties.response_topic.is_some() && !message.retain;
        if request && !taken_by_group && group_full > taken {
            return refused();
        }
        soon.or(full)?;
        let rule = shared.queue_full(&message.topic);
        let waits_for = if rule == QueueFull::Refuse { soon.or(full) } else { soon };
        if let Some(target) = waits_for
            && full_queues == FullQueues::Wait
        {
            return Some(Routed::Full(target.subscriber.clone()));
        }
        if waits_for.is_some() && rule == QueueFull::Refuse { refused() } else { None }
    }

    /// Sets or clears the retained message of a topic \[MQTT-3.3.1-5, MQTT-3.3.1-6].
    fn retain(
        &self,
        message: &Message,
        origin: &Origin<'_>,
        kept: &mut Option<Arc<Message>>,
        scratch: &mut Scratch,
    ) -> Result<(), Reason> {
        let on_disk = self.shared.store.is_some() && !is_own_value(&message.topic);
        if message.payload.is_empty() {
            if self.shared.retained.write().remove(&message.topic) && on_disk {
                scratch.ops.push(Op::Unretain { topic: ByteString::from(&*message.topic) });
            }
            return Ok(());
        }
        let limit = self.retained_limit(origin.session);
        let mut retained = self.shared.retained.write();
        let mut grown = 0;
        // The broker's own values are neither counted nor refused.
        if !is_own_value(&message.topic) {
            let growth = retained.growth(message);
            grown = growth.bytes;
            if let Err(excess) = retained.admit(origin.owner, growth, limit) {
                drop(retained);
                self.note_refused_retained(origin, excess);
                return Err(Reason::QUOTA_EXCEEDED);
            }
        }
        let message = kept.get_or_insert_with(|| Arc::new(message.compact())).clone();
        retained.insert(message.clone(), origin.owner);
        scratch.route_steps += STEPS_PER_RETAINED;
        if let Some(owner) = origin.owner.filter(|_| grown > 0) {
            let held = retained.bytes_of(owner);
            drop(retained);
            if let Some(wait) = self.shared.growth.add(owner, held, grown, scratch.now) {
                scratch.pause(wait);
                self.note_paced(origin, owner);
            }
        }
        if on_disk {
            scratch.ops.push(Op::Retain { message });
        }
        Ok(())
    }

    /// Records that the retained message of a topic was cleared with `ticket`. Returns the ticket with which it is
    /// gone from disk. This may be an earlier one: the message may have been cleared before, on a connection that was
    /// lost before the acknowledgement.
    fn note_cleared(&self, topic: &ByteString, ticket: Ticket, publisher: &Session) -> Ticket {
        self.note_change(&self.cleared, topic, ticket, publisher)
    }

    /// Records that subscriptions of a session have changed with `ticket`, which is 0 if nothing had to be changed.
    /// Returns the ticket with which all changes so far are on disk. An earlier packet, on a connection that was lost
    /// before the acknowledgement, may have made the same change.
    pub(crate) fn note_filters_changed(&self, session: &Session, ticket: Ticket) -> Ticket {
        self.note_change(&self.filters_changed, &session.client_id, ticket, session)
    }

    fn note_change(
        &self,
        changes: &Mutex<Uncommitted>,
        name: &ByteString,
        ticket: Ticket,
        session: &Session,
    ) -> Ticket {
        let (mut changes, durable) = (changes.lock(), self.shared.durable());
        if ticket > 0 {
            changes.forget(durable);
            changes.add(&ByteString::from(&**name), ticket);
        } else if changes.ticket(name, durable).is_some() {
            // A new operation after the change, so that this session is woken when it is on disk.
            return self.shared.put([], Some(session.key));
        }
        ticket
    }

    /// Removes the records of changes that are on disk.
    pub(crate) fn forget_changes(&self, durable: Ticket) {
        self.cleared.lock().forget(durable);
        self.filters_changed.lock().forget(durable);
    }

    /// Returns the limit of all retained messages; zero while memory is short, so that nothing may be added.
    fn retained_limit(&self, publisher: Option<&Session>) -> Amount {
        let memory = &self.shared.memory;
        if memory.at(Stage::Keeping) && !publisher.is_some_and(|p| p.state.lock().principal.local) {
            return Amount::default();
        }
        Amount { count: self.shared.limits().retained, bytes: memory.retained_bytes }
    }

    fn note_refused_retained(&self, origin: &Origin<'_>, excess: Excess) {
        let shared = &*self.shared;
        Counters::add(&shared.counters.refused_retained, 1);
        let share = excess == Excess::Share;
        Counters::add(&shared.counters.refused_shares, u64::from(share));
        if let Some(session) = origin.session
            && shared.may_log_limit(&mut session.state.lock().logged, ReachedLimit::Retained)
        {
            let (client, owner) = (ClientText(&session.client_id), origin.owner.map(ToString::to_string));
            tracing::warn!(%client, owner, share, "refused: more retained messages than allowed");
        }
    }

    fn note_paced(&self, origin: &Origin<'_>, owner: &Owner) {
        let shared = &*self.shared;
        Counters::add(&shared.counters.retained_paced, 1);
        if let Some(session) = origin.session
            && shared.may_log_limit(&mut session.state.lock().logged, ReachedLimit::RetainedGrowth)
        {
            let client = ClientText(&session.client_id);
            tracing::warn!(%client, %owner, "its retained messages grow fast and take much: it is read more slowly");
        }
    }

    /// Publishes a will in the same way as [`publish_own`](Self::publish_own).
    pub(crate) fn publish_will(&self, will: &HeldWill, scratch: &mut Scratch) {
        let mut message = will.message.clone();
        message.expires = will.expiry.map(|seconds| scratch.now + u64::from(seconds) * 1000);
        let (owner, full_queues) = (will.owner(), FullQueues::Drop);
        self.route(&message, Origin { owner, full_queues, ..Origin::default() }, scratch, &mut Vec::new());
    }

    /// Publishes a message of the broker itself, for which no client waits. The caller passes `scratch` to the store,
    /// together with other operations of the same commit.
    pub(crate) fn publish_own(&self, message: &Message, scratch: &mut Scratch) {
        let origin = Origin { full_queues: FullQueues::Drop, ..Origin::default() };
        self.route(message, origin, scratch, &mut Vec::new());
    }

    /// Passes the unacknowledged messages of a member of a shared group on to other members (MQTT 5, 4.8.2), and
    /// passes `scratch` to the store. Returns the ticket.
    pub(crate) fn pass_on(&self, left: Vec<(ByteString, Arc<Message>)>, scratch: &mut Scratch) -> Ticket {
        // A group that has no room is not searched again for its further messages.
        let mut full: Option<(ByteString, Target<Arc<Session>>)> = None;
        for (filter, message) in left {
            let known = full.take().filter(|(of, _)| *of == filter).map(|(_, target)| (target, true));
            let another = known.or_else(|| {
                let subscriptions = self.subscriptions.read();
                subscriptions.another(&filter, &message.topic, message.qos, scratch.now, &self.shared)
            });
            let Some((target, has_no_room)) = another else { continue };
            scratch.frames.reset();
            let delivery = Delivery {
                message: &message,
                kept: &mut Some(message.clone()),
                qos: effective_qos(message.qos, target.qos),
                retain: message.retain && target.retain_as_published,
                identifiers: &target.identifiers,
                shared: Some(&filter),
            };
            target.subscriber.deliver(&self.shared, delivery, scratch);
            if has_no_room {
                full = Some((filter, target));
            }
        }
        scratch.settle(&self.shared)
    }

    /// Returns the number of subscriptions.
    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.read().count()
    }
}

#[cfg(test)]
mod tests;
