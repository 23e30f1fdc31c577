//! Record of a run: messages, connections and subscriptions as the clients know them, and the checks of them.

mod connections;
mod messages;
mod retained;
mod subscriptions;

use std::collections::BTreeMap;
use std::fmt;

use tokio::time::Instant;

use super::START;
use super::client::{Filter, Profile};
use super::seeds::{States, Trace};
use super::wire::{Packet, Publish, Will};
use connections::ConnectionRecord;
use messages::{Delivery, MessageRecord};
use subscriptions::Subscribed;

pub(super) use connections::{Ended, will_publisher};

/// Maximum time between two events that belong together, in milliseconds.
const SAME_EVENT_MS: u64 = 10;

/// Message that has arrived at a client.
pub(super) struct Arrival<'a> {
    pub(super) publish: &'a Publish,
    /// Last time at which nothing was in transit to the client, if its link holds nothing back. The broker has sent
    /// the message after this time.
    pub(super) drained_at: Option<u64>,
}

/// Record of one run.
#[derive(Debug)]
pub(super) struct Record {
    /// Every packet received by a client and every event, in order.
    pub(super) trace: Trace,
    pub(super) states: States,
    /// Number of events chosen by the seed and of packets received.
    pub(super) events: u64,
    /// Times at which messages of a topic arrived at any client.
    pub(super) times: BTreeMap<String, Vec<u64>>,
    began: Instant,
    /// Number that increases with each entry.
    tick: u64,
    messages: MessageRecord,
    subscribed: Subscribed,
    connections: ConnectionRecord,
    /// Longest time that something has waited for its commit, in milliseconds, and the time since which something
    /// waits now.
    disk_lag: u64,
    waits_for_disk: Option<u64>,
    /// Time of the last check of the disk.
    looked_at: u64,
    /// Number of PUBLISH packets received, without those of wills.
    pub(super) publishes: u64,
}

impl Record {
    pub(super) fn new(trace: Trace) -> Self {
        Self {
            trace,
            states: States::default(),
            events: 0,
            times: BTreeMap::new(),
            began: Instant::now(),
            tick: 0,
            messages: MessageRecord::default(),
            subscribed: Subscribed::default(),
            connections: ConnectionRecord::default(),
            disk_lag: 0,
            waits_for_disk: None,
            looked_at: START,
            publishes: 0,
        }
    }

    /// Returns the time in milliseconds since 1970, on the clock of every broker of the run.
    pub(super) fn now(&self) -> u64 {
        START + self.began.elapsed().as_millis() as u64
    }

    pub(super) fn note(&mut self, who: &str, what: fmt::Arguments<'_>) {
        self.tick += 1;
        if self.trace.is_kept() {
            self.trace.add(format!("{} {who}: {what}", self.now()));
        }
    }

    pub(super) fn reach(&mut self, state: &'static str) {
        self.states.reach(state);
    }

    pub(super) fn reach_if(&mut self, is_reached: bool, state: &'static str) {
        self.states.add(state, u64::from(is_reached));
    }

    /// Records a packet received by `client`. The broker has sent it after `drained_at`, if that is known.
    pub(super) fn heard(&mut self, client: &'static str, packet: &Packet, drained_at: Option<u64>) {
        self.events += 1;
        // Wills are not counted, because they are published by time and not as the result of an event.
        self.publishes +=
            u64::from(matches!(packet, Packet::Publish(publish) if !publish.topic.starts_with("w/")));
        self.note(client, format_args!("{packet:?}"));
        if let Some(drained_at) = drained_at {
            self.connections.heard(client, drained_at);
        }
    }

    /// Records that the broker has ended an MQTT 5 connection with this reason code.
    pub(super) fn disconnected_by_broker(&mut self, code: u8) {
        self.reach(match code {
            0x8D => "DISCONNECT from the broker: keep alive timeout",
            0x8E => "DISCONNECT from the broker: session taken over",
            0x97 => "DISCONNECT from the broker: quota exceeded",
            other => panic!("DISCONNECT with {other:#04x}"),
        });
    }
}

