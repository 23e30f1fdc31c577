//! Subscriptions of clients in their current sessions, as far as the clients can know.

use std::collections::BTreeMap;

use super::super::client::Filter;
use crate::topic;

#[derive(Debug, Default)]
pub(super) struct Subscribed(BTreeMap<&'static str, Vec<Subscription>>);

/// Subscription, from SUBSCRIBE to UNSUBACK. All times are ticks.
#[derive(Debug)]
struct Subscription {
    /// Filter without the prefix of a shared group.
    filter: &'static str,
    /// Filter as sent.
    whole: &'static str,
    qos: u8,
    asked: u64,
    /// Time of the first SUBACK.
    granted: Option<u64>,
    /// Number of SUBSCRIBE packets for it.
    packets: u32,
    /// Time of UNSUBSCRIBE.
    given_up: Option<u64>,
    /// Time at which it ended, by UNSUBACK or a refusal.
    ended: Option<u64>,
    /// Time of the CONNACK that reported that its session had ended. A broker that is killed before this is on disk
    /// restores the session.
    forgotten: Option<u64>,
}

/// Time span in which a message was published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routed {
    /// Tick of the first transmission.
    pub(super) sent: u64,
    /// Tick at which the broker had certainly accepted it.
    pub(super) done: u64,
}

impl Subscription {
    fn is_shared(&self) -> bool {
        self.filter != self.whole
    }
}

impl Subscribed {
    /// Records a CONNACK at `tick` that reports no session.
    pub(super) fn forget(&mut self, client: &'static str, tick: u64) {
        self.doubt(client);
        for known in self.0.entry(client).or_default() {
            known.forgotten.get_or_insert(tick);
        }
    }

    /// Marks all subscriptions as uncertain, because the session may be another one.
    pub(super) fn doubt(&mut self, client: &'static str) {
        for known in self.0.entry(client).or_default() {
            known.granted = None;
            known.packets += 1;
        }
    }

    pub(super) fn asked(&mut self, client: &'static str, (whole, qos): Filter, tick: u64) {
        let all = self.0.entry(client).or_default();
        let lasts = |known: &&mut Subscription| {
            known.whole == whole
                && known.given_up.is_none()
                && known.ended.is_none()
                && known.forgotten.is_none()
        };
        if let Some(known) = all.iter_mut().rev().find(lasts) {
            known.packets += 1;
            return;
        }
        let filter = topic::shared(whole).map_or(whole, |shared| shared.expect("valid").filter);
        all.push(Subscription {
            filter,
            whole,
            qos,
            asked: tick,
            granted: None,
            packets: 1,
            given_up: None,
            ended: None,
            forgotten: None,
        });
    }

    /// Records a SUBACK at `now`, for a SUBSCRIBE at `asked`. Returns whether the subscription had been granted
    /// before.
    pub(super) fn answered(
        &mut self,
        client: &'static str,
        whole: &str,
        (asked, now): (u64, u64),
        granted: bool,
    ) -> bool {
        let all = self.0.get_mut(client).expect("it has subscribed");
        let known = all.iter_mut().rev().find(|known| known.whole == whole && known.asked <= asked);
        let known = known.expect("it was asked for");
        let before = known.granted.is_some();
        if granted {
            known.granted.get_or_insert(now);
        } else if !before && known.packets == 1 {
            known.ended = Some(now);
        }
        // A subscription with an UNSUBSCRIBE in between may have been removed before it was made again.
        before && known.given_up.is_none()
    }

    pub(super) fn gave_up(&mut self, client: &'static str, whole: &str, tick: u64) {
        for known in self.0.entry(client).or_default().iter_mut().filter(|known| known.whole == whole) {
            known.given_up.get_or_insert(tick);
        }
    }

    /// Records an UNSUBACK at `now`, for an UNSUBSCRIBE at `asked`.
    pub(super) fn gone(&mut self, client: &'static str, whole: &str, (asked, now): (u64, u64)) {
        for known in self.0.entry(client).or_default().iter_mut().filter(|known| known.whole == whole) {
            if known.given_up.is_some_and(|given_up| given_up <= asked) {
                known.ended.get_or_insert(now);
            }
        }
    }

    pub(super) fn is_granted(&self, client: &'static str, whole: &str) -> bool {
        self.of(client)
            .any(|known| known.whole == whole && known.granted.is_some() && known.given_up.is_none())
    }

    fn of(&self, client: &'static str) -> impl Iterator<Item = &Subscription> {
        self.0.get(client).into_iter().flatten()
    }

    /// Returns the highest QoS at which a client is certainly subscribed to a topic while a message is routed; `None`
    /// without such a subscription.
    pub(super) fn certain(&self, client: &'static str, topic: &str, routed: Routed) -> Option<u8> {
        let holds = |known: &&Subscription| {
            known.granted.is_some_and(|granted| granted <= routed.sent)
                && known.given_up.is_none_or(|given_up| given_up > routed.done)
                && rantai_topics::matches(known.filter, topic)
        };
        self.of(client).filter(holds).map(|known| known.qos).max()
    }

    /// Returns whether a client may receive a message. With `later`, it may also receive it by a later subscription: a
    /// retained message, or one that another member of its group has left.
    pub(super) fn is_possible(
        &self,
        client: &'static str,
        topic: &str,
        (routed, later): (Routed, bool),
        is_on_disk: &dyn Fn(u64) -> bool,
    ) -> bool {
        self.of(client).any(|known| {
            let is_gone = known.forgotten.is_some_and(is_on_disk);
            !is_gone
                && (later || known.is_shared() || known.asked <= routed.done)
                && known.ended.is_none_or(|ended| ended >= routed.sent)
                && rantai_topics::matches(known.filter, topic)
        })
    }

    /// Returns every client that has subscribed, with its shared filter if it has one.
    pub(super) fn clients(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        self.0.iter().map(|(client, all)| {
            (*client, all.iter().find(|known| known.is_shared()).map(|known| known.whole))
        })
    }
}
