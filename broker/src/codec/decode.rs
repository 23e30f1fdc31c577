//! Decoding of frames into packets, with the checks that rmqtt-codec lacks.

use bytes::{Buf, BytesMut};
use bytestring::ByteString;
use rmqtt_codec::error::DecodeError as LibraryError;
use rmqtt_codec::{v3, v5};
use tokio_util::codec::Decoder;

use super::error::DecodeError;
use super::frame::Frame;
use super::packet::{Acknowledgement, Packet, Publish};
use super::reason::Reason;
use super::version::Version;
use super::{connect, filters, properties, publish};

/// Removes `frame` from the front of `buffer` and decodes it. `version` is `None` before CONNECT; `now` is the time of
/// arrival, in milliseconds on the broker's [`Clock`](crate::clock::Clock). With more user properties than `user_limit`
/// only a PUBLISH is decoded, like by [`read_publish`]; for other packets the result is
/// [`TOO_MANY_USER_PROPERTIES`](super::TOO_MANY_USER_PROPERTIES), at no cost.
///
/// A PUBLISH, and the filters of SUBSCRIBE and UNSUBSCRIBE, share the memory of `buffer`; all other packets own their
/// contents.
pub(crate) fn decode(
    frame: Frame,
    buffer: &mut BytesMut,
    version: Option<Version>,
    now: u64,
    user_limit: usize,
) -> Result<Packet, DecodeError> {
    let Some(version) = version else {
        let whole = buffer.split_to(frame.length);
        return connect::decode(frame, &whole, user_limit);
    };
    if let Some(short) = short_acknowledgement(frame, buffer) {
        return short.map(Packet::Acknowledgement);
    }
    match frame.first >> 4 {
        3 => read_publish(frame, buffer, version, now, user_limit).map(Packet::Publish),
        12 => {
            buffer.advance(frame.length);
            if frame.length != 2 {
                return Err(DecodeError::malformed("PINGREQ with a body"));
            }
            Ok(Packet::PingReq)
        }
        1 => {
            buffer.advance(frame.length);
            Err(DecodeError::protocol("a second CONNECT"))
        }
        8 | 10 => filters::decode(frame, &buffer.split_to(frame.length).freeze(), version, user_limit),
        _ => {
            let whole = buffer.split_to(frame.length);
            match version {
                Version::V3 => other3(frame, &whole),
                Version::V5 => other5(frame, &whole, user_limit),
            }
        }
    }
}

pub(crate) fn is_publish(frame: Frame) -> bool {
    frame.first >> 4 == 3
}

/// Decodes a frame that is a PUBLISH. The result shares the memory of `buffer`, and contains at most one user property
/// more than `user_limit`.
pub(crate) fn read_publish(
    frame: Frame,
    buffer: &mut BytesMut,
    version: Version,
    now: u64,
    user_limit: usize,
) -> Result<Publish, DecodeError> {
    buffer.advance(frame.header);
    let body = buffer.split_to(frame.length - frame.header).freeze();
    publish::decode(frame.first & 0x0F, body, version, now, user_limit)
}

/// Decodes an acknowledgement that carries only a packet id; `None` for other frames. Such packets are most of what
/// subscribers send, and take a few bytes where a [`Packet`] takes hundreds.
pub(crate) fn short_acknowledgement(
    frame: Frame,
    buffer: &mut BytesMut,
) -> Option<Result<Acknowledgement, DecodeError>> {
    let kind = frame.first >> 4;
    if !(4..=7).contains(&kind) || frame.length != 4 {
        return None;
    }
    buffer.advance(2);
    Some(acknowledgement(kind, buffer.get_u16(), 0))
}

fn acknowledgement(kind: u8, id: u16, reason: u8) -> Result<Acknowledgement, DecodeError> {
    if id == 0 {
        return Err(DecodeError::protocol("packet identifier 0"));
    }
    Ok(match kind {
        4 => Acknowledgement::Ack { id },
        5 => Acknowledgement::Rec { id, refused: reason >= 0x80 },
        6 => Acknowledgement::Rel { id },
        _ => Acknowledgement::Comp { id },
    })
}

/// Copies a frame into a growable buffer, as the library needs one.
fn library_buffer(frame: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(frame.len() + 8);
    buffer.extend_from_slice(frame);
    buffer
}

pub(super) fn library5(frame: &[u8]) -> Result<v5::Packet, DecodeError> {
    match v5::Codec::new(0, 0).decode(&mut library_buffer(frame)) {
        Ok(Some((packet, _))) => Ok(packet),
        Ok(None) => Err(DecodeError::malformed("the packet ends too soon")),
        Err(error) => Err(translate(&error)),
    }
}

