//! Encoding of all packets that the broker sends, except for PUBLISH.

use std::num::NonZeroU16;

use bytes::BytesMut;
use bytestring::ByteString;
use rmqtt_codec::{v3, v5};
use tokio_util::codec::Encoder;

use super::reason::Reason;
use super::version::Version;

/// Contents of CONNACK (MQTT 5, 3.2).
#[derive(Debug, Clone)]
pub(crate) struct ConnAck {
    pub(crate) reason: Reason,
    pub(crate) reason_string: Option<ByteString>,
    pub(crate) session_present: bool,
    /// Granted Session Expiry Interval in seconds, if it differs from the requested one.
    pub(crate) session_expiry: Option<u32>,
    pub(crate) receive_maximum: u16,
    pub(crate) packet_maximum: u32,
    pub(crate) alias_maximum: u16,
    pub(crate) assigned_client_id: Option<ByteString>,
    /// Server Keep Alive in seconds, if it differs from the requested one.
    pub(crate) keep_alive: Option<u16>,
    /// Number of messages dropped for the session since its client's last report: user property [`DROPPED`], unless 0.
    pub(crate) dropped: u64,
    /// Bus features of this broker: user property [`FEATURES`], unless empty.
    pub(crate) features: &'static str,
}

/// User property of CONNACK with the bus features of this broker (PROTOCOL.md).
const FEATURES: &str = "rantai";
/// User property of CONNACK with the number of messages dropped for a session.
const DROPPED: &str = "messages-dropped";

impl ConnAck {
    pub(crate) fn refused(reason: Reason, reason_string: &str) -> Self {
        Self {
            reason,
            reason_string: Some(reason_string.into()),
            session_present: false,
            session_expiry: None,
            receive_maximum: u16::MAX,
            packet_maximum: u32::MAX,
            alias_maximum: 0,
            assigned_client_id: None,
            keep_alive: None,
            dropped: 0,
            features: "",
        }
    }
}

pub(crate) fn connack(version: Version, ack: ConnAck, out: &mut Vec<u8>) {
    match version {
        Version::V3 => {
            out.extend_from_slice(&[0x20, 2, u8::from(ack.session_present), v3_return_code(ack.reason)]);
        }
        Version::V5 => {
            let user_properties = user_properties(&ack);
            let packet = v5::ConnectAck {
                session_present: ack.session_present,
                reason_code: ack.reason.0.try_into().unwrap_or(v5::ConnectAckReason::UnspecifiedError),
                session_expiry_interval_secs: ack.session_expiry,
                receive_max: NonZeroU16::new(ack.receive_maximum).unwrap_or(NonZeroU16::MAX),
                max_packet_size: (ack.packet_maximum != u32::MAX).then_some(ack.packet_maximum),
                assigned_client_id: ack.assigned_client_id,
                topic_alias_max: ack.alias_maximum,
                server_keepalive_sec: ack.keep_alive,
                reason_string: ack.reason_string,
                user_properties,
                ..v5::ConnectAck::default()
            };
            library(v5::Packet::from(packet), out);
        }
    }
}

fn user_properties(ack: &ConnAck) -> v5::UserProperties {
    let property = |key, value: ByteString| (ByteString::from_static(key), value);
    let features = (!ack.features.is_empty()).then(|| property(FEATURES, ack.features.into()));
    let dropped = (ack.dropped > 0).then(|| property(DROPPED, ack.dropped.to_string().into()));
    features.into_iter().chain(dropped).collect()
}

/// Returns the return code of MQTT 3.1.1 (3.2.2.3) for a reason code of MQTT 5.
fn v3_return_code(reason: Reason) -> u8 {
    match reason {
        Reason::SUCCESS => 0,
        Reason::UNSUPPORTED_VERSION => 1,
        Reason::CLIENT_ID_NOT_VALID => 2,
        Reason::BAD_USER_NAME_OR_PASSWORD => 4,
        Reason::NOT_AUTHORIZED => 5,
        _ => 3,
    }
}

/// Kind of acknowledgement; the value is its first byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(clippy::enum_variant_names, reason = "the standard's names")]
pub(crate) enum Acknowledge {
    PubAck = 0x40,
    PubRec = 0x50,
    PubRel = 0x62,
    PubComp = 0x70,
}

/// Maximum size of a Reason String, in bytes.
pub(crate) const REASON_STRING_BYTES: usize = 400;

/// Maximum number of bytes around the Reason String of an acknowledgement.
pub(crate) const AROUND_REASON_STRING: usize = 11;

