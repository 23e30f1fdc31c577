//! Packets sent by a server, parsed strictly: everything that the standard forbids is an error.

use crate::outgoing::Publish;
use crate::primitive::variable_integer;
use crate::property::{Property, read_properties};
use crate::reader::{Malformed, Reader, ensure, malformed};
use crate::version::Version;

/// CONNACK (MQTT 5, 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields and variants have the names of the standard")]
pub struct Connack {
    pub session_present: bool,
    pub code: u8,
    pub properties: Vec<Property>,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (MQTT 5, 3.4 to 3.7). In 3.1.1 the code is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields and variants have the names of the standard")]
pub struct Ack {
    pub id: u16,
    pub code: u8,
    pub properties: Vec<Property>,
}

/// SUBACK or UNSUBACK (MQTT 5, 3.9 and 3.11). UNSUBACK has no codes in 3.1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields and variants have the names of the standard")]
pub struct Suback {
    pub id: u16,
    pub codes: Vec<u8>,
    pub properties: Vec<Property>,
}

/// Packet sent by a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields and variants have the names of the standard")]
pub enum Packet {
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

/// Returns the length of the first packet in `bytes`; `None` if it cannot be read yet.
///
/// # Errors
///
/// The remaining length is above the maximum, or is encoded in more bytes than necessary.
pub fn length_of_first(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().skip(1).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let coded = variable_integer(length as u32).len();
            ensure!(coded == index + 1, "a remaining length is longer than it need be");
            return Ok(Some(length + index + 2));
        }
        ensure!(index < 3, "a remaining length has more than four bytes");
    }
    Ok(None)
}

/// Parses one complete packet sent to a client of `version`.
///
/// # Errors
///
/// The packet violates the standard.
pub fn read_packet(version: Version, bytes: &[u8]) -> Result<Packet, Malformed> {
    let kind = bytes[0] >> 4;
    let flags = bytes[0] & 0x0F;
    let header = bytes.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 2;
    let mut reader = Reader::new(&bytes[header..]);
    if kind != 3 {
        let expected = if kind == 6 { 2 } else { 0 };
        ensure!(flags == expected, "reserved bits of packet type {kind}");
    }
    let packet = match kind {
        2 => Packet::Connack(connack(version, &mut reader)?),
        3 => Packet::Publish(publish(version, flags, &mut reader)?),
        4 => Packet::Puback(acknowledgement(version, kind, &mut reader)?),
        5 => Packet::Pubrec(acknowledgement(version, kind, &mut reader)?),
        6 => Packet::Pubrel(acknowledgement(version, kind, &mut reader)?),
        7 => Packet::Pubcomp(acknowledgement(version, kind, &mut reader)?),
        9 => Packet::Suback(suback(version, kind, &mut reader)?),
        11 => Packet::Unsuback(suback(version, kind, &mut reader)?),
        13 => Packet::Pingresp,
        14 => {
            ensure!(version == Version::V5, "a 3.1.1 server never sends DISCONNECT");
            let (code, properties) = code_and_properties(kind, &mut reader)?;
            let known: &[u8] = &[
                0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
                0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
            ];
            ensure!(known.contains(&code), "{code:#04x} is no reason for DISCONNECT");
            Packet::Disconnect { code, properties }
        }
        15 => {
            ensure!(version == Version::V5, "3.1.1 has no AUTH");
            let (code, properties) = code_and_properties(kind, &mut reader)?;
            ensure!(matches!(code, 0 | 0x18), "{code:#04x} is no reason for a server's AUTH");
            Packet::Auth { code, properties }
        }
        other => malformed!("a server never sends packet type {other}"),
    };
    ensure!(reader.is_empty(), "bytes are left over behind {packet:?}");
    Ok(packet)
}

fn connack(version: Version, reader: &mut Reader<'_>) -> Result<Connack, Malformed> {
    let flags = reader.u8()?;
    ensure!(flags & 0xFE == 0, "reserved bits of the Connect Acknowledge Flags");
    let code = reader.u8()?;
    let session_present = flags == 1;
    // A server that does not support the version answers in the format of one that it does.
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
    ensure!(known.contains(&code), "{code:#04x} is no reason for CONNACK");
    ensure!(code == 0 || !session_present, "a refusal has Session Present set");
    let properties = match form {
        Version::V3 => Vec::new(),
        Version::V5 => read_properties(reader, 2)?,
    };
    Ok(Connack { session_present, code, properties })
}

fn publish(version: Version, flags: u8, reader: &mut Reader<'_>) -> Result<Publish, Malformed> {
    let qos = (flags >> 1) & 3;
    let dup = flags & 8 != 0;
    ensure!(qos < 3, "a PUBLISH has both QoS bits set");
    ensure!(!dup || qos > 0, "a PUBLISH at QoS 0 has DUP set");
    let topic = reader.string()?;
    ensure!(!topic.contains(['+', '#']), "a topic name has a wildcard: {topic}");
    let id = if qos > 0 { reader.packet_id()? } else { 0 };
    let properties = match version {
        Version::V3 => Vec::new(),
        Version::V5 => read_properties(reader, 3)?,
    };
    let aliased = properties.iter().any(|property| matches!(property, Property::TopicAlias(_)));
    ensure!(!topic.is_empty() || aliased, "a PUBLISH has no topic");
    Ok(Publish { topic, payload: reader.rest(), qos, retain: flags & 1 != 0, dup, id, properties })
}