// Connections and their wills.
impl Record {
    /// Records a CONNECT. Returns the number of its will.
    pub(super) fn connecting(
        &mut self,
        client: &'static str,
        clean: bool,
        session_expiry: u32,
        will: Option<&Will>,
    ) -> u64 {
        let how = if clean { "connects anew" } else { "connects" };
        self.note(client, format_args!("{how}"));
        let now = self.now();
        if clean {
            self.subscribed.doubt(client);
        }
        let number = self.connections.begin(client, (self.tick, now), (clean, session_expiry), will);
        if let Some(will) = will {
            self.messages.add_will(will_publisher(client), number, will, self.tick);
        }
        number
    }

    /// Records a CONNACK that accepts a client.
    pub(super) fn connected(&mut self, client: &'static str, resumed: bool) {
        self.connections.accepted(client, (self.tick, self.now()), resumed, &mut self.states);
        if !resumed {
            self.subscribed.forget(client, self.tick);
            self.messages.session_began(client);
        }
    }

    /// Records a CONNACK that refuses a client.
    pub(super) fn refused_connect(&mut self, client: &'static str, code: u8) {
        assert!(matches!(code, 0x97 | 3), "{client} is not let in: {code:#04x}");
        self.reach("CONNECT refused: the disk does not work");
        self.connections.refused(client, self.now());
    }

    pub(super) fn ended(&mut self, client: &'static str, how: Ended) {
        self.note(client, format_args!("its connection ends: {how:?}"));
        self.connections.ended(client, (self.tick, self.now()), how);
        self.reach_if(how == Ended::Confirmed, "DISCONNECT taken by the broker");
    }

    /// Records that the broker was killed, after everything in transit from it has arrived.
    pub(super) fn crashed(&mut self) {
        self.tick += 1;
        self.waits_for_disk = None;
        let now = self.now();
        self.connections.crashed(self.tick, now);
    }

    /// Records a check of the disk: whether `all` operations are committed.
    pub(super) fn checked_disk(&mut self, all: bool) {
        let now = self.now();
        let before = std::mem::replace(&mut self.looked_at, now);
        if !all {
            self.waits_for_disk.get_or_insert(before);
        }
        if let Some(since) = self.waits_for_disk {
            self.disk_lag = self.disk_lag.max(now - since);
        }
        if !all {
            return;
        }
        self.waits_for_disk = None;
        self.tick += 1;
        self.connections.committed(self.tick);
    }

    /// Records that the last connections that stayed open were closed.
    pub(super) fn all_closed(&mut self) {
        let now = self.now();
        self.connections.all_closed(now);
    }
}

// Subscriptions.
impl Record {
    /// Records a SUBSCRIBE. Returns its tick.
    pub(super) fn asked(&mut self, client: &'static str, filters: &[Filter]) -> u64 {
        self.note(client, format_args!("subscribes to {filters:?}"));
        for (filter, qos) in filters {
            self.subscribed.asked(client, (*filter, *qos), self.tick);
        }
        self.tick
    }

    /// Records a SUBACK, for a SUBSCRIBE at the tick `asked`.
    pub(super) fn granted(&mut self, client: &'static str, filter: &'static str, asked: u64, granted: bool) {
        let was_granted = self.subscribed.answered(client, filter, (asked, self.tick), granted);
        if granted {
            self.reach("SUBACK");
            self.reach_if(was_granted, "SUBACK for a filter that is there");
            self.connections.granted(client);
        } else {
            self.reach("SUBSCRIBE refused: the disk does not work");
            assert!(!was_granted, "{client} is refused {filter}, which it has");
        }
    }

    /// Records an UNSUBSCRIBE. Returns its tick.
    pub(super) fn gave_up_filter(&mut self, client: &'static str, filter: &'static str) -> u64 {
        self.note(client, format_args!("unsubscribes from {filter}"));
        self.subscribed.gave_up(client, filter, self.tick);
        self.tick
    }

