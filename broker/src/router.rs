//! Routing of a publish: matches subscriptions, stores the message, appends it to each session's outbox.

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
use crate::logged::Met;
use crate::memory::Stage;
use crate::message::{Message, QoS, effective_qos};
use crate::owner::Owner;
use crate::session::{Delivery, Room, Scratch, Session};
use crate::shared::Shared;
use crate::store::{Op, Ticket, Uncommitted};
use crate::subscriptions::{Subscriptions, Target};
use crate::topic::is_own_value;
use crate::wills::HeldWill;
use receivers::RequestReceivers;

/// Routing steps charged for a message that is retained: it is copied, and two ordered maps are searched.
const STEPS_A_RETAINED: usize = 24;

/// Deliveries that a publish requires.
pub(crate) type Targets = Vec<Target<Arc<Session>>>;

/// Outcome of a publish.
#[derive(Debug)]
pub(crate) enum Routed {
    Done {
        /// Whether there was at least one subscriber.
        matched: bool,
        /// Whether the message is a request that none of its subscribers serves.
        unserved: bool,
        /// Ticket that must be on disk before the publish is acknowledged.
        ticket: Ticket,
    },
    /// Nothing has been done yet: the publisher must wait for room in the queue of this session.
    Full(Arc<Session>),
    /// Nothing has been done, and the message is not delivered.
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
    /// What to do about full queues.
    pub(crate) full_queues: FullQueues,
    /// Whether the publisher's session is kept on disk.
    pub(crate) durable: bool,
}

/// What a publish does about full queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FullQueues {
    /// It waits for queues that will have room soon, and may be refused.
    #[default]
    Wait,
    /// It has already waited, and may be refused.
    Waited,
    /// It is delivered to the queues with room and dropped for the others.
    Drop,
}

/// Routes messages to their subscribers.
#[derive(Debug)]
pub(crate) struct Router {
    shared: Arc<Shared>,
    subscriptions: Arc<RwLock<Subscriptions<Arc<Session>>>>,
    /// Topics whose retained message was cleared.
    cleared: Mutex<Uncommitted>,
    /// Clients whose subscriptions have changed.
    filters_changed: Mutex<Uncommitted>,
}

