//! Client of a simulation, which follows the protocol: it retransmits unacknowledged messages, and accepts each QoS 2
//! packet id once.

mod packets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;

use super::link::Link;
use super::record::{Ended, Record};
use super::wire::{
    Connect, Property, Publish, Version, Will, disconnect, pingreq, subscribe, take_packet, unsubscribe,
};
use crate::random::Seeded;

/// Session Expiry Interval in seconds below which a session may expire during a run.
const SHORT_EXPIRY_S: u32 = 100;

/// A topic filter and the QoS at which it is subscribed to.
pub(super) type Filter = (&'static str, u8);

/// Identity and settings of a client.
#[derive(Clone)]
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) version: Version,
    /// Session Expiry Interval in seconds; 0 for a session that ends with its connection.
    pub(super) session_expiry: u32,
    /// Filters that the client subscribes to in each new session.
    pub(super) filters: &'static [Filter],
    /// Will of the client. Its payload is replaced by the name of the client and a number that increases with each
    /// connection.
    pub(super) will: Option<Will>,
    /// Keep-alive in seconds; 0 for none.
    pub(super) keep_alive: u16,
    /// Receive Maximum: number of QoS 1 and 2 messages that the broker may have in flight to the client.
    pub(super) window: u16,
    /// Number of packet ids that the client uses; small, so that each is soon used again.
    pub(super) packet_ids: u16,
}

impl Profile {
    /// Returns whether the client is a member of the shared group. Members have no other subscriptions.
    pub(super) fn is_in_group(&self) -> bool {
        self.receiver() != self.name
    }

    /// Returns the client's name, or the filter of its group: the members of a group together receive each message
    /// once.
    pub(super) fn receiver(&self) -> &'static str {
        let shared = self.filters.iter().find(|(filter, _)| filter.starts_with("$share/"));
        shared.map_or(self.name, |(filter, _)| filter)
    }
}

/// Current restrictions on a client's behavior.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Whether the client reads nothing.
    pub(super) is_slow: bool,
    /// Whether the client withholds its acknowledgements.
    pub(super) withholds: bool,
    /// Number of bytes that the client may still write to its link in this step.
    pub(super) may_write: usize,
    /// Whether the broker may leave read packets unhandled for a while, because a queue is full or too many answers
    /// are unread.
    pub(super) may_wait: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { is_slow: false, withholds: false, may_write: usize::MAX, may_wait: true }
    }
}

/// State of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ConnectionStage {
    #[default]
    Away,
    /// CONNECT was sent.
    Connecting,
    Ready,
    /// DISCONNECT was sent: the client sends nothing more, and the broker is to close the connection.
    Leaving,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own; all combinations occur")]
pub(super) struct Client {
    pub(super) profile: Profile,
    pub(super) habits: Habits,
    link: Option<Link>,
    stage: ConnectionStage,
    /// Whether the last CONNACK reported an existing session.
    pub(super) resumed: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    last_id: u16,
    last_number: u64,
    /// Messages published and not acknowledged, in the order of sending.
    unacknowledged: VecDeque<SentMessage>,
    /// Numbers of QoS 0 messages that the broker may not have read yet.
    unread: Vec<u64>,
    /// SUBSCRIBE and UNSUBSCRIBE packets of this connection that are not acknowledged.
    changes: BTreeMap<u16, FilterChange>,
    /// Packet ids of QoS 2 messages from the broker that are not released, with their payloads.
    received: BTreeMap<u16, Vec<u8>>,
    /// Packet ids of messages received on this connection whose delivery is not complete.
    in_flight: BTreeSet<u16>,
    /// Withheld acknowledgements, with the packet id whose delivery each of them completes.
    withheld: VecDeque<(Vec<u8>, Option<u16>)>,
    /// Whether the last CONNECT was a clean start.
    is_clean: bool,
    /// Whether the session lasts longer than any run.
    is_persistent: bool,
    /// Whether the state of the session is unknown, because the last CONNECT was not answered, and the session may
    /// have expired before or was to end with it. The client does not resume such a session.
    is_unsure: bool,
    /// Time of the last packet sent, in milliseconds.
    sent_at: u64,
    /// Time at which the client last had read everything that had arrived.
    drained_at: u64,
}

struct SentMessage {
    publish: Publish,
    number: u64,
    /// Whether PUBREC was received.
    released: bool,
}

struct FilterChange {
    filters: Vec<Filter>,
    /// Time of sending, in ticks of [`Record::tick`].
    tick: u64,
}

impl Client {
    pub(super) fn new(profile: Profile) -> Self {
        Self {
            profile,
            habits: Habits::default(),
            link: None,
            stage: ConnectionStage::Away,
            resumed: false,
            input: Vec::new(),
            output: Vec::new(),
            last_id: 0,
            last_number: 0,
            unacknowledged: VecDeque::new(),
            unread: Vec::new(),
            changes: BTreeMap::new(),
            received: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            withheld: VecDeque::new(),
            is_clean: false,
            is_persistent: false,
            is_unsure: false,
            sent_at: 0,
            drained_at: 0,
        }
    }

