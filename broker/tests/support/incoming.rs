//! Packets as a server sends them, read strictly: whatever the standard forbids is a panic.

use super::Version;
use super::outgoing::{Publish, variable_integer};
use super::property::{Property, read_properties};

/// CONNACK (3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connack {
    pub(crate) session_present: bool,
    pub(crate) code: u8,
    pub(crate) properties: Vec<Property>,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (3.4 to 3.7); in 3.1.1 the code is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) id: u16,
    pub(crate) code: u8,
    pub(crate) properties: Vec<Property>,
}

/// SUBACK or UNSUBACK (3.9, 3.11); UNSUBACK has no codes in 3.1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suback {
    pub(crate) id: u16,
    pub(crate) codes: Vec<u8>,
    pub(crate) properties: Vec<Property>,
}

/// A packet from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Connack(Connack),
    Publish(Publish),
    Puback(Ack),
    Pubrec(Ack),
    Pubrel(Ack),
    Pubcomp(Ack),
    Suback(Suback),
    Unsuback(Suback),
    Pingresp,
    Disconnect { code: u8, properties: Vec<Property> },
    Auth { code: u8, properties: Vec<Property> },
}

/// The bytes of one packet, taken from the front.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn take(&mut self, length: usize) -> Reader<'a> {
        Reader::new(self.slice(length))
    }

    fn slice(&mut self, length: usize) -> &'a [u8] {
        assert!(
            length <= self.bytes.len(),
            "a field of {length} bytes runs past the end of its packet ({} left)",
            self.bytes.len()
        );
        let (head, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        head
    }

    pub(super) fn rest(&mut self) -> Vec<u8> {
        self.slice(self.bytes.len()).to_vec()
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.slice(1)[0]
    }

    pub(super) fn flag(&mut self) -> u8 {
        let value = self.u8();
        assert!(value <= 1, "a property that is 0 or 1 is {value}");
        value
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.slice(2).try_into().expect("two bytes were taken"))
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.slice(4).try_into().expect("four bytes were taken"))
    }

    pub(super) fn binary(&mut self) -> Vec<u8> {
        let length = usize::from(self.u16());
        self.slice(length).to_vec()
    }

    pub(super) fn string(&mut self) -> String {
        let text = String::from_utf8(self.binary()).expect("a string of the server is UTF-8");
        assert!(!text.contains('\0'), "a string of the server has U+0000: {text:?}");
        text
    }

    pub(super) fn variable_integer(&mut self) -> u32 {
        let before = self.bytes;
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8();
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                let used = before.len() - self.bytes.len();
                assert_eq!(
                    &before[..used],
                    variable_integer(value).as_slice(),
                    "a variable byte integer is longer than it need be"
                );
                return value;
            }
        }
        panic!("a variable byte integer has more than four bytes");
    }

    fn packet_id(&mut self) -> u16 {
        let id = self.u16();
        assert_ne!(id, 0, "a packet identifier is zero");
        id
    }
}

/// How long the first packet in `bytes` is, once that can be told.
pub(super) fn length_of_first(bytes: &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().skip(1).enumerate() {
        assert!(index < 4, "a remaining length has more than four bytes");
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let coded = variable_integer(length as u32).len();
            assert_eq!(coded, index + 1, "a remaining length is longer than it need be");
            return Some(length + index + 2);
        }
    }
    None
}

/// Reads one whole packet sent to a client of `version`.
pub(super) fn read_packet(version: Version, bytes: &[u8]) -> Packet {
    let kind = bytes[0] >> 4;
    let flags = bytes[0] & 0x0F;
    let header = bytes.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 2;
    let mut reader = Reader::new(&bytes[header..]);
    if kind != 3 {
        let expected = if kind == 6 { 2 } else { 0 };
        assert_eq!(flags, expected, "reserved bits of packet type {kind}");
    }
    let packet = match kind {
        2 => Packet::Connack(connack(version, &mut reader)),
        3 => Packet::Publish(publish(version, flags, &mut reader)),
        4 => Packet::Puback(acknowledgement(version, kind, &mut reader)),
        5 => Packet::Pubrec(acknowledgement(version, kind, &mut reader)),
        6 => Packet::Pubrel(acknowledgement(version, kind, &mut reader)),
        7 => Packet::Pubcomp(acknowledgement(version, kind, &mut reader)),
        9 => Packet::Suback(suback(version, kind, &mut reader)),
        11 => Packet::Unsuback(suback(version, kind, &mut reader)),
        13 => Packet::Pingresp,
        14 => {
            assert_eq!(version, Version::V5, "a 3.1.1 server never sends DISCONNECT");
            let (code, properties) = code_and_properties(kind, &mut reader);
            let known: &[u8] = &[
                0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
                0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
            ];
            assert!(known.contains(&code), "{code:#04x} is no reason for DISCONNECT");
            Packet::Disconnect { code, properties }
        }
        15 => {
            assert_eq!(version, Version::V5, "3.1.1 has no AUTH");
            let (code, properties) = code_and_properties(kind, &mut reader);
            assert!(matches!(code, 0 | 0x18), "{code:#04x} is no reason for a server's AUTH");
            Packet::Auth { code, properties }
        }
        other => panic!("a server never sends packet type {other}"),
    };
    assert!(reader.is_empty(), "bytes are left over behind {packet:?}");
    packet
}

