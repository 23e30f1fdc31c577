//! A client that keeps to the protocol: it sends again what was not acknowledged, and takes each QoS 2 packet id once.

mod packets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;

use super::link::Link;
use super::record::{Ended, Record};
use super::wire::{
    Connect, Property, Publish, Version, Will, disconnect, pingreq, subscribe, take_packet, unsubscribe,
};
use crate::random::Seeded;

/// Seconds: sessions that are kept shorter may expire in a run.
const SHORT_S: u32 = 100;

/// A topic filter and the QoS at which it is subscribed to.
pub(super) type Filter = (&'static str, u8);

/// Who a client is and what it asks for.
#[derive(Clone)]
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) version: Version,
    /// Seconds; 0 for a session that ends with its connection.
    pub(super) session_expiry: u32,
    /// What it subscribes to in each new session.
    pub(super) filters: &'static [Filter],
    /// Its payload is replaced by the name of the client and a number that rises with each connection.
    pub(super) will: Option<Will>,
    /// Seconds; 0: none.
    pub(super) keep_alive: u16,
    /// Messages at QoS 1 and 2 that the broker may have in flight to it.
    pub(super) window: u16,
    /// Packet ids that it uses: few, so that each is used again soon.
    pub(super) packet_ids: u16,
}

impl Profile {
    /// Whether it is a member of the shared group, whose members subscribe to nothing else.
    pub(super) fn is_in_group(&self) -> bool {
        self.receiver() != self.name
    }

    /// Returns its name, or the filter of its group: all members together get each message once.
    pub(super) fn receiver(&self) -> &'static str {
        let shared = self.filters.iter().find(|(filter, _)| filter.starts_with("$share/"));
        shared.map_or(self.name, |(filter, _)| filter)
    }
}

/// What a client does otherwise than it could.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// It reads nothing.
    pub(super) is_slow: bool,
    /// It keeps its acknowledgements back.
    pub(super) withholds: bool,
    /// Bytes that its link still takes from it in this step.
    pub(super) may_write: usize,
    /// The broker may have read what it does not work through yet, because queues or answers are too much.
    pub(super) may_wait: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { is_slow: false, withholds: false, may_write: usize::MAX, may_wait: true }
    }
}

/// How far its connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Away,
    /// CONNECT is on its way.
    Connecting,
    Ready,
    /// DISCONNECT is on its way: nothing is sent any more, and the broker is to close.
    Leaving,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own; all combinations occur")]
pub(super) struct Client {
    pub(super) profile: Profile,
    pub(super) habits: Habits,
    link: Option<Link>,
    stage: Stage,
    /// Whether the last CONNACK said that there was a session.
    pub(super) resumed: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    last_id: u16,
    last_number: u64,
    /// Published and not acknowledged, in the order of sending.
    unacknowledged: VecDeque<Sent>,
    /// Numbers of messages at QoS 0 that the broker may not have read yet.
    unread: Vec<u64>,
    /// SUBSCRIBE and UNSUBSCRIBE packets of this connection that are not acknowledged.
    changes: BTreeMap<u16, Change>,
    /// QoS 2 packet ids from the broker that are not released, and their payloads.
    received: BTreeMap<u16, Vec<u8>>,
    /// Packet ids that came on this connection and are not acknowledged to the end.
    in_flight: BTreeSet<u16>,
    /// Acknowledgements that it keeps back, and the packet id that each of them ends.
    withheld: VecDeque<(Vec<u8>, Option<u16>)>,
    /// Its last CONNECT began anew.
    is_clean: bool,
    /// Its session is there for as long as a run may take.
    is_lasting: bool,
    /// Its last CONNECT was not answered, and its session may have ended before, or was to end: it cannot go on with it.
    is_unsure: bool,
    /// When it has sent something last, in milliseconds.
    sent_at: u64,
    /// When it has read everything that was there last.
    dry_at: u64,
}

struct Sent {
    publish: Publish,
    number: u64,
    /// PUBREC has come.
    released: bool,
}

struct Change {
    filters: Vec<Filter>,
    /// When it was sent, as [`Record::tick`] counts.
    tick: u64,
}

impl Client {
    pub(super) fn new(profile: Profile) -> Self {
        Self {
            profile,
            habits: Habits::default(),
            link: None,
            stage: Stage::Away,
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
            is_lasting: false,
            is_unsure: false,
            sent_at: 0,
            dry_at: 0,
        }
    }

    /// Whether CONNACK has come and the connection stands.
    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Whether everything published at QoS 1 and 2 is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// Whether its session ends with its connection, though it is to last: a clean one of 3.1.1.
    pub(super) fn has_no_lasting_session(&self) -> bool {
        self.is_clean && self.profile.session_expiry > 0 && self.profile.version == Version::V3
    }

