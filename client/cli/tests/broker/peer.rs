//! Clients that follow the protocol: their state of sent and received messages persists across connections, as MQTT 5,
//! 4.1 and 4.3 require.

use std::collections::{BTreeMap, HashSet, VecDeque};

use rantai_testing::{Packet, Place, Publish, Version, ack, subscribe};

use crate::wire::{self, Socket};

/// Maximum number of messages of a publisher in flight.
const WINDOW: usize = 12;

/// Message of a publisher in flight.
#[derive(Clone, Debug)]
struct Pending {
    id: u16,
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
    /// Whether PUBREC was received, so that only PUBREL is sent.
    released: bool,
}

/// Publishes numbers, at QoS 1 and 2 and retained, and records which of them the broker has acknowledged.
pub(crate) struct Publisher {
    name: String,
    version: Version,
    pending: VecDeque<Pending>,
    next: u64,
    next_id: u16,
    /// Acknowledged numbers, by topic.
    pub(crate) taken: BTreeMap<String, Vec<u64>>,
    known: bool,
}

impl Publisher {
    pub(crate) fn new(number: usize, version: Version) -> Self {
        Self {
            name: format!("publisher-{number}"),
            version,
            pending: VecDeque::new(),
            next: 0,
            next_id: 0,
            taken: BTreeMap::new(),
            known: false,
        }
    }

    /// Publishes until the broker is gone, or with `drain` until nothing is in flight any more.
    pub(crate) fn run(&mut self, place: &Place, drain: bool) {
        let Some(mut socket) = Socket::open(place, self.version) else { return };
        let Some(present) = socket.log_in(&wire::connect(self.version, &self.name, false)) else { return };
        // Once the broker has acknowledged a message, it must keep the session.
        assert!(present || !self.known, "{}: the session is lost", self.name);
        for pending in self.pending.clone() {
            if !socket.send(&self.packet(&pending, present)) {
                return;
            }
        }
        loop {
            while !drain && self.pending.len() < WINDOW {
                let pending = self.draw();
                let bytes = self.packet(&pending, false);
                self.pending.push_back(pending);
                if !socket.send(&bytes) {
                    return;
                }
            }
            if self.pending.is_empty() {
                return;
            }
            let Some(packet) = socket.next() else { return };
            let (released, ack) = match packet {
                Packet::Puback(ack) => (false, ack),
                Packet::Pubrec(ack) => (true, ack),
                Packet::Pubcomp(ack) => {
                    let index = self.index(ack.id);
                    drop(self.pending.remove(index));
                    continue;
                }
                other => panic!("{}: unexpected packet {other:?}", self.name),
            };
            assert!(ack.code < 0x80, "{}: refused: {ack:?}", self.name);
            self.known = true;
            let index = self.index(ack.id);
            let pending = &mut self.pending[index];
            if !pending.released {
                let number = pending.payload.parse().expect("payloads are numbers");
                self.taken.entry(pending.topic.clone()).or_default().push(number);
            }
            if !released {
                self.pending.remove(index);
                continue;
            }
            pending.released = true;
            let release = self.release(ack.id);
            if !socket.send(&release) {
                return;
            }
        }
    }

    fn index(&self, id: u16) -> usize {
        let index = self.pending.iter().position(|pending| pending.id == id);
        index.unwrap_or_else(|| panic!("{}: an acknowledgement of nothing: {id}", self.name))
    }

    fn release(&self, id: u16) -> Vec<u8> {
        ack(6, self.version, id, 0)
    }

    fn draw(&mut self) -> Pending {
        self.next += 1;
        self.next_id = self.next_id % 60_000 + 1;
        let number = self.next;
        let name = &self.name;
        let (topic, qos, retain) = match number % 5 {
            0 => (format!("r/{name}/{}", number / 5 % 3), 1, true),
            n => (format!("q/{name}/{}", 1 + n % 2), 1 + (n % 2) as u8, false),
        };
        Pending { id: self.next_id, topic, payload: number.to_string(), qos, retain, released: false }
    }

    fn packet(&self, pending: &Pending, again: bool) -> Vec<u8> {
        if pending.released {
            return self.release(pending.id);
        }
        let Pending { id, topic, payload, qos, retain, .. } = pending;
        let publish = Publish { retain: *retain, dup: again, ..Publish::new(topic, payload) };
        publish.qos(*qos).id(*id).encode(self.version)
    }
}

/// Receives messages at QoS 1 and 2, and records the packet ids of QoS 2.
pub(crate) struct Subscriber {
    name: String,
    version: Version,
    subscribed: bool,
    held: HashSet<u16>,
    /// Received numbers by topic, in order of arrival.
    pub(crate) got: BTreeMap<String, Vec<u64>>,
    pub(crate) count: usize,
}

impl Subscriber {
    pub(crate) fn new(number: usize, version: Version) -> Self {
        let name = format!("subscriber-{number}");
        Self { name, version, subscribed: false, held: HashSet::new(), got: BTreeMap::new(), count: 0 }
    }

    /// Receives messages until the broker is gone, or until `done` returns true.
    pub(crate) fn run(&mut self, place: &Place, done: impl Fn(&Self) -> bool) {
        let Some(mut socket) = Socket::open(place, self.version) else { return };
        let Some(present) = socket.log_in(&wire::connect(self.version, &self.name, false)) else { return };
        assert!(present || !self.subscribed, "{}: the session is lost", self.name);
        if !present {
            self.held.clear();
        }
        if !self.subscribed && !socket.send(&subscribe(self.version, 1, &[("q/#", 2)])) {
            return;
        }
        while !(self.subscribed && done(self)) {
            let Some(packet) = socket.next() else { return };
            let answer = match packet {
                Packet::Publish(message) => self.take(&message),
                Packet::Pubrel(pubrel) => {
                    self.held.remove(&pubrel.id);
                    ack(7, self.version, pubrel.id, 0)
                }
                Packet::Suback(_) => {
                    self.subscribed = true;
                    continue;
                }
                other => panic!("{}: unexpected packet {other:?}", self.name),
            };
            if !socket.send(&answer) {
                return;
            }
        }
    }

    fn take(&mut self, message: &Publish) -> Vec<u8> {
        assert!(!message.retain, "a live message");
        // At QoS 2, a message with a recorded packet id is a repetition (4.3.3).
        if message.qos == 1 || self.held.insert(message.id) {
            let number = message.text().parse().expect("payloads are numbers");
            self.got.entry(message.topic.clone()).or_default().push(number);
            self.count += 1;
        }
        ack(if message.qos == 1 { 4 } else { 5 }, self.version, message.id, 0)
    }
}
