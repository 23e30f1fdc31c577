//! Round trips of packets, and the reason code for each invalid packet.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::message::{Message, Properties, QoS};

/// Time of everything in these tests, in milliseconds since 1970.
const NOW: u64 = 1_700_000_000_000;

fn read(bytes: &[u8], version: Option<Version>) -> Result<Packet, DecodeError> {
    let mut buffer = BytesMut::from(bytes);
    let frame = frame(&buffer, 1 << 20)?.expect("a whole header");
    assert_eq!(frame.length, bytes.len(), "a whole packet");
    let packet = decode(frame, &mut buffer, version, NOW, 9);
    assert!(buffer.is_empty(), "used up whatever it was");
    packet
}

fn full_message() -> Message {
    Message {
        topic: "é/x".into(),
        payload: "payload".into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: Properties {
            payload_is_utf8: Some(false),
            content_type: Some("text/plain".into()),
            response_topic: Some("r/1".into()),
            correlation_data: Some(Bytes::from_static(&[0, 1, 255])),
            user: [("b", "2"), ("a", "1"), ("b", "2")].into_iter().collect(),
        },
        expires: Some(NOW + 60_000),
        asked: None,
    }
}

fn encoded(message: &Message, outgoing: Outgoing<'_>, version: Version, now: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let encoded = encode_publish(message, outgoing, version, now, &mut out);
    assert_eq!(encoded.head, out.len());
    out.extend_from_slice(&message.payload);
    out
}

#[test]
fn a_message_keeps_every_property_in_a_round_trip() {
    let message = full_message();
    let outgoing = Outgoing { qos: QoS::AtLeastOnce, retain: true, id: 7, ..Outgoing::default() };
    let bytes = encoded(&message, outgoing, Version::V5, NOW);
    let Ok(Packet::Publish(back)) = read(&bytes, Some(Version::V5)) else { panic!("no PUBLISH") };
    assert_eq!((back.id, back.dup, back.alias), (7, false, None));
    let left = back.message.expires.unwrap().abs_diff(message.expires.unwrap());
    assert!(left <= 1_500, "the interval is whole seconds: {left} ms off");
    assert_eq!(Message { expires: None, ..back.message }, Message { expires: None, ..message });
}

#[test]
fn the_expiry_interval_counts_down_and_never_below_zero() {
    let message = Message { topic: "t".into(), expires: Some(100_000), ..Message::default() };
    let outgoing = Outgoing::default();
    for (now, seconds) in [(40_000, 60), (40_001, 60), (99_500, 1), (100_000, 0), (200_000, 0)] {
        let bytes = encoded(&message, outgoing, Version::V5, now);
        assert_eq!(bytes[bytes.len() - 4..], u32::to_be_bytes(seconds), "at {now}");
    }
}

#[test]
fn version_3_gets_no_properties() {
    let bytes = encoded(&full_message(), Outgoing::default(), Version::V3, 0);
    assert_eq!(bytes, b"\x30\x0D\x00\x04\xC3\xA9/xpayload");
}

#[test]
fn a_packet_id_is_patched_in_place() {
    let message = full_message();
    for version in [Version::V3, Version::V5] {
        let with_id = |id| Outgoing { qos: QoS::ExactlyOnce, id, ..Outgoing::default() };
        let mut out = Vec::new();
        let at = encode_publish(&message, with_id(1), version, 0, &mut out);
        patch_packet_id(&mut out, at, 0xABCD);
        let mut expected = Vec::new();
        encode_publish(&message, with_id(0xABCD), version, 0, &mut expected);
        assert_eq!(out, expected);
    }
}