    /// Gives up any connection, and sends CONNECT over a new one. `clean`: without the session that there may be.
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
        self.stage = Stage::Connecting;
        self.dry_at = record.now();
        self.write(record);
    }

    /// Ends the connection without a word: of what is on its way to the broker a part arrives.
    pub(super) fn cut(&mut self, random: &mut Seeded, record: &mut Record) {
        if let Some(link) = self.link.take_if(|_| self.stage != Stage::Connecting) {
            link.cut(random);
        }
        self.end(Ended::Cut, record);
    }

    /// Forgets what belongs to its session.
    fn forget_session(&mut self, record: &mut Record) {
        self.received.clear();
        for sent in self.unacknowledged.drain(..).filter(|sent| !sent.released) {
            record.given_up(self.profile.name, sent.number);
        }
    }

    /// Gives up the connection without closing it.
    pub(super) fn leave_open(&mut self, record: &mut Record) -> Option<Link> {
        let link = self.link.take();
        self.end(Ended::Open, record);
        link
    }

    /// Says DISCONNECT, and closes.
    pub(super) fn disconnect(&mut self, record: &mut Record) {
        self.leave(record);
        self.end(Ended::Cut, record);
    }

    /// Says DISCONNECT, and waits until the broker closes.
    pub(super) fn leave(&mut self, record: &mut Record) {
        if self.stage == Stage::Ready {
            self.output.extend(disconnect(self.profile.version, 0, &[]));
            self.stage = Stage::Leaving;
            self.write(record);
        }
    }

    /// The broker is killed: nothing that is on its way to it is read.
    pub(super) fn broker_is_killed(&mut self, reads: bool, record: &mut Record) {
        if self.stage == Stage::Leaving {
            self.end(Ended::Said, record);
        }
        if reads {
            self.work(record);
        }
        self.end(Ended::Cut, record);
    }

    /// What a connection ends with: only what belongs to the session is kept.
    fn end(&mut self, how: Ended, record: &mut Record) {
        if self.stage == Stage::Away {
            return;
        }
        if self.stage == Stage::Connecting {
            // Or it might be worked through after the next one.
            if let Some(link) = self.link.take() {
                link.lose_all();
            }
            self.is_unsure = self.is_clean || !self.is_lasting;
        }
        let how = if self.stage == Stage::Leaving && how != Ended::Confirmed { Ended::Said } else { how };
        record.ended(self.profile.name, how);
        self.link = None;
        self.stage = Stage::Away;
        self.input.clear();
        self.output.clear();
        self.unread.clear();
        self.changes.clear();
        self.in_flight.clear();
        self.withheld.clear();
    }

    /// Publishes the next message: its payload is the client's name and a number that rises.
    pub(super) fn publish(&mut self, topic: &str, qos: u8, expiry: Option<u32>, record: &mut Record) {
        let mut publish = Publish::new(topic, "").qos(qos);
        publish.properties.extend(expiry.map(Property::MessageExpiry));
        self.publish_retained(publish, false, record);
    }

    /// Publishes the next message as it is, but for its payload and packet id; `clears`: with an empty payload.
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
            self.unacknowledged.push_back(Sent { publish, number, released: false });
        } else {
            self.unread.push(number);
        }
        self.write(record);
    }

    pub(super) fn subscribe(&mut self, filters: &[Filter], record: &mut Record) {
        let Some(id) = self.free_id() else { return };
        self.output.extend(subscribe(self.profile.version, id, filters));
        let tick = record.asked(self.profile.name, filters);
        self.changes.insert(id, Change { filters: filters.to_vec(), tick });
        self.write(record);
    }

    pub(super) fn unsubscribe(&mut self, filter: Filter, record: &mut Record) {
        let Some(id) = self.free_id() else { return };
        self.output.extend(unsubscribe(self.profile.version, id, &[filter.0]));
        let tick = record.gave_up_filter(self.profile.name, filter.0);
        self.changes.insert(id, Change { filters: vec![filter], tick });
        self.write(record);
    }

    /// The next packet id that nothing is under way with.
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
                // What the broker has said before it closed is still to be read.
                Err(_) => self.output.clear(),
            }
        }
    }

    /// Reads what has come and answers it; false where nothing has, and nothing was left to write.
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
                    self.dry_at = record.now();
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

    /// Says PINGREQ where it has been silent for half of its keep-alive.
    fn keep_alive(&mut self, record: &Record) {
        let half = u64::from(self.profile.keep_alive) * 500;
        if half > 0 && self.is_ready() && self.output.is_empty() && record.now() >= self.sent_at + half {
            self.output.extend(pingreq());
        }
    }

    /// The broker has closed the connection. Without another word after a DISCONNECT that it has read, it has taken that.
    fn closed(&mut self, record: &mut Record) {
        let confirms = |link: &Link| link.is_wide() && link.is_read();
        let is_confirmed = self.stage == Stage::Leaving
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
