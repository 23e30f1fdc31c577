//! The few packets these tests need, byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::process::PATIENCE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3,
    V5,
}

/// A packet as it came: its first byte and what is behind its length.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

impl Packet {
    /// The packet id an acknowledgement begins with.
    pub(crate) fn id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// An acknowledgement's reason code.
    pub(crate) fn code(&self) -> u8 {
        self.body.get(2).copied().unwrap_or(0)
    }
}

/// A PUBLISH taken apart.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) id: u16,
    pub(crate) payload: String,
}

pub(crate) fn message(packet: &Packet, version: Version) -> Message {
    let body = &packet.body;
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = String::from_utf8(body[2..2 + length].to_vec()).expect("a topic is UTF-8");
    let (qos, mut at, mut id) = (packet.first >> 1 & 3, 2 + length, 0);
    if qos > 0 {
        id = u16::from_be_bytes([body[at], body[at + 1]]);
        at += 2;
    }
    if version == Version::V5 {
        assert!(body[at] < 0x80, "few properties");
        at += 1 + usize::from(body[at]);
    }
    let payload = String::from_utf8(body[at..].to_vec()).expect("the payloads of these tests are text");
    Message { topic, qos, retain: packet.first & 1 != 0, id, payload }
}

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 0x80, "short packets");
    [&[first, body.len() as u8], body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// CONNECT for a session that outlives its connection, or (`clean`) for one that does not.
pub(crate) fn connect(version: Version, id: &str, clean: bool) -> Vec<u8> {
    let flags = if clean { 2 } else { 0 };
    let properties: &[u8] = match version {
        Version::V3 => &[],
        Version::V5 if clean => &[0],
        // Session Expiry Interval of an hour.
        Version::V5 => &[5, 0x11, 0, 0, 0x0E, 0x10],
    };
    let level = if version == Version::V5 { 5 } else { 4 };
    frame(0x10, &[&text("MQTT")[..], &[level, flags, 0, 0], properties, &text(id)].concat())
}

pub(crate) fn subscribe(version: Version, id: u16, filter: &str, qos: u8) -> Vec<u8> {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    frame(0x82, &[&id.to_be_bytes()[..], properties, &text(filter), &[qos]].concat())
}

/// `flags`: DUP 8, QoS in 6, retain 1.
pub(crate) fn publish(version: Version, flags: u8, id: u16, topic: &str, payload: &str) -> Vec<u8> {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    let id = id.to_be_bytes();
    let id: &[u8] = if flags & 6 == 0 { &[] } else { &id };
    frame(0x30 | flags, &[&text(topic)[..], id, properties, payload.as_bytes()].concat())
}

/// PUBACK 0x40, PUBREC 0x50, PUBREL 0x62 or PUBCOMP 0x70.
pub(crate) fn acknowledge(first: u8, id: u16) -> Vec<u8> {
    frame(first, &id.to_be_bytes())
}

/// A socket that speaks MQTT. Every read ends within [`PATIENCE`].
pub(crate) struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Socket {
    /// `None` where nobody listens any more.
    pub(crate) fn open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(Self { stream, buffer: Vec::new() })
    }

    /// False where the connection is gone.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next packet; `None` where the connection is gone. Panics where the broker is there and silent.
    pub(crate) fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.take() {
                return Some(packet);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                    panic!("the broker is there and says nothing");
                }
                Err(_) => return None,
            }
        }
    }

    fn take(&mut self) -> Option<Packet> {
        let &first = self.buffer.first()?;
        let mut length = 0;
        let mut at = 1;
        loop {
            let byte = *self.buffer.get(at)?;
            length |= usize::from(byte & 0x7F) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if self.buffer.len() < at + length {
            return None;
        }
        let body = self.buffer[at..at + length].to_vec();
        self.buffer.drain(..at + length);
        Some(Packet { first, body })
    }

    /// Sends CONNECT and reads CONNACK: whether a session was there, or `None` where the broker is gone.
    pub(crate) fn log_in(&mut self, connect: &[u8]) -> Option<bool> {
        if !self.send(connect) {
            return None;
        }
        let ack = self.next()?;
        assert_eq!((ack.first, ack.body[1]), (0x20, 0), "let in");
        Some(ack.body[0] == 1)
    }
}
