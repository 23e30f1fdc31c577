//! Messages: their state at their publisher, and the clients that have received them.

use std::collections::BTreeMap;

use super::super::client::Profile;
use super::super::seeds::States;
use super::super::wire::{Property, Publish, Will};
use super::Arrival;
use super::subscriptions::{Routed, Subscribed};

/// Publisher and number of a message.
pub(super) type MessageId = (String, u64);

#[derive(Debug, Default)]
pub(super) struct MessageRecord {
    pub(super) published: BTreeMap<MessageId, Published>,
    /// Copies received, by receiver (the members of a shared group count as one) and message.
    delivered: BTreeMap<(&'static str, MessageId), Copies>,
    /// Number of times that a message arrived at one QoS in one session of a client, or in a group.
    in_session: BTreeMap<(&'static str, u32, u8, MessageId), u32>,
    /// Number of sessions that clients have begun.
    sessions: BTreeMap<&'static str, u32>,
    /// Last new number by client, publisher, topic and QoS, and the tick of its arrival.
    last: BTreeMap<(&'static str, String, String, u8), (u64, u64)>,
    /// Retained message last read, by client and topic.
    pub(super) read: BTreeMap<(&'static str, String), u64>,
    /// Whether queues are so small that messages may be dropped.
    pub(super) may_drop: bool,
    /// Whether the disk has failed, so that messages were refused.
    pub(super) may_refuse: bool,
    /// Whether a member of the shared group has ended its session.
    pub(super) group_may_lose: bool,
}

#[derive(Debug)]
pub(super) struct Published {
    pub(super) topic: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// Whether the payload is empty, so that the message clears the retained one.
    pub(super) clears: bool,
    /// Tick of the first transmission.
    sent: u64,
    pub(super) is_sent_again: bool,
    pub(super) fate: Fate,
    /// Message Expiry Interval, in milliseconds.
    pub(super) expiry: Option<u64>,
    pub(super) sent_ms: u64,
    /// Time at which the broker had certainly accepted the last transmission, in milliseconds since 1970. The message
    /// expires at most its interval later.
    taken_ms: Option<u64>,
}

/// State of a message, as known to its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    /// Acknowledged; the tick of PUBACK or PUBREC.
    Accepted(u64),
    Refused,
    /// Discarded with its session before it was acknowledged.
    GivenUp,
}

/// Number of arrivals of a message.
#[derive(Debug, Default)]
struct Copies {
    /// Time of the first arrival, in milliseconds since 1970.
    first: u64,
    live: u32,
}

/// Message that has arrived at a client.
pub(super) struct Delivery<'a> {
    pub(super) to: &'a Profile,
    pub(super) arrival: &'a Arrival<'a>,
    pub(super) tick: u64,
    pub(super) now: u64,
    /// Time in milliseconds for which it may have waited for the disk.
    pub(super) disk_lag: u64,
}

fn message_id(publish: &Publish) -> Option<MessageId> {
    let (publisher, number) = publish.text().split_once(':')?;
    Some((publisher.to_owned(), number.parse().expect("a number")))
}

fn is_will((publisher, _): &MessageId) -> bool {
    publisher.starts_with("will-")
}

/// Returns the Message Expiry Interval, in milliseconds.
fn expiry(publish: &Publish) -> Option<u64> {
    publish.properties.iter().find_map(|property| match property {
        Property::MessageExpiry(seconds) => Some(u64::from(*seconds) * 1000),
        _ => None,
    })
}

impl Published {
    fn routed(&self) -> Routed {
        let done = if let Fate::Accepted(tick) = self.fate { tick } else { u64::MAX };
        Routed { sent: self.sent, done }
    }

    /// Returns the time at which the message has certainly expired, in milliseconds since 1970.
    fn expires(&self) -> Option<u64> {
        Some(self.taken_ms? + self.expiry?)
    }
}

impl MessageRecord {
    pub(super) fn published(
        &mut self,
        client: &str,
        number: u64,
        publish: &Publish,
        (tick, now): (u64, u64),
    ) {
        let published = Published {
            topic: publish.topic.clone(),
            qos: publish.qos,
            retain: publish.retain,
            clears: publish.payload.is_empty(),
            sent: tick,
            is_sent_again: false,
            fate: Fate::Open,
            expiry: expiry(publish),
            sent_ms: now,
            taken_ms: None,
        };
        self.published.insert((client.to_owned(), number), published);
    }

    pub(super) fn add_will(&mut self, publisher: String, number: u64, will: &Will, tick: u64) {
        let message = Published {
            topic: will.topic.clone(),
            qos: will.qos,
            retain: will.retain,
            clears: false,
            sent: tick,
            is_sent_again: false,
            fate: Fate::Open,
            expiry: None,
            sent_ms: 0,
            taken_ms: None,
        };
        self.published.insert((publisher, number), message);
    }

    fn of(&mut self, client: &str, number: u64) -> &mut Published {
        self.published.get_mut(&(client.to_owned(), number)).expect("published before")
    }

    pub(super) fn sent_again(&mut self, client: &str, number: u64) {
        self.of(client, number).is_sent_again = true;
    }

    pub(super) fn accepted(&mut self, client: &str, number: u64, (tick, now): (u64, u64)) {
        let published = self.of(client, number);
        // PUBREC may arrive twice.
        if published.fate == Fate::Open {
            published.fate = Fate::Accepted(tick);
            published.taken_ms = Some(now);
        }
    }

    pub(super) fn session_began(&mut self, client: &'static str) {
        *self.sessions.entry(client).or_default() += 1;
    }

    pub(super) fn taken(&mut self, client: &str, number: u64, now: u64) {
        self.of(client, number).taken_ms.get_or_insert(now);
    }

    pub(super) fn refused(&mut self, client: &str, number: u64) {
        self.of(client, number).fate = Fate::Refused;
    }

    pub(super) fn given_up(&mut self, client: &str, number: u64) {
        self.of(client, number).fate = Fate::GivenUp;
    }

    pub(super) fn delivered(
        &mut self,
        delivery: &Delivery<'_>,
        (subscribed, is_on_disk): (&Subscribed, &dyn Fn(u64) -> bool),
        states: &mut States,
    ) {
        let Delivery { to, arrival: Arrival { publish, .. }, tick, now, .. } = *delivery;
        let Some(id) = message_id(publish) else { return };
        let Some(published) = self.published.get(&id) else { return };
        let who = || format!("{} got {id:?} of {}", to.name, publish.topic);
        assert_eq!(publish.topic, published.topic, "{}", who());
        assert!(publish.qos <= published.qos, "{} at QoS {}", who(), publish.qos);
        let routed = published.routed();
        assert!(
            subscribed.is_possible(to.name, &publish.topic, (routed, publish.retain), is_on_disk),
            "{} without a subscription, at {tick}: {published:?}",
            who()
        );
        let is_refused = published.fate == Fate::Refused && !published.is_sent_again;
        assert!(!is_refused, "{}, which was refused", who());
        check_expiry(delivery, published, &id);
        if publish.retain {
            states.reach("retained message read");
            self.read.insert((to.name, publish.topic.clone()), id.1);
            return;
        }
        states.reach(match publish.qos {
            0 => "delivered at QoS 0",
            1 => "delivered at QoS 1",
            _ => "delivered at QoS 2",
        });
        states.add("delivered with DUP", u64::from(publish.dup));
        let certain = subscribed.certain(to.name, &publish.topic, routed);
        let copies = self.delivered.entry((to.receiver(), id.clone())).or_default();
        copies.live += 1;
        if copies.live == 1 {
            copies.first = now;
        }
        let is_once = publish.qos == 2 || publish.qos == 0 && !published.is_sent_again && !is_will(&id);
        // A session that ends with its connection also ends with the broker. Messages that it received before they
        // were on disk may arrive again in the next session.
        let session = if to.is_in_group() { 0 } else { self.sessions.get(to.name).copied().unwrap_or(0) };
        let times = self.in_session.entry((to.receiver(), session, publish.qos, id.clone())).or_default();
        *times += 1;
        assert!(!is_once || *times == 1, "{} {times} times at QoS {}", who(), publish.qos);
        // A retransmitted message arrives after later ones if the first copy expired, went to another member of a
        // group, was dropped or refused, or arrived before the client had subscribed.
        let may_be_late = self.may_drop || self.may_refuse || certain.is_none() || publish.qos == 0;
        let is_in_order = !(published.is_sent_again && may_be_late);
        // A broker that is killed may restore an earlier will from disk.
        let is_in_order = is_in_order && !is_will(&id);
        if copies.live == 1 && !to.is_in_group() && published.expiry.is_none() && is_in_order {
            let (from, number) = id;
            let key = (to.name, from, publish.topic.clone(), publish.qos);
            let last = self.last.insert(key, (number, tick));
            // A broker that is killed restores an earlier message that was dropped from a queue, if the drop was not
            // on disk.
            let may_be_back = |tick| self.may_drop && !is_on_disk(tick);
            assert!(
                last.is_none_or(|(last, tick)| last < number || may_be_back(tick)),
                "{} got {:?} after number {last:?} of the same topic and QoS",
                to.name,
                publish.text()
            );
        }
    }

    /// Returns the acknowledged messages that never arrived at clients that were certainly subscribed at QoS 1 or 2,
    /// without those that may have expired.
    pub(super) fn missing(&self, subscribed: &Subscribed) -> Vec<String> {
        let mut missing = Vec::new();
        let mut seen = Vec::new();
        for (client, group) in subscribed.clients() {
            let receiver = group.unwrap_or(client);
            if seen.contains(&receiver) {
                continue;
            }
            seen.push(receiver);
            for (id, published) in &self.published {
                let is_kept = matches!(published.fate, Fate::Accepted(_)) && published.expiry.is_none();
                let certain = subscribed.certain(client, &published.topic, published.routed());
                let qos = published.qos.min(certain.unwrap_or(0));
                let is_known = self.delivered.contains_key(&(receiver, id.clone()));
                let may_be_lost = group.is_some() && self.group_may_lose && qos == 2;
                if is_kept && !may_be_lost && qos > 0 && !published.clears && !is_known {
                    missing.push(format!("{id:?} at QoS {qos} to {receiver}: {published:?}"));
                }
            }
        }
        missing
    }

    /// Returns the time of a message's first arrival at any client; `None` if it never arrived.
    pub(super) fn first_copy(&self, publisher: String, number: u64) -> Option<u64> {
        let id = (publisher, number);
        let copies = self.delivered.iter().filter(|((_, of), _)| *of == id);
        copies.map(|(_, copies)| copies.first).min()
    }

    pub(super) fn deliveries(&self) -> usize {
        self.delivered.len()
    }
}

/// Checks that a message had not expired when the broker sent it, and that its remaining expiry interval is right.
fn check_expiry(delivery: &Delivery<'_>, published: &Published, id: &MessageId) {
    let Delivery { to, arrival: Arrival { publish, drained_at }, now, disk_lag, .. } = *delivery;
    if publish.dup {
        return;
    }
    let slack = if publish.qos == 2 { disk_lag } else { super::SAME_EVENT_MS };
    let (at, left) = (published.expires(), expiry(publish));
    let who = || format!("{} got {id:?} at {now}, which expires at {at:?}", to.name);
    assert!(left.is_none_or(|left| left > 0) || publish.qos == 2, "{}, as it says itself", who());
    if let (Some(drained_at), Some(at)) = (*drained_at, at) {
        assert!(drained_at < at + slack, "{}; nothing was on its way at {drained_at}, {slack} ms", who());
        let most = (at + super::SAME_EVENT_MS).saturating_sub(drained_at) + 999;
        assert!(left.is_none_or(|left| left <= most), "{}, and says {left:?} ms", who());
    }
}