pub(super) fn library3(frame: &[u8]) -> Result<v3::Packet, DecodeError> {
    match v3::Codec::new(0).decode(&mut library_buffer(frame)) {
        Ok(Some((packet, _))) => Ok(packet),
        Ok(None) => Err(DecodeError::malformed("the packet ends too soon")),
        Err(error) => Err(translate(&error)),
    }
}

fn translate(error: &LibraryError) -> DecodeError {
    match error {
        LibraryError::UnsupportedProtocolLevel => {
            DecodeError { reason: Reason::UNSUPPORTED_VERSION, text: "neither MQTT 3.1, 3.1.1 nor 5" }
        }
        LibraryError::InvalidClientId => DecodeError {
            reason: Reason::CLIENT_ID_NOT_VALID,
            text: "an empty client id without a clean start",
        },
        LibraryError::InvalidTopicFilter => DecodeError::protocol("no topic filter, or an empty one"),
        LibraryError::Utf8Error => DecodeError::malformed("a string that is not UTF-8"),
        LibraryError::ConnectReservedFlagSet => DecodeError::malformed("the reserved flag of CONNECT is set"),
        LibraryError::InvalidConnectFlags => {
            DecodeError::malformed("connect flags that contradict each other")
        }
        _ => DecodeError::malformed("malformed packet"),
    }
}

fn other3(frame: Frame, whole: &[u8]) -> Result<Packet, DecodeError> {
    match frame.first >> 4 {
        4..=7 => return Err(DecodeError::malformed("an acknowledgement of the wrong length")),
        14 if frame.length != 2 => return Err(DecodeError::malformed("DISCONNECT with a body")),
        15 => return Err(DecodeError::protocol("AUTH is not in MQTT 3.1.1")),
        _ => {}
    }
    match library3(whole)? {
        v3::Packet::Disconnect => Ok(Packet::Disconnect { with_will: false, expiry: None }),
        _ => Err(DecodeError::protocol("a packet that only a server sends")),
    }
}

fn other5(frame: Frame, whole: &[u8], user_limit: usize) -> Result<Packet, DecodeError> {
    // Offset of the properties in each packet.
    let at = match frame.first >> 4 {
        4..=7 => 3,
        _ => 1,
    };
    let body = &whole[frame.header..];
    properties::shortest(body.get(at..).unwrap_or_default())?;
    if let Some(span) = properties::span(body, at) {
        properties::check(&body[span], user_limit)?;
    }
    match library5(whole)? {
        v5::Packet::PublishAck(ack) => {
            acknowledgement(4, ack.packet_id.get(), ack.reason_code.into()).map(Packet::Acknowledgement)
        }
        v5::Packet::PublishReceived(ack) => {
            acknowledgement(5, ack.packet_id.get(), ack.reason_code.into()).map(Packet::Acknowledgement)
        }
        v5::Packet::PublishRelease(ack) => {
            acknowledgement(6, ack.packet_id.get(), ack.reason_code.into()).map(Packet::Acknowledgement)
        }
        v5::Packet::PublishComplete(ack) => {
            acknowledgement(7, ack.packet_id.get(), ack.reason_code.into()).map(Packet::Acknowledgement)
        }
        v5::Packet::Disconnect(disconnect) => {
            if disconnect.server_reference.is_some() {
                return Err(DecodeError::protocol("a server reference from a client"));
            }
            let with_will = disconnect.reason_code != v5::DisconnectReasonCode::NormalDisconnection;
            Ok(Packet::Disconnect { with_will, expiry: disconnect.session_expiry_interval_secs })
        }
        v5::Packet::Auth(_) => Ok(Packet::Auth),
        _ if frame.first >> 4 == 1 => Err(DecodeError::protocol("a second CONNECT")),
        _ => Err(DecodeError::protocol("a packet that only a server sends")),
    }
}

/// Refuses U+0000, which no string may contain \[MQTT-1.5.4-2].
pub(super) fn checked(text: ByteString) -> Result<ByteString, DecodeError> {
    if text.contains('\0') {
        return Err(DecodeError::malformed("NUL in a string"));
    }
    Ok(text)
}

pub(super) fn checked_user(properties: &[(ByteString, ByteString)]) -> Result<(), DecodeError> {
    for (key, value) in properties {
        if key.contains('\0') || value.contains('\0') {
            return Err(DecodeError::malformed("NUL in a user property"));
        }
    }
    Ok(())
}

/// Checks the topic name of a will or a response.
pub(super) fn checked_topic(topic: ByteString) -> Result<ByteString, DecodeError> {
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        let reason = Reason::TOPIC_NAME_INVALID;
        return Err(DecodeError { reason, text: "a will or response topic that is no topic name" });
    }
    Ok(topic)
}