#[test]
fn invalid_packets_are_refused_with_their_reason_code() {
    let cases: &[(&[u8], Option<Version>, Reason)] = &[
        (b"\x32\x05\x00\x01t\x00\x00", Some(Version::V3), Reason::PROTOCOL_ERROR),
        (b"\x36\x05\x00\x01t\x00\x01", Some(Version::V3), Reason::MALFORMED_PACKET),
        (b"\x38\x03\x00\x01t", Some(Version::V3), Reason::MALFORMED_PACKET),
        (b"\x30\x02\x00\x00", Some(Version::V3), Reason::MALFORMED_PACKET),
        (b"\x30\x04\x00\x02a#", Some(Version::V3), Reason::TOPIC_NAME_INVALID),
        (b"\x30\x03\x00\x01\0", Some(Version::V3), Reason::MALFORMED_PACKET),
        (b"\x30\x03\x00\x01\xFF", Some(Version::V3), Reason::MALFORMED_PACKET),
        (b"\x30\x04\x00\x09ab", Some(Version::V3), Reason::MALFORMED_PACKET),
        (b"\x30\x06\x00\x01t\x02\x0B\x01", Some(Version::V5), Reason::PROTOCOL_ERROR),
        (b"\x30\x08\x00\x01t\x04\x01\x00\x01\x00", Some(Version::V5), Reason::PROTOCOL_ERROR),
        (b"\x30\x09\x00\x01t\x05\x08\x00\x02a+", Some(Version::V5), Reason::PROTOCOL_ERROR),
        (b"\x30\x03\x00\x00\x00", Some(Version::V5), Reason::PROTOCOL_ERROR),
        (b"\xC0\x01\x00", Some(Version::V3), Reason::MALFORMED_PACKET),
        (b"\x82\x06\x00\x01\x00\x01t\x04", Some(Version::V3), Reason::MALFORMED_PACKET),
        (b"\xF0\x00", Some(Version::V3), Reason::PROTOCOL_ERROR),
        (b"\xE0\x01\x00", Some(Version::V3), Reason::MALFORMED_PACKET),
        (b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x00x", None, Reason::MALFORMED_PACKET),
        (b"\x10\x0C\x00\x04MQTT\x04\x22\x00\x00\x00\x00", None, Reason::MALFORMED_PACKET),
        (b"\x10\x0C\x00\x04MQTT\x06\x02\x00\x00\x00\x00", None, Reason::UNSUPPORTED_VERSION),
        (b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x00", Some(Version::V3), Reason::PROTOCOL_ERROR),
    ];
    for (bytes, version, reason) in cases {
        let refused = read(bytes, *version).expect_err("refused");
        assert_eq!(refused.reason, *reason, "{bytes:02X?}: {}", refused.text);
    }
    for first in [0x00, 0x20, 0x90, 0xB0, 0xD0, 0x60, 0x80, 0xA0, 0x11, 0xC1] {
        assert!(frame(&[first, 0], 100).is_err(), "first byte {first:02X}");
    }
    assert!(frame(&[0x30, 0x80, 0x80, 0x80, 0x80], 100).is_err());
    assert!(frame(&[0x30, 0x80, 0x00], 100).is_err(), "in more bytes than it needs");
    assert_eq!(frame(&[0x30, 0x65], 102).unwrap_err().reason, Reason::PACKET_TOO_LARGE);
    assert_eq!(frame(&[0x30], 100), Ok(None));
}

#[test]
fn an_empty_client_id_without_clean_start_is_refused_in_version_3() {
    let v5 = read(b"\x10\x0D\x00\x04MQTT\x05\x00\x00\x00\x00\x00\x00", None);
    let Ok(Packet::Connect(connect)) = v5 else { panic!("{v5:?}") };
    assert!(!connect.clean_start && connect.client_id.is_empty());
    let v3 = read(b"\x10\x0C\x00\x04MQTT\x04\x00\x00\x00\x00\x00", None);
    assert_eq!(v3.unwrap_err().reason, Reason::CLIENT_ID_NOT_VALID);
}

#[test]
fn the_version_of_the_answer_is_that_of_the_connect() {
    for (bytes, version) in [
        (&b"\x10\x0D\x00\x04MQTT\x05"[..], Version::V5),
        (b"\x10\x0C\x00\x04MQTT\x04", Version::V3),
        (b"\x10\x0E\x00\x06MQIsdp\x03", Version::V3),
        (b"\x10\x0E\x00\x06MQIsdp\x05", Version::V3),
        (b"\x10\x0C\x00\x04MQTT\x06", Version::V5),
        (b"\x10\x0C\x00\x04MQTT\x84", Version::V3),
        (b"\x10\x0C\x00\xFFMQ", Version::V3),
        (b"\x30\x0C\x00\x04MQTT\x05", Version::V3),
        (b"", Version::V3),
    ] {
        assert_eq!(announced_version(bytes), version, "{bytes:02X?}");
    }
}

#[test]
fn user_properties_above_the_limit_are_skipped_by_their_lengths() {
    let read = |last: &[u8]| {
        let mut bytes = b"\x30\x00\x00\x01x\x00".to_vec();
        for _ in 0..9 {
            bytes.extend_from_slice(b"\x26\x00\x01a\x00\x01b");
        }
        bytes.extend_from_slice(last);
        bytes[1] = bytes.len() as u8 - 2;
        bytes[5] = bytes.len() as u8 - 6;
        let mut buffer = BytesMut::from(&bytes[..]);
        let frame = frame(&buffer, u32::MAX).unwrap().unwrap();
        read_publish(frame, &mut buffer, Version::V5, NOW, 3)
    };
    let publish = read(b"\x01\x01").unwrap();
    assert_eq!(publish.message.properties.user.len(), 4);
    assert_eq!(publish.message.properties.payload_is_utf8, Some(true), "what follows them is read");
    assert!(read(b"\x26\x00\x01\x00\x00\x01\xFF").is_ok(), "their text is of no interest");
    for malformed in [&b"\x26"[..], b"\x26\x00\x00\x00", b"\x26\x00\x00\x00\x01", b"\x26\x00\x09a\x00\x00"] {
        assert_eq!(read(malformed).unwrap_err().reason, Reason::MALFORMED_PACKET, "{malformed:02X?}");
    }
}