    /// Returns whether the connection is open and CONNACK was received.
    pub(super) fn is_ready(&self) -> bool {
        self.stage == ConnectionStage::Ready
    }

    /// Returns whether everything published at QoS 1 and 2 is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// Returns whether the session ends with the connection although the profile has a persistent one: a clean session
    /// of 3.1.1.
    pub(super) fn has_clean_v3_session(&self) -> bool {
        self.is_clean && self.profile.session_expiry > 0 && self.profile.version == Version::V3
    }

    /// Drops any existing connection, and sends CONNECT over a new one. With `clean`, an existing session is ended.
    pub(super) fn connect(&mut self, link: Link, clean: bool, record: &mut Record) {
        self.end(Ended::Cut, record);
        let Profile { name, version, session_expiry, keep_alive, window, .. } = self.profile;
        let clean = clean || session_expiry == 0 || std::mem::take(&mut self.is_unsure);
        self.is_clean = clean;
        if clean {
            self.forget_session(record);
        }
        // A clean session of 3.1.1 ends with its connection.
        let lasts = if clean && version == Version::V3 { 0 } else { session_expiry };
        let number = record.connecting(name, clean, lasts, self.profile.will.as_ref());
        let mut connect = Connect::new(version).id(name).keep_alive(keep_alive);
        if let Some(will) = &mut self.profile.will {
            will.payload = format!("{}:{number}", super::record::will_publisher(name)).into_bytes();
        }
        connect.will.clone_from(&self.profile.will);
        connect.clean = clean;
        if session_expiry > 0 {
            connect = connect.property(Property::SessionExpiry(session_expiry));
        }
        if window < u16::MAX {
            connect = connect.property(Property::ReceiveMaximum(window));
        }
        self.output = connect.encode();
        self.link = Some(link);
        self.stage = ConnectionStage::Connecting;
        self.drained_at = record.now();
        self.write(record);
    }

    /// Ends the connection without DISCONNECT. Of the bytes in transit to the broker, a random part arrives.
    pub(super) fn cut(&mut self, random: &mut Seeded, record: &mut Record) {
        if let Some(link) = self.link.take_if(|_| self.stage != ConnectionStage::Connecting) {
            link.cut(random);
        }
        self.end(Ended::Cut, record);
    }

    /// Removes the state of the client's session.
    fn forget_session(&mut self, record: &mut Record) {
        self.received.clear();
        for sent in self.unacknowledged.drain(..).filter(|sent| !sent.released) {
            record.given_up(self.profile.name, sent.number);
        }
    }

    /// Stops using the connection without closing it, and returns the link.
    pub(super) fn leave_open(&mut self, record: &mut Record) -> Option<Link> {
        let link = self.link.take();
        self.end(Ended::Open, record);
        link
    }

    /// Sends DISCONNECT, and closes the connection.
    pub(super) fn disconnect(&mut self, record: &mut Record) {
        self.leave(record);
        self.end(Ended::Cut, record);
    }

    /// Sends DISCONNECT, and waits until the broker closes the connection.
    pub(super) fn leave(&mut self, record: &mut Record) {
        if self.stage == ConnectionStage::Ready {
            self.output.extend(disconnect(self.profile.version, 0, &[]));
            self.stage = ConnectionStage::Leaving;
            self.write(record);
        }
    }

    /// Ends the connection because the broker is killed: bytes in transit to it are lost.
    pub(super) fn broker_is_killed(&mut self, reads: bool, record: &mut Record) {
        if self.stage == ConnectionStage::Leaving {
            self.end(Ended::Said, record);
        }
        if reads {
            self.work(record);
        }
        self.end(Ended::Cut, record);
    }

    /// Ends the connection, and keeps only the state of the session.
    fn end(&mut self, how: Ended, record: &mut Record) {
        if self.stage == ConnectionStage::Away {
            return;
        }
        if self.stage == ConnectionStage::Connecting {
            // Lost, because the broker might otherwise handle these bytes after those of the next connection.
            if let Some(link) = self.link.take() {
                link.lose_all();
            }
            self.is_unsure = self.is_clean || !self.is_persistent;
        }
        let how =
            if self.stage == ConnectionStage::Leaving && how != Ended::Confirmed { Ended::Said } else { how };
        record.ended(self.profile.name, how);
        self.link = None;
        self.stage = ConnectionStage::Away;
        self.input.clear();
        self.output.clear();
        self.unread.clear();
        self.changes.clear();
        self.in_flight.clear();
        self.withheld.clear();
    }

    /// Publishes the next message. Its payload is the client's name and an increasing number.
    pub(super) fn publish(&mut self, topic: &str, qos: u8, expiry: Option<u32>, record: &mut Record) {
        let mut publish = Publish::new(topic, "").qos(qos);
        publish.properties.extend(expiry.map(Property::MessageExpiry));
        self.publish_retained(publish, false, record);
    }