/// Encodes PUBACK, PUBREC, PUBREL or PUBCOMP, in MQTT 3.1.1 without the reason. A Reason String has at most
/// [`REASON_STRING_BYTES`].
pub(crate) fn acknowledge(
    version: Version,
    kind: Acknowledge,
    id: u16,
    reason: Reason,
    reason_string: Option<&str>,
    out: &mut Vec<u8>,
) {
    let [high, low] = id.to_be_bytes();
    match (version, reason_string) {
        (Version::V5, Some(text)) => {
            let properties = text.len() + 3;
            let rest = properties + 3 + if properties < 128 { 1 } else { 2 };
            out.push(kind as u8);
            put_length(rest, out);
            out.extend_from_slice(&[high, low, reason.0]);
            put_length(properties, out);
            let [length_high, length_low] = (text.len() as u16).to_be_bytes();
            out.extend_from_slice(&[0x1F, length_high, length_low]);
            out.extend_from_slice(text.as_bytes());
        }
        (Version::V5, _) if reason != Reason::SUCCESS => {
            out.extend_from_slice(&[kind as u8, 3, high, low, reason.0]);
        }
        _ => out.extend_from_slice(&[kind as u8, 2, high, low]),
    }
}

/// Appends a Variable Byte Integer below 16,384 (MQTT 5, 1.5.5).
fn put_length(length: usize, out: &mut Vec<u8>) {
    match length {
        ..128 => out.push(length as u8),
        _ => out.extend_from_slice(&[(length % 128) as u8 | 0x80, (length / 128) as u8]),
    }
}

/// Encodes SUBACK, with a Reason String about refused filters; in MQTT 3.1.1 every failure is 0x80.
pub(crate) fn suback(
    version: Version,
    id: u16,
    reasons: &[Reason],
    reason_string: Option<&str>,
    out: &mut Vec<u8>,
) {
    let packet_id = NonZeroU16::new(id).expect("the decoder refuses packet id 0");
    match version {
        Version::V3 => {
            let status = reasons.iter().map(|r| match QoS3::try_from(r.0) {
                Ok(qos) => v3_status::Success(qos),
                Err(_) => v3_status::Failure,
            });
            library3(v3::Packet::SubscribeAck { packet_id, status: status.collect() }, out);
        }
        Version::V5 => {
            let status =
                reasons.iter().map(|r| r.0.try_into().unwrap_or(v5::SubscribeAckReason::UnspecifiedError));
            let packet = v5::SubscribeAck {
                packet_id,
                properties: Vec::new(),
                reason_string: reason_string.map(ByteString::from),
                status: status.collect(),
            };
            library(v5::Packet::from(packet), out);
        }
    }
}

use rmqtt_codec::types::QoS as QoS3;
use v3::SubscribeReturnCode as v3_status;

pub(crate) fn unsuback(version: Version, id: u16, reasons: &[Reason], out: &mut Vec<u8>) {
    let packet_id = NonZeroU16::new(id).expect("the decoder refuses packet id 0");
    match version {
        Version::V3 => library3(v3::Packet::UnsubscribeAck { packet_id }, out),
        Version::V5 => {
            let status =
                reasons.iter().map(|r| r.0.try_into().unwrap_or(v5::UnsubscribeAckReason::UnspecifiedError));
            let packet = v5::UnsubscribeAck {
                packet_id,
                properties: Vec::new(),
                reason_string: None,
                status: status.collect(),
            };
            library(v5::Packet::from(packet), out);
        }
    }
}

/// Encodes DISCONNECT, which a server sends in MQTT 5 only; appends nothing for 3.1.1.
pub(crate) fn disconnect(
    version: Version,
    reason: Reason,
    reason_string: Option<&'static str>,
    out: &mut Vec<u8>,
) {
    if version == Version::V3 {
        return;
    }
    let code = reason.0.try_into().unwrap_or(v5::DisconnectReasonCode::UnspecifiedError);
    let mut packet = v5::Disconnect::new(code);
    packet.reason_string = reason_string.map(ByteString::from_static);
    library(v5::Packet::from(packet), out);
}

pub(crate) fn ping_response(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xD0, 0]);
}

fn library(packet: v5::Packet, out: &mut Vec<u8>) {
    let mut buffer = BytesMut::new();
    v5::Codec::new(0, 0).encode(packet, &mut buffer).expect("what the broker says itself is valid and small");
    out.extend_from_slice(&buffer);
}

fn library3(packet: v3::Packet, out: &mut Vec<u8>) {
    let mut buffer = BytesMut::new();
    v3::Codec::new(0).encode(packet, &mut buffer).expect("what the broker says itself is valid and small");
    out.extend_from_slice(&buffer);
}
