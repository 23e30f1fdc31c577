//! A publish: match, store, hand to each session's outbox.

use std::sync::Arc;

use bytestring::ByteString;
use parking_lot::RwLock;

use crate::access::Action;
use crate::codec::{Options, Reason, Will};
use crate::config::QueueFull;
use crate::counters::Counters;
use crate::message::{Message, QoS, effective_qos};
use crate::session::{Delivery, Room, Scratch, Session};
use crate::shared::Shared;
use crate::store::{Op, SubscriptionRecord, Ticket};
use crate::subscriptions::{Subscription, Subscriptions, Target};

/// The deliveries that a publish asks for.
pub(crate) type Targets = Vec<Target<Arc<Session>>>;

/// What became of a publish.
#[derive(Debug)]
pub(crate) enum Routed {
    Done {
        /// Whether anyone was subscribed.
        matched: bool,
        /// What has to be on disk before it is acknowledged.
        ticket: Ticket,
    },
    /// Nothing has been done yet: the publisher is to wait for room in the queue of this session.
    Full(Arc<Session>),
    /// Nothing has been done, and never will.
    Refused(Reason, &'static str),
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin<'a> {
    /// The publisher's session, for No Local and to be woken; `None` for the broker itself and for wills.
    pub(crate) session: Option<&'a Session>,
    /// Its packet id at QoS 2, to be kept together with the message.
    pub(crate) received: Option<u16>,
    /// What happens where a queue is full.
    pub(crate) full_queues: FullQueues,
    /// The publisher's session is kept on disk.
    pub(crate) durable: bool,
}

/// What a publish does about queues that are full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FullQueues {
    /// It waits for those that will have room soon, and may be refused.
    #[default]
    Wait,
    /// It has waited, and may be refused.
    Waited,
    /// It is delivered where there is room and dropped elsewhere.
    Drop,
}

/// Takes messages to whoever has subscribed.
#[derive(Debug)]
pub(crate) struct Router {
    shared: Arc<Shared>,
    subscriptions: RwLock<Subscriptions<Arc<Session>>>,
}