    /// Records an UNSUBACK, for an UNSUBSCRIBE at the tick `asked`.
    pub(super) fn unsubscribed(&mut self, client: &'static str, filter: &'static str, asked: u64) {
        self.reach("UNSUBACK");
        self.subscribed.gone(client, filter, (asked, self.tick));
    }

    /// Returns whether a client knows that it has a subscription.
    pub(super) fn is_granted(&self, client: &'static str, filter: &str) -> bool {
        self.subscribed.is_granted(client, filter)
    }
}

// Messages.
impl Record {
    pub(super) fn published(&mut self, client: &'static str, number: u64, publish: &Publish) {
        self.note(client, format_args!("publishes {publish:?}"));
        let now = self.now();
        self.messages.published(client, number, publish, (self.tick, now));
    }

    pub(super) fn sent_again(&mut self, client: &'static str, number: u64, publish: &Publish) {
        self.note(client, format_args!("publishes again {publish:?}"));
        self.reach("PUBLISH sent again");
        self.messages.sent_again(client, number);
    }

    pub(super) fn accepted(&mut self, client: &'static str, number: u64) {
        let now = self.now();
        self.messages.accepted(client, number, (self.tick, now));
    }

    /// Records that the broker has read a QoS 0 message, which it handles at once.
    pub(super) fn read(&mut self, client: &'static str, number: u64) {
        let now = self.now();
        self.messages.taken(client, number, now);
    }

    pub(super) fn refused(&mut self, client: &'static str, number: u64, code: u8) {
        assert_eq!(code, 0x97, "{client}:{number} is refused");
        self.reach("PUBLISH refused: quota exceeded");
        self.messages.refused(client, number);
    }

    pub(super) fn given_up(&mut self, client: &'static str, number: u64) {
        self.reach("PUBLISH given up with its session");
        self.messages.given_up(client, number);
    }

    /// Checks the properties that every delivery must have.
    pub(super) fn delivered(&mut self, to: &Profile, arrival: &Arrival<'_>) {
        let now = self.now();
        self.times.entry(arrival.publish.topic.clone()).or_default().push(now);
        // A QoS 2 message that is being sent waits for the commit of its packet id.
        let waits = self.disk_lag.max(self.waits_for_disk.map_or(0, |since| now - since));
        let delivery = Delivery { to, arrival, tick: self.tick, now, disk_lag: waits + SAME_EVENT_MS };
        let is_on_disk = |tick| self.connections.is_on_disk(tick);
        self.messages.delivered(&delivery, (&self.subscribed, &is_on_disk), &mut self.states);
    }

    /// Checks, at the end of a run, that no acknowledged message is missing, except for as many as brokers have
    /// `dropped`, and that exactly the right wills were published.
    pub(super) fn check(&mut self, dropped: u64) {
        let mut missing = self.messages.missing(&self.subscribed);
        let wills = |client: &'static str, number| self.messages.first_copy(will_publisher(client), number);
        missing.extend(self.connections.check_wills(wills, &mut self.states));
        assert!(missing.len() as u64 <= dropped, "never came, though {dropped} were dropped: {missing:#?}");
    }

    /// Checks that the retained messages read by `reader` are the last acknowledged value of each topic, or a later
    /// one.
    pub(super) fn check_retained(&mut self, reader: &'static str) {
        let now = self.now();
        self.messages.check_retained(reader, now, &mut self.states);
    }

    /// Allows missing messages from now on: because queues are small (`drops`), or because a member of the group has
    /// ended its session (`group`), with QoS 2 messages that no other member may get.
    pub(super) fn may_lose(&mut self, drops: bool, group: bool) {
        self.messages.may_drop |= drops;
        self.messages.group_may_lose |= group;
    }

    /// Allows refused messages from now on, which are sent again.
    pub(super) fn may_refuse(&mut self) {
        self.messages.may_refuse = true;
    }

    /// Returns the number of messages delivered to all clients together.
    pub(super) fn deliveries(&self) -> usize {
        self.messages.deliveries()
    }
}
