//! A client that keeps to the protocol: it sends again what was not acknowledged, and takes each QoS 2 packet id once.

use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind;

use super::record::Record;
use super::wire::{
    Connect, Packet, Property, Publish, Version, Will, ack, disconnect, subscribe, take_packet,
};
use crate::transport::Transport;

/// Who a client is and what it asks for.
#[derive(Clone)]
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) version: Version,
    /// Seconds; 0 for a session that ends with its connection.
    pub(super) session_expiry: u32,
    pub(super) filters: &'static [(&'static str, u8)],
    pub(super) will: Option<Will>,
}

pub(super) struct Client {
    pub(super) profile: Profile,
    end: Option<Transport>,
    /// Whether the last CONNACK said that there was a session.
    pub(super) resumed: bool,
    ready: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    last_id: u16,
    last_number: u64,
    /// Published and not acknowledged, in the order of sending.
    unacknowledged: VecDeque<Sent>,
    /// QoS 2 packet ids from the broker that are not released.
    received: BTreeSet<u16>,
}

struct Sent {
    publish: Publish,
    /// PUBREC has come.
    released: bool,
}

impl Client {
    pub(super) fn new(profile: Profile) -> Self {
        Self {
            profile,
            end: None,
            resumed: false,
            ready: false,
            input: Vec::new(),
            output: Vec::new(),
            last_id: 0,
            last_number: 0,
            unacknowledged: VecDeque::new(),
            received: BTreeSet::new(),
        }
    }

    /// Whether CONNACK has come and the connection stands.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether everything published at QoS 1 and 2 is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// Gives up any connection, and sends CONNECT over a new one.
    pub(super) fn connect(&mut self, end: Transport) {
        self.cut();
        let Profile { name, version, session_expiry, ref will, .. } = self.profile;
        let mut connect = Connect::new(version).id(name);
        connect.will.clone_from(will);
        if session_expiry > 0 {
            connect = connect.resume().property(Property::SessionExpiry(session_expiry));
        }
        self.output = connect.encode();
        self.end = Some(end);
        self.write();
    }

    /// Ends the connection without a word.
    pub(super) fn cut(&mut self) {
        self.end = None;
        self.ready = false;
        self.input.clear();
        self.output.clear();
    }

    /// Gives up the connection without closing it.
    pub(super) fn leave_open(&mut self) -> Option<Transport> {
        let end = self.end.take();
        self.cut();
        end
    }

    /// Says DISCONNECT, and closes.
    pub(super) fn disconnect(&mut self) {
        self.output.extend(disconnect(self.profile.version, 0, &[]));
        self.write();
        self.cut();
    }

    /// Publishes the next message: its payload is the client's name and a number that rises.
    pub(super) fn publish(
        &mut self,
        topic: &str,
        qos: u8,
        expiry: Option<u32>,
        now: u64,
        record: &mut Record,
    ) {
        self.last_number += 1;
        let mut publish =
            Publish::new(topic, &format!("{}:{}", self.profile.name, self.last_number)).qos(qos);
        publish.properties.extend(expiry.map(Property::MessageExpiry));
        if qos > 0 {
            // Taken ids are far behind: nobody has that many unacknowledged.
            self.last_id = self.last_id % u16::MAX + 1;
            publish.id = self.last_id;
        }
        self.output.extend(publish.encode(self.profile.version));
        record.published(self.profile.name, self.last_number, &publish, now);
        if qos > 0 {
            self.unacknowledged.push_back(Sent { publish, released: false });
        }
        self.write();
    }

    /// Sends bytes as they are.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.write();
    }

    fn write(&mut self) {
        while let Some(end) = &self.end
            && !self.output.is_empty()
        {
            match end.try_write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.cut(),
            }
        }
    }

    /// Reads what has come and answers it; false where nothing has, and nothing was left to write.
    pub(super) fn work(&mut self, now: u64, record: &mut Record) -> bool {
        let before = self.output.len();
        self.write();
        let mut any = self.output.len() != before;
        while let Some(end) = &self.end {
            match end.try_read(&mut self.input) {
                Ok(0) => self.cut(),
                Ok(_) => any = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.cut(),
            }
            while let Some(packet) = take_packet(self.profile.version, &mut self.input) {
                self.handle(packet, now, record);
            }
        }
        self.write();
        any
    }

    fn handle(&mut self, packet: Packet, now: u64, record: &mut Record) {
        let (name, version) = (self.profile.name, self.profile.version);
        record.note(now, name, &format!("{packet:?}"));
        match packet {
            Packet::Connack(connack) => {
                assert_eq!(connack.code, 0, "{name} is let in");
                self.ready = true;
                self.resumed = connack.session_present;
                self.begin(now, record);
            }
            Packet::Publish(publish) => {
                let new = publish.qos < 2 || self.received.insert(publish.id);
                if new {
                    record.delivered(&self.profile, &publish, now);
                }
                if publish.qos > 0 {
                    self.output.extend(ack(publish.qos + 3, version, publish.id, 0));
                }
            }
            Packet::Puback(ack) => {
                assert!(ack.code < 0x80, "{name}: {ack:?}");
                self.unacknowledged.retain(|sent| sent.publish.id != ack.id);
            }
            Packet::Pubrec(rec) => {
                assert!(rec.code < 0x80, "{name}: {rec:?}");
                for sent in self.unacknowledged.iter_mut().filter(|sent| sent.publish.id == rec.id) {
                    sent.released = true;
                }
                self.output.extend(ack(6, version, rec.id, 0));
            }
            Packet::Pubrel(rel) => {
                self.received.remove(&rel.id);
                self.output.extend(ack(7, version, rel.id, 0));
            }
            Packet::Pubcomp(comp) => self.unacknowledged.retain(|sent| sent.publish.id != comp.id),
            Packet::Disconnect { .. } => self.cut(),
            Packet::Suback(_) => {}
            other => panic!("{name} got {other:?}"),
        }
    }

    /// After CONNACK: subscribes where there was no session, else goes on where the last connection ended.
    fn begin(&mut self, now: u64, record: &mut Record) {
        let version = self.profile.version;
        if self.resumed {
            for sent in &mut self.unacknowledged {
                if sent.released {
                    self.output.extend(ack(6, version, sent.publish.id, 0));
                    continue;
                }
                sent.publish.dup = true;
                record.sent_again(&sent.publish, now);
                self.output.extend(sent.publish.encode(version));
            }
            return;
        }
        self.received.clear();
        for sent in self.unacknowledged.drain(..) {
            record.given_up(&sent.publish);
        }
        if !self.profile.filters.is_empty() {
            self.output.extend(subscribe(version, 1, self.profile.filters));
        }
    }
}