impl Router {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, subscriptions: RwLock::default() }
    }

    /// Routes a message to everyone subscribed, and keeps it where it is retained.
    ///
    /// All of it or nothing: with [`Routed::Full`] and [`Routed::Refused`] nobody has got it.
    pub(crate) fn route(
        &self,
        message: &Message,
        origin: Origin<'_>,
        scratch: &mut Scratch,
        targets: &mut Targets,
    ) -> Routed {
        targets.clear();
        let publisher = origin.session.map_or(0, |s| s.key);
        let limits = &self.shared.config.limits;
        self.subscriptions.read().targets(&message.topic, publisher, message.qos, limits, targets);
        let may_be_kept = message.retain || message.qos != QoS::AtMostOnce;
        let refusal = if may_be_kept { self.shared.disk_refusal() } else { None };
        if message.qos != QoS::AtMostOnce && origin.full_queues != FullQueues::Drop {
            let instead = match refusal {
                Some(text) if self.needs_disk(message, &origin, targets) => {
                    Counters::add(&self.shared.counters.refused_store, 1);
                    Some(Routed::Refused(Reason::QUOTA_EXCEEDED, text))
                }
                _ => self.look_for_room(message, origin.full_queues, targets),
            };
            if let Some(instead) = instead {
                targets.clear();
                return instead;
            }
        }
        let mut kept = None;
        let retain = message.retain && (refusal.is_none() || !self.is_kept(message));
        if message.retain && !retain {
            // At QoS 0, or a will: whoever is subscribed gets it all the same.
            Counters::add(&self.shared.counters.refused_store, 1);
        }
        if retain
            && let Err(reason) = self.retain(message, &mut kept, scratch)
            && message.qos != QoS::AtMostOnce
        {
            targets.clear();
            return Routed::Refused(reason, "the broker retains no more messages");
        }
        if let (Some(packet_id), Some(session), true) = (origin.received, origin.session, origin.durable) {
            scratch.ops.push(Op::Received { key: session.key, packet_id });
        }
        scratch.frames.reset();
        let matched = !targets.is_empty();
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
        let ticket = scratch.settle_for(&self.shared, origin.session.map(|s| s.key));
        scratch.settle(&self.shared);
        Routed::Done { matched, ticket }
    }

    /// Whether a message is to be on disk before it is acknowledged.
    fn needs_disk(&self, message: &Message, origin: &Origin<'_>, targets: &[Target<Arc<Session>>]) -> bool {
        let queued = |target: &Target<Arc<Session>>| {
            effective_qos(message.qos, target.qos) != QoS::AtMostOnce
                && target.subscriber.state.lock().durable
        };
        origin.durable || message.retain && self.is_kept(message) || targets.iter().any(queued)
    }

    /// Whether a retained message takes room on disk: an empty one clears another.
    fn is_kept(&self, message: &Message) -> bool {
        self.shared.store.is_some() && !message.payload.is_empty() && !message.topic.starts_with("$SYS/")
    }

    /// What is to be done instead of delivering a message at QoS 1 or 2, because of queues that are full.
    ///
    /// A session that is away or takes nothing is no reason to refuse a message to the others: what does not fit is
    /// dropped for it alone. A request (it has a Response Topic) for a shared group is different: where no member of the
    /// group has room and nobody else takes it, it is refused, and at once, for its caller has a deadline.
    fn look_for_room(
        &self,
        message: &Message,
        full_queues: FullQueues,
        targets: &[Target<Arc<Session>>],
    ) -> Option<Routed> {
        let limits = &self.shared.config.limits;
        let queued =
            |target: &Target<Arc<Session>>| effective_qos(message.qos, target.qos) != QoS::AtMostOnce;
        let mut soon = None;
        let mut full = None;
        let mut group_full = false;
        let mut taken = false;
        for target in targets {
            let room = if queued(target) { target.subscriber.room(limits) } else { Room::Free };
            match room {
                Room::Free => {
                    taken |= queued(target) || target.subscriber.is_connected();
                    continue;
                }
                Room::Soon(_) => soon = soon.or(Some(target)),
                Room::None => full = full.or(Some(target)),
            }
            group_full |= target.shared.is_some();
        }
        let refused = || {
            for full in targets.iter().filter(|target| queued(target)) {
                full.subscriber.note_refusal(limits);
            }
            Counters::add(&self.shared.counters.refused_queue_full, 1);
            Some(Routed::Refused(Reason::QUOTA_EXCEEDED, "the queues of its subscribers are full"))
        };
        let request = message.properties.response_topic.is_some() && !message.retain;
        if request && group_full && !taken {
            return refused();
        }
        let waits_for = match limits.queue_full {
            QueueFull::Drop => soon,
            QueueFull::Refuse => soon.or(full),
        };
        if let Some(target) = waits_for
            && full_queues == FullQueues::Wait
        {
            return Some(Routed::Full(target.subscriber.clone()));
        }
        let refuse = waits_for.is_some() && limits.queue_full == QueueFull::Refuse;
        if refuse { refused() } else { None }
    }

    /// Sets or clears the retained message of a topic \[MQTT-3.3.1-5, MQTT-3.3.1-6].
    fn retain(
        &self,
        message: &Message,
        kept: &mut Option<Arc<Message>>,
        scratch: &mut Scratch,
    ) -> Result<(), Reason> {
        let on_disk = self.shared.store.is_some() && !message.topic.starts_with("$SYS/");
        if message.payload.is_empty() {
            if self.shared.retained.write().remove(&message.topic) && on_disk {
                scratch.ops.push(Op::Unretain { topic: ByteString::from(&*message.topic) });
            }
            return Ok(());
        }
        let mut retained = self.shared.retained.write();
        // The broker's own values neither count nor are refused.
        if !message.topic.starts_with("$SYS/")
            && retained.count() >= self.shared.config.limits.retained
            && !retained.contains(&message.topic)
        {
            Counters::add(&self.shared.counters.refused_retained, 1);
            return Err(Reason::QUOTA_EXCEEDED);
        }
        let message = kept.get_or_insert_with(|| Arc::new(message.compact())).clone();
        retained.insert(message.clone());
        if on_disk {
            scratch.ops.push(Op::Retain { message });
        }
        Ok(())
    }

    /// Publishes a will.
    pub(crate) fn publish_will(&self, will: &Will, scratch: &mut Scratch) {
        let mut message = will.message.clone();
        message.expires = will.expiry.map(|seconds| scratch.now + u64::from(seconds) * 1000);
        self.publish_own(&message, scratch);
    }

    /// Publishes what no client waits for.
    pub(crate) fn publish_own(&self, message: &Message, scratch: &mut Scratch) {
        let origin = Origin { full_queues: FullQueues::Drop, ..Origin::default() };
        self.route(message, origin, scratch, &mut Vec::new());
    }

    /// Gives what the member of a shared group left behind to another member (MQTT 5, 4.8.2).
    pub(crate) fn pass_on(&self, left: Vec<(ByteString, Arc<Message>)>, scratch: &mut Scratch) {
        for (filter, message) in left {
            let limits = &self.shared.config.limits;
            let another = self.subscriptions.read().another(&filter, &message.topic, message.qos, limits);
            let Some(target) = another else { continue };
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
        }
        scratch.settle(&self.shared);
    }

    /// Subscribes a session; whether the filter is new to it.
    pub(crate) fn subscribe(
        &self,
        session: &Arc<Session>,
        filter: &ByteString,
        options: Options,
        identifier: Option<u32>,
        scratch: &mut Scratch,
    ) -> Result<bool, Reason> {
        let mut state = session.state.lock();
        if state.ended {
            return Err(Reason::SESSION_TAKEN_OVER);
        }
        self.shared.access.authorize(&state.principal, Action::Subscribe, filter)?;
        let known = state.subscriptions.contains_key(filter);
        if state.durable && self.shared.disk_refusal().is_some() {
            if state.subscriptions.get(filter) == Some(&(options, identifier)) {
                return Ok(false);
            }
            Counters::add(&self.shared.counters.refused_store, 1);
            return Err(Reason::QUOTA_EXCEEDED);
        }
        if !known && state.subscriptions.len() >= self.shared.config.limits.subscriptions {
            return Err(Reason::QUOTA_EXCEEDED);
        }
        state.subscriptions.insert(filter.clone(), (options, identifier));
        let subscription = Subscription { subscriber: session.clone(), options, identifier };
        self.subscriptions.write().insert(filter, subscription);
        if state.durable {
            let options = SubscriptionRecord {
                qos: options.qos,
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                retain_handling: options.retain_handling as u8,
                identifier,
            };
            scratch.ops.push(Op::Subscribe { key: session.key, filter: filter.clone(), options });
        }
        Ok(!known)
    }

    /// Ends a subscription; false where there was none.
    pub(crate) fn unsubscribe(
        &self,
        session: &Arc<Session>,
        filter: &ByteString,
        scratch: &mut Scratch,
    ) -> bool {
        let mut state = session.state.lock();
        if state.subscriptions.remove(filter).is_none() {
            return false;
        }
        self.subscriptions.write().remove(filter, session.key);
        if state.durable {
            scratch.ops.push(Op::Unsubscribe { key: session.key, filter: filter.clone() });
        }
        true
    }

    /// Takes back a subscription that was kept on disk.
    pub(crate) fn restore(&self, filter: &ByteString, subscription: Subscription<Arc<Session>>) {
        self.subscriptions.write().insert(filter, subscription);
    }

    /// Ends the subscriptions of a session that ends.
    pub(crate) fn unsubscribe_all<'a>(&self, filters: impl Iterator<Item = &'a ByteString>, key: u64) {
        let mut subscriptions = self.subscriptions.write();
        for filter in filters {
            subscriptions.remove(filter, key);
        }
    }

    /// How many subscriptions there are.
    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.read().count()
    }
}