impl Router {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            subscriptions: Arc::default(),
            cleared: Mutex::default(),
            filters_changed: Mutex::default(),
        }
    }

    /// Routes a message to all subscribers, and keeps it if it is retained.
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
        let added = self.look_for_targets(message, publisher, scratch, targets);
        let may_be_kept = message.retain || message.qos != QoS::AtMostOnce;
        let refusal = if may_be_kept { self.shared.disk_refusal() } else { None };
        if message.qos != QoS::AtMostOnce && origin.full_queues != FullQueues::Drop {
            let instead = match refusal {
                Some(text) if self.needs_disk(message, &origin, targets) => {
                    Counters::add(&self.shared.counters.refused_store, 1);
                    Some(Routed::Refused(Reason::QUOTA_EXCEEDED, text))
                }
                _ => self.look_for_room(message, origin.full_queues, targets, scratch),
            };
            if let Some(instead) = instead {
                targets.clear();
                return instead;
            }
        }
        let mut kept = None;
        let retain = message.retain && (refusal.is_none() || !self.is_kept(message));
        if message.retain && !retain {
            // At QoS 0, or a will: subscribers get the message all the same.
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
            // Matched again: a session that subscribed in between may have read the retained messages before this one
            // was kept.
            targets.clear();
            self.look_for_targets(message, publisher, scratch, targets);
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

    /// Finds all deliveries of a message. Returns the number of subscriptions made until then.
    fn look_for_targets(
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

    /// Checks whether a message is a request without a receiver; subscribers that only monitor it do not count.
    fn is_unserved(&self, message: &Message, targets: &[Target<Arc<Session>>]) -> bool {
        let receivers = RequestReceivers::of(&self.shared.bus, &message.topic);
        !message.retain && receivers.is_some_and(|receivers| !receivers.are_in(targets))
    }

    /// Checks whether a message must be on disk before it is acknowledged.
    fn needs_disk(&self, message: &Message, origin: &Origin<'_>, targets: &[Target<Arc<Session>>]) -> bool {
        let queued = |target: &Target<Arc<Session>>| {
            effective_qos(message.qos, target.qos) != QoS::AtMostOnce
                && target.subscriber.state.lock().durable
        };
        origin.durable || message.retain && self.is_kept(message) || targets.iter().any(queued)
    }

    /// Checks whether a retained message takes space on disk: an empty one only deletes another.
    fn is_kept(&self, message: &Message) -> bool {
        self.shared.store.is_some() && !message.payload.is_empty() && !is_own_value(&message.topic)
    }

    /// Returns what to do instead of delivering a message at QoS 1 or 2 because of full queues, or `None` to deliver
    /// it.
    ///
    /// An absent session, or one whose client reads nothing, is no reason to refuse a message to the others: it is
    /// dropped for that session alone. A request (a message with a Response Topic) for a shared group is different: if
    /// no member of the group has room and no other subscriber serves it, it is refused, and at once, as its caller has
    /// a deadline. Subscribers that only monitor the request do not answer it and do not count: on a bus those that are
    /// not among its [`RequestReceivers`], elsewhere a subscriber without a group whose filter is wider than the
    /// group's. Another group does count: otherwise the full group of an unrelated client could have the requests to a
    /// server refused.
    fn look_for_room(
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
        // Specificity of the filters of a full group and of the subscribers that take the message.
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
        scratch.route_steps += STEPS_A_RETAINED;
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

    /// Notes that the retained message of a topic was cleared with `ticket`. Returns the ticket by which it is gone from
    /// disk: it may have been cleared before, on a connection that was lost before that was acknowledged.
    fn note_cleared(&self, topic: &ByteString, ticket: Ticket, publisher: &Session) -> Ticket {
        self.note_change(&self.cleared, topic, ticket, publisher)
    }

    /// Notes that subscriptions of a session have changed with `ticket`, 0 if nothing was to be changed. Returns the
    /// ticket by which all changes until now are on disk: what a packet asks for may be there already by an earlier one,
    /// of a connection that was lost before that was acknowledged.
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
            // Behind the change, with a wake for this session.
            return self.shared.put([], Some(session.key));
        }
        ticket
    }

    /// Forgets changes that are on disk.
    pub(crate) fn forget_changes(&self, durable: Ticket) {
        self.cleared.lock().forget(durable);
        self.filters_changed.lock().forget(durable);
    }

    /// Returns the limit of all retained messages together; zero while memory is short, so that nothing may be added.
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
            && shared.may_log_limit(&mut session.state.lock().logged, Met::Retained)
        {
            let (client, owner) = (ClientText(&session.client_id), origin.owner.map(ToString::to_string));
            tracing::warn!(%client, owner, share, "refused: more retained messages than allowed");
        }
    }

    fn note_paced(&self, origin: &Origin<'_>, owner: &Owner) {
        let shared = &*self.shared;
        Counters::add(&shared.counters.retained_paced, 1);
        if let Some(session) = origin.session
            && shared.may_log_limit(&mut session.state.lock().logged, Met::RetainedGrowth)
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

    /// Publishes a message of the broker itself, for which no client waits. The caller settles `scratch`, together with
    /// what else belongs in the same commit.
    pub(crate) fn publish_own(&self, message: &Message, scratch: &mut Scratch) {
        let origin = Origin { full_queues: FullQueues::Drop, ..Origin::default() };
        self.route(message, origin, scratch, &mut Vec::new());
    }

    /// Passes messages that a member of a shared group left behind to other members (MQTT 5, 4.8.2), and settles
    /// `scratch`. Returns the ticket of that.
    pub(crate) fn pass_on(&self, left: Vec<(ByteString, Arc<Message>)>, scratch: &mut Scratch) -> Ticket {
        // Once a group has no room, it is not searched again for each further message to it.
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