fn connack(version: Version, reader: &mut Reader<'_>) -> Connack {
    let flags = reader.u8();
    assert_eq!(flags & 0xFE, 0, "reserved bits of the Connect Acknowledge Flags");
    let code = reader.u8();
    let session_present = flags == 1;
    // A server that refuses the version itself answers in the form of one that it speaks.
    let form = match (code, reader.is_empty()) {
        (1, true) => Version::V3,
        (0x84, false) => Version::V5,
        _ => version,
    };
    let known: &[u8] = match form {
        Version::V3 => &[0, 1, 2, 3, 4, 5],
        Version::V5 => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
            0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
        ],
    };
    assert!(known.contains(&code), "{code:#04x} is no reason for CONNACK");
    assert!(code == 0 || !session_present, "a refusal has Session Present set");
    let properties = match form {
        Version::V3 => Vec::new(),
        Version::V5 => read_properties(reader, 2),
    };
    Connack { session_present, code, properties }
}

fn publish(version: Version, flags: u8, reader: &mut Reader<'_>) -> Publish {
    let qos = (flags >> 1) & 3;
    let dup = flags & 8 != 0;
    assert!(qos < 3, "a PUBLISH has both QoS bits set");
    assert!(!dup || qos > 0, "a PUBLISH at QoS 0 has DUP set");
    let topic = reader.string();
    assert!(!topic.contains(['+', '#']), "a topic name has a wildcard: {topic}");
    let id = if qos > 0 { reader.packet_id() } else { 0 };
    let properties = match version {
        Version::V3 => Vec::new(),
        Version::V5 => read_properties(reader, 3),
    };
    let aliased = properties.iter().any(|property| matches!(property, Property::TopicAlias(_)));
    assert!(!topic.is_empty() || aliased, "a PUBLISH has no topic");
    Publish { topic, payload: reader.rest(), qos, retain: flags & 1 != 0, dup, id, properties }
}

fn acknowledgement(version: Version, kind: u8, reader: &mut Reader<'_>) -> Ack {
    let id = reader.packet_id();
    let (code, properties) = match version {
        Version::V3 => (0, Vec::new()),
        Version::V5 => code_and_properties(kind, reader),
    };
    let known: &[u8] = match kind {
        4 | 5 => &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        _ => &[0x00, 0x92],
    };
    assert!(known.contains(&code), "{code:#04x} is no reason for packet type {kind}");
    Ack { id, code, properties }
}

fn suback(version: Version, kind: u8, reader: &mut Reader<'_>) -> Suback {
    let id = reader.packet_id();
    let properties = match version {
        Version::V3 => Vec::new(),
        Version::V5 => read_properties(reader, kind),
    };
    let codes = reader.rest();
    let known: &[u8] = match (version, kind) {
        (Version::V3, 9) => &[0, 1, 2, 0x80],
        (Version::V3, _) => &[],
        (Version::V5, 9) => &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2],
        (Version::V5, _) => &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
    };
    assert!(
        codes.iter().all(|code| known.contains(code)),
        "{codes:02x?} are not all reasons for packet type {kind}"
    );
    Suback { id, codes, properties }
}

/// A reason code and properties, each of which may be left out at the end of a packet.
fn code_and_properties(kind: u8, reader: &mut Reader<'_>) -> (u8, Vec<Property>) {
    if reader.is_empty() {
        return (0, Vec::new());
    }
    let code = reader.u8();
    if reader.is_empty() {
        return (code, Vec::new());
    }
    (code, read_properties(reader, kind))
}