fn acknowledgement(version: Version, kind: u8, reader: &mut Reader<'_>) -> Result<Ack, Malformed> {
    let id = reader.packet_id()?;
    let (code, properties) = match version {
        Version::V3 => (0, Vec::new()),
        Version::V5 => code_and_properties(kind, reader)?,
    };
    let known: &[u8] = match kind {
        4 | 5 => &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        _ => &[0x00, 0x92],
    };
    ensure!(known.contains(&code), "{code:#04x} is no reason for packet type {kind}");
    Ok(Ack { id, code, properties })
}

fn suback(version: Version, kind: u8, reader: &mut Reader<'_>) -> Result<Suback, Malformed> {
    let id = reader.packet_id()?;
    let properties = match version {
        Version::V3 => Vec::new(),
        Version::V5 => read_properties(reader, kind)?,
    };
    let codes = reader.rest();
    let known: &[u8] = match (version, kind) {
        (Version::V3, 9) => &[0, 1, 2, 0x80],
        (Version::V3, _) => &[],
        (Version::V5, 9) => &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2],
        (Version::V5, _) => &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
    };
    ensure!(
        codes.iter().all(|code| known.contains(code)),
        "{codes:02x?} are not all reasons for packet type {kind}"
    );
    Ok(Suback { id, codes, properties })
}

/// Parses a reason code and properties, which may both be missing at the end of a packet.
fn code_and_properties(kind: u8, reader: &mut Reader<'_>) -> Result<(u8, Vec<Property>), Malformed> {
    if reader.is_empty() {
        return Ok((0, Vec::new()));
    }
    let code = reader.u8()?;
    if reader.is_empty() {
        return Ok((code, Vec::new()));
    }
    Ok((code, read_properties(reader, kind)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ack, frame};

    #[test]
    fn packets_are_equal_after_a_round_trip() {
        for version in Version::BOTH {
            let mut publish = Publish::new("a/b", "text").qos(2).retain().id(7);
            if version == Version::V5 {
                publish = publish.property(Property::ResponseTopic("c".to_owned()));
            }
            let bytes = publish.encode(version);
            assert_eq!(length_of_first(&bytes), Ok(Some(bytes.len())), "{version:?}");
            assert_eq!(read_packet(version, &bytes), Ok(Packet::Publish(publish)));
            let pubrel = Packet::Pubrel(Ack { id: 7, code: 0, properties: Vec::new() });
            assert_eq!(read_packet(version, &ack(6, version, 7, 0)), Ok(pubrel));
        }
        assert_eq!(length_of_first(&[0x30]), Ok(None));
        assert_eq!(length_of_first(&[0x30, 0x80]), Ok(None));
    }

    #[test]
    fn packets_that_a_server_must_not_send_are_malformed() {
        for (wrong, says) in [
            (frame(0x10, &[]), "packet type 1"),
            (frame(0x20, &[2, 0, 0]), "reserved bits"),
            (frame(0x20, &[1, 0x87, 0]), "Session Present"),
            (frame(0x21, &[0, 0, 0]), "reserved bits"),
            (frame(0x36, &[0, 1, b'a', 0, 1, 0]), "both QoS bits"),
            (frame(0x38, &[0, 1, b'a', 0]), "DUP"),
            (frame(0x32, &[0, 1, b'a', 0, 0, 0]), "is zero"),
            (frame(0x30, &[0, 1, b'#', 0]), "wildcard"),
            (frame(0x30, &[0, 0, 0]), "no topic"),
            (frame(0x30, &[0, 1, 0xFF, 0]), "not UTF-8"),
            (frame(0x30, &[0, 9, b'a']), "runs past"),
            (frame(0x30, &[0, 1, b'a', 2, 0x01, 2]), "0 or 1"),
            (frame(0x30, &[0, 1, b'a', 4, 0x01, 0, 0x01, 0]), "stands twice"),
            (frame(0x30, &[0, 1, b'a', 5, 0x11, 0, 0, 0, 1]), "may not stand"),
            (frame(0x40, &[0, 1, 0x01]), "no reason"),
            (frame(0xD0, &[0]), "left over"),
        ] {
            let error = read_packet(Version::V5, &wrong).expect_err("refused").to_string();
            assert!(error.contains(says), "{wrong:02x?}: {error}");
        }
        assert!(read_packet(Version::V3, &frame(0xE0, &[])).is_err(), "DISCONNECT in 3.1.1");
        assert!(length_of_first(&[0x30, 0x80, 0x00]).is_err(), "longer than it need be");
        assert!(length_of_first(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]).is_err(), "five bytes");
    }
}