    /// Publishes the next message as given, except for its payload and packet id. With `clears`, the payload is empty.
    pub(super) fn publish_retained(&mut self, mut publish: Publish, clears: bool, record: &mut Record) {
        if publish.qos > 0 {
            let Some(id) = self.free_id() else { return };
            publish.id = id;
        }
        self.last_number += 1;
        let (name, number) = (self.profile.name, self.last_number);
        if !clears {
            publish.payload = format!("{name}:{number}").into_bytes();
        }
        self.output.extend(publish.encode(self.profile.version));
        record.published(name, number, &publish);
        if publish.qos > 0 {
            self.unacknowledged.push_back(SentMessage { publish, number, released: false });
        } else {
            self.unread.push(number);
        }
        self.write(record);
    }

    pub(super) fn subscribe(&mut self, filters: &[Filter], record: &mut Record) {
        let Some(id) = self.free_id() else { return };
        self.output.extend(subscribe(self.profile.version, id, filters));
        let tick = record.asked(self.profile.name, filters);
        self.changes.insert(id, FilterChange { filters: filters.to_vec(), tick });
        self.write(record);
    }

    pub(super) fn unsubscribe(&mut self, filter: Filter, record: &mut Record) {
        let Some(id) = self.free_id() else { return };
        self.output.extend(unsubscribe(self.profile.version, id, &[filter.0]));
        let tick = record.gave_up_filter(self.profile.name, filter.0);
        self.changes.insert(id, FilterChange { filters: vec![filter], tick });
        self.write(record);
    }

    /// Returns the next packet id that is not in use.
    fn free_id(&mut self) -> Option<u16> {
        for _ in 0..self.profile.packet_ids {
            self.last_id = self.last_id % self.profile.packet_ids + 1;
            let id = self.last_id;
            let is_used = self.unacknowledged.iter().any(|sent| sent.publish.id == id);
            if !is_used && !self.changes.contains_key(&id) {
                return Some(id);
            }
        }
        None
    }

    fn write(&mut self, record: &Record) {
        while let Some(link) = &self.link
            && !self.output.is_empty()
            && self.habits.may_write > 0
        {
            let count = self.output.len().min(self.habits.may_write);
            match link.try_write(&self.output[..count]) {
                Ok(count) => {
                    drop(self.output.drain(..count));
                    if self.habits.may_write < usize::MAX {
                        self.habits.may_write -= count;
                    }
                    self.sent_at = record.now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Packets that the broker sent before closing are still read.
                Err(_) => self.output.clear(),
            }
        }
    }

    /// Reads and answers packets. Returns false if nothing had arrived and nothing was left to write.
    pub(super) fn work(&mut self, record: &mut Record) -> bool {
        let mut any = false;
        if !self.habits.withholds {
            any = !self.withheld.is_empty();
            for (answer, done) in std::mem::take(&mut self.withheld) {
                self.answer(answer, done);
            }
        }
        self.keep_alive(record);
        let before = self.output.len();
        self.write(record);
        any |= self.output.len() != before;
        if !self.habits.may_wait && self.output.is_empty() && self.link.as_ref().is_some_and(Link::is_read) {
            for number in self.unread.drain(..) {
                record.read(self.profile.name, number);
            }
        }
        while let Some(link) = &self.link {
            match link.try_read(&mut self.input) {
                Ok(0) => self.closed(record),
                Ok(_) => any = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.drained_at = record.now();
                    break;
                }
                Err(_) => self.end(Ended::Closed, record),
            }
            while let Some(packet) = take_packet(self.profile.version, &mut self.input) {
                self.handle(packet, record);
            }
        }
        self.write(record);
        any
    }

    /// Sends PINGREQ if nothing was sent for half of the keep-alive.
    fn keep_alive(&mut self, record: &Record) {
        let half = u64::from(self.profile.keep_alive) * 500;
        if half > 0 && self.is_ready() && self.output.is_empty() && record.now() >= self.sent_at + half {
            self.output.extend(pingreq());
        }
    }

    /// Handles that the broker has closed the connection. If it did so without a packet after reading a DISCONNECT, it
    /// has handled the DISCONNECT.
    fn closed(&mut self, record: &mut Record) {
        let confirms = |link: &Link| link.is_wide() && link.is_read();
        let is_confirmed = self.stage == ConnectionStage::Leaving
            && self.profile.version == Version::V5
            && self.output.is_empty()
            && self.link.as_ref().is_some_and(confirms);
        self.end(if is_confirmed { Ended::Confirmed } else { Ended::Closed }, record);
    }

    fn answer(&mut self, bytes: Vec<u8>, done: Option<u16>) {
        if self.habits.withholds {
            self.withheld.push_back((bytes, done));
            return;
        }
        if let Some(id) = done {
            self.in_flight.remove(&id);
        }
        self.output.extend(bytes);
    }
}
