//! Clients that keep their part of the protocol: what they sent and what they have is remembered across
//! connections, as MQTT 5, 4.1 and 4.3 ask of them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;

use crate::wire::{self, Socket, Version};

/// How many messages a publisher has under way.
const WINDOW: usize = 12;

/// One message under way from a publisher.
#[derive(Clone, Debug)]
struct Pending {
    id: u16,
    topic: String,
    payload: String,
    flags: u8,
    /// PUBREC came: from now on only PUBREL is sent.
    released: bool,
}

/// Publishes numbers, at QoS 1 and 2 and retained, and knows which of them the broker has taken.
pub(crate) struct Publisher {
    name: String,
    version: Version,
    pending: VecDeque<Pending>,
    next: u64,
    next_id: u16,
    /// By topic, the numbers that were acknowledged.
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

    /// Publishes until the broker is gone, or (`drain`) until nothing is under way any more.
    pub(crate) fn run(&mut self, address: SocketAddr, drain: bool) {
        let Some(mut socket) = Socket::open(address) else { return };
        let Some(present) = socket.log_in(&wire::connect(self.version, &self.name, false)) else { return };
        // Once the broker has acknowledged anything, it has said that the session is kept.
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
            let Some(index) = self.pending.iter().position(|p| p.id == packet.id()) else {
                panic!("{}: an acknowledgement of nothing: {packet:?}", self.name);
            };
            match packet.first {
                0x40 | 0x50 => {
                    assert!(packet.code() < 0x80, "{}: refused: {packet:?}", self.name);
                    self.known = true;
                    let pending = &mut self.pending[index];
                    if !pending.released {
                        let number = pending.payload.parse().expect("payloads are numbers");
                        self.taken.entry(pending.topic.clone()).or_default().push(number);
                    }
                    if packet.first == 0x40 {
                        self.pending.remove(index);
                    } else {
                        pending.released = true;
                        let release = wire::acknowledge(0x62, packet.id());
                        if !socket.send(&release) {
                            return;
                        }
                    }
                }
                0x70 => drop(self.pending.remove(index)),
                other => panic!("{}: unexpected packet {other:02X}", self.name),
            }
        }
    }

    fn draw(&mut self) -> Pending {
        self.next += 1;
        self.next_id = self.next_id % 60_000 + 1;
        let number = self.next;
        let name = &self.name;
        let (topic, flags) = match number % 5 {
            0 => (format!("r/{name}/{}", number / 5 % 3), 3),
            n => (format!("q/{name}/{}", 1 + n % 2), if n % 2 == 0 { 2 } else { 4 }),
        };
        Pending { id: self.next_id, topic, payload: number.to_string(), flags, released: false }
    }

    fn packet(&self, pending: &Pending, again: bool) -> Vec<u8> {
        if pending.released {
            return wire::acknowledge(0x62, pending.id);
        }
        let flags = pending.flags | if again { 8 } else { 0 };
        wire::publish(self.version, flags, pending.id, &pending.topic, &pending.payload)
    }
}

/// Takes messages at QoS 1 and 2, and knows which packet ids of QoS 2 it has.
pub(crate) struct Subscriber {
    name: String,
    version: Version,
    subscribed: bool,
    held: HashSet<u16>,
    /// By topic, the numbers in the order in which they came.
    pub(crate) got: BTreeMap<String, Vec<u64>>,
    pub(crate) count: usize,
}

impl Subscriber {
    pub(crate) fn new(number: usize, version: Version) -> Self {
        let name = format!("subscriber-{number}");
        Self { name, version, subscribed: false, held: HashSet::new(), got: BTreeMap::new(), count: 0 }
    }

    /// Takes messages until the broker is gone, or until `done` says that this is all.
    pub(crate) fn run(&mut self, address: SocketAddr, done: impl Fn(&Self) -> bool) {
        let Some(mut socket) = Socket::open(address) else { return };
        let Some(present) = socket.log_in(&wire::connect(self.version, &self.name, false)) else { return };
        assert!(present || !self.subscribed, "{}: the session is lost", self.name);
        if !present {
            self.held.clear();
        }
        if !self.subscribed && !socket.send(&wire::subscribe(self.version, 1, "q/#", 2)) {
            return;
        }
        while !(self.subscribed && done(self)) {
            let Some(packet) = socket.next() else { return };
            let answer = match packet.first >> 4 {
                3 => self.take(&wire::message(&packet, self.version)),
                6 => {
                    self.held.remove(&packet.id());
                    wire::acknowledge(0x70, packet.id())
                }
                9 => {
                    self.subscribed = true;
                    continue;
                }
                other => panic!("{}: unexpected packet type {other}", self.name),
            };
            if !socket.send(&answer) {
                return;
            }
        }
    }

    fn take(&mut self, message: &wire::Message) -> Vec<u8> {
        assert!(!message.retain, "a live message");
        // With QoS 2 a packet id that is held is the same message again (4.3.3).
        if message.qos == 1 || self.held.insert(message.id) {
            let number = message.payload.parse().expect("payloads are numbers");
            self.got.entry(message.topic.clone()).or_default().push(number);
            self.count += 1;
        }
        wire::acknowledge(if message.qos == 1 { 0x40 } else { 0x50 }, message.id)
    }
}
