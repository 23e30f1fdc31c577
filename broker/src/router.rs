//! A publish: match, store, hand to each session's outbox.

use std::sync::Arc;

use bytestring::ByteString;

use crate::clock::now_ms;
use crate::codec::{Reason, Will};
use crate::counters::Counters;
use crate::hub::Hub;
use crate::link::effective;
use crate::message::{Message, QoS};
use crate::session::{Delivery, Scratch, Session};
use crate::store::{Op, Ticket};
use crate::subscriptions::Target;

/// What became of a publish.
#[derive(Debug)]
pub(crate) enum Routed {
    Done {
        /// Whether anyone was subscribed.
        matched: bool,
        /// What has to be on disk before it is acknowledged.
        ticket: Ticket,
    },
    /// Nothing has been done yet: the queue of this session is full.
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
    /// Delivered even where a queue is full; what does not fit is dropped and counted.
    pub(crate) without_waiting: bool,
    /// The publisher's session is kept on disk.
    pub(crate) durable: bool,
}

impl Hub {
    /// Routes a message to everyone subscribed, and keeps it where it is retained.
    ///
    /// All of it or nothing: with [`Routed::Full`] and [`Routed::Refused`] nobody has got it.
    pub(crate) fn route(
        &self,
        message: &Message,
        origin: Origin<'_>,
        scratch: &mut Scratch,
        targets: &mut Vec<Target>,
    ) -> Routed {
        targets.clear();
        let publisher = origin.session.map_or(0, |s| s.key);
        self.subscriptions.read().targets(&message.topic, publisher, message.qos, targets);
        if message.qos != QoS::AtMostOnce && !origin.without_waiting {
            let limits = &self.config.limits;
            let waits =
                |t: &&Target| effective(message.qos, t.qos) != QoS::AtMostOnce && t.session.must_wait(limits);
            if let Some(full) = targets.iter().find(waits) {
                let session = full.session.clone();
                targets.clear();
                return Routed::Full(session);
            }
        }
        let mut kept = None;
        if message.retain
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
        let now = now_ms();
        for target in targets.drain(..) {
            let delivery = Delivery {
                message,
                kept: &mut kept,
                qos: effective(message.qos, target.qos),
                retain: message.retain && target.retain_as_published,
                identifiers: &target.identifiers,
                shared: target.shared.as_ref(),
                now,
            };
            target.session.deliver(self, delivery, scratch);
        }
        let ticket = self.settle_for(scratch, origin.session.map(|s| s.key));
        self.settle(scratch);
        Routed::Done { matched, ticket }
    }

    /// Sets or clears the retained message of a topic \[MQTT-3.3.1-5, MQTT-3.3.1-6].
    fn retain(
        &self,
        message: &Message,
        kept: &mut Option<Arc<Message>>,
        scratch: &mut Scratch,
    ) -> Result<(), Reason> {
        let on_disk = self.store.is_some() && !message.topic.starts_with("$SYS/");
        if message.payload.is_empty() {
            if self.retained.write().remove(&message.topic) && on_disk {
                scratch.ops.push(Op::Unretain { topic: ByteString::from(&*message.topic) });
            }
            return Ok(());
        }
        let mut retained = self.retained.write();
        if retained.count() >= self.config.limits.retained && !retained.contains(&message.topic) {
            Counters::add(&self.counters.refused_retained, 1);
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
        message.expires = will.expiry.map(|seconds| now_ms() + u64::from(seconds) * 1000);
        self.publish_own(&message, scratch);
    }

    /// Publishes what no client waits for.
    pub(crate) fn publish_own(&self, message: &Message, scratch: &mut Scratch) {
        let origin = Origin { without_waiting: true, ..Origin::default() };
        self.route(message, origin, scratch, &mut Vec::new());
    }

    /// Gives what the member of a shared group left behind to another member (MQTT 5, 4.8.2).
    pub(crate) fn pass_on(&self, left: Vec<(ByteString, Arc<Message>)>, scratch: &mut Scratch) {
        for (filter, message) in left {
            let another = self.subscriptions.read().another(&filter, &message.topic, message.qos);
            let Some(target) = another else { continue };
            scratch.frames.reset();
            let delivery = Delivery {
                message: &message,
                kept: &mut Some(message.clone()),
                qos: effective(message.qos, target.qos),
                retain: message.retain && target.retain_as_published,
                identifiers: &target.identifiers,
                shared: Some(&filter),
                now: now_ms(),
            };
            target.session.deliver(self, delivery, scratch);
        }
        self.settle(scratch);
    }
}
