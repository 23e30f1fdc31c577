//! What was published and delivered, connected and lost, as the clients know it; and what must hold of it.

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
use connections::Connections;
use messages::{Delivery, Messages};
use subscriptions::Subscribed;

pub(super) use connections::{Ended, will_publisher};

/// Milliseconds that may pass between two things that happen at one time.
const AT_ONCE_MS: u64 = 10;

/// A message that has come.
pub(super) struct Arrival<'a> {
    pub(super) publish: &'a Publish,
    /// When there was nothing on its way to the client, on a link on which nothing is held up: the broker has sent it later.
    pub(super) dry_at: Option<u64>,
}

/// The protocol of one run.
#[derive(Debug)]
pub(super) struct Record {
    /// Every packet that a client got and everything that was done, in order.
    pub(super) trace: Trace,
    pub(super) states: States,
    /// What the seed has decided, and packets that have come.
    pub(super) events: u64,
    /// When the messages of a topic came to anyone.
    pub(super) times: BTreeMap<String, Vec<u64>>,
    began: Instant,
    /// Rises with each entry.
    tick: u64,
    messages: Messages,
    subscribed: Subscribed,
    connections: Connections,
    /// The longest time in milliseconds that something has waited for its commit, and since when something waits now.
    disk_lag: u64,
    waits_for_disk: Option<u64>,
    /// When the disk was looked at last.
    looked_at: u64,
    /// PUBLISH packets that have come, without those of wills.
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
            messages: Messages::default(),
            subscribed: Subscribed::default(),
            connections: Connections::default(),
            disk_lag: 0,
            waits_for_disk: None,
            looked_at: START,
            publishes: 0,
        }
    }

    /// Milliseconds since 1970, on the clock of every broker of the run.
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

    /// A packet has come to `client`, which the broker has sent after `dry_at`, if that is known.
    pub(super) fn heard(&mut self, client: &'static str, packet: &Packet, dry_at: Option<u64>) {
        self.events += 1;
        // Wills come when they are due, and not because of anybody.
        self.publishes +=
            u64::from(matches!(packet, Packet::Publish(publish) if !publish.topic.starts_with("w/")));
        self.note(client, format_args!("{packet:?}"));
        if let Some(dry_at) = dry_at {
            self.connections.heard(client, dry_at);
        }
    }

    /// The broker has ended a connection of MQTT 5, and says why.
    pub(super) fn told_off(&mut self, code: u8) {
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
    /// A client sends CONNECT; returns the number of its will.
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

    /// CONNACK has let a client in.
    pub(super) fn connected(&mut self, client: &'static str, resumed: bool) {
        self.connections.accepted(client, (self.tick, self.now()), resumed, &mut self.states);
        if !resumed {
            self.subscribed.forget(client, self.tick);
            self.messages.session_began(client);
        }
    }

    /// CONNACK has refused a client.
    pub(super) fn not_let_in(&mut self, client: &'static str, code: u8) {
        assert!(matches!(code, 0x97 | 3), "{client} is not let in: {code:#04x}");
        self.reach("CONNECT refused: the disk does not work");
        self.connections.refused(client, self.now());
    }

    pub(super) fn ended(&mut self, client: &'static str, how: Ended) {
        self.note(client, format_args!("its connection ends: {how:?}"));
        self.connections.ended(client, (self.tick, self.now()), how);
        self.reach_if(how == Ended::Confirmed, "DISCONNECT taken by the broker");
    }

    /// The broker was killed, and whatever was on its way has come.
    pub(super) fn crashed(&mut self) {
        self.tick += 1;
        self.waits_for_disk = None;
        let now = self.now();
        self.connections.crashed(self.tick, now);
    }

    /// The disk holds everything that was put (`all`), or does not.
    pub(super) fn looked_at_disk(&mut self, all: bool) {
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

    /// The last connections that were left open are closed.
    pub(super) fn all_closed(&mut self) {
        let now = self.now();
        self.connections.all_closed(now);
    }
}

// Subscriptions.
impl Record {
    /// A client sends SUBSCRIBE; returns when, as ticks count.
    pub(super) fn asked(&mut self, client: &'static str, filters: &[Filter]) -> u64 {
        self.note(client, format_args!("subscribes to {filters:?}"));
        for (filter, qos) in filters {
            self.subscribed.asked(client, (*filter, *qos), self.tick);
        }
        self.tick
    }

    /// SUBACK, for a SUBSCRIBE of `asked`.
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

    /// A client sends UNSUBSCRIBE; returns when, as ticks count.
    pub(super) fn gave_up_filter(&mut self, client: &'static str, filter: &'static str) -> u64 {
        self.note(client, format_args!("unsubscribes from {filter}"));
        self.subscribed.gave_up(client, filter, self.tick);
        self.tick
    }

    /// UNSUBACK, for an UNSUBSCRIBE of `asked`.
    pub(super) fn unsubscribed(&mut self, client: &'static str, filter: &'static str, asked: u64) {
        self.reach("UNSUBACK");
        self.subscribed.gone(client, filter, (asked, self.tick));
    }

    /// Whether a client knows that it has a subscription.
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

    /// The broker has read a message at QoS 0, and works through what it reads at once.
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

    /// Checks what has to hold of each delivery.
    pub(super) fn delivered(&mut self, to: &Profile, arrival: &Arrival<'_>) {
        let now = self.now();
        self.times.entry(arrival.publish.topic.clone()).or_default().push(now);
        // At QoS 2 a message waits for the commit of its packet id once it is on its way.
        let waits = self.disk_lag.max(self.waits_for_disk.map_or(0, |since| now - since));
        let delivery = Delivery { to, arrival, tick: self.tick, now, disk_lag: waits + AT_ONCE_MS };
        let is_on_disk = |tick| self.connections.is_on_disk(tick);
        self.messages.delivered(&delivery, (&self.subscribed, &is_on_disk), &mut self.states);
    }

    /// Checks, at the end, that nothing acknowledged is missing, but for as many messages as brokers have `dropped`; and
    /// that wills were published when they had to be, and no others.
    pub(super) fn check(&mut self, dropped: u64) {
        let mut missing = self.messages.missing(&self.subscribed);
        let wills = |client: &'static str, number| self.messages.first_copy(will_publisher(client), number);
        missing.extend(self.connections.check_wills(wills, &mut self.states));
        assert!(missing.len() as u64 <= dropped, "never came, though {dropped} were dropped: {missing:#?}");
    }

    /// Checks that what `reader` was read is the last value of each topic that is acknowledged, or a later one.
    pub(super) fn check_retained(&mut self, reader: &'static str) {
        let now = self.now();
        self.messages.check_retained(reader, now, &mut self.states);
    }

    /// From now on messages may be missing for what the broker may do: queues are small (`drops`), or a member of the group
    /// has ended its session (`group`), with messages at QoS 2 that no other may get.
    pub(super) fn may_lose(&mut self, drops: bool, group: bool) {
        self.messages.may_drop |= drops;
        self.messages.group_may_lose |= group;
    }

    /// From now on messages may be refused and sent again.
    pub(super) fn may_refuse(&mut self) {
        self.messages.may_refuse = true;
    }

    /// Returns how many messages were delivered, by all clients together.
    pub(super) fn deliveries(&self) -> usize {
        self.messages.deliveries()
    }
}
