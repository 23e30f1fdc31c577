//! Decoding of CONNECT.

use rmqtt_codec::{v3, v5};

use super::decode::{checked, checked_topic, checked_user, library3, library5};
use super::error::DecodeError;
use super::frame::{Frame, frame};
use super::mqtt31;
use super::packet::{Connect, Packet, Will};
use super::properties;
use super::protocol::{self, Protocol};
use super::reason::Reason;
use super::version::Version;
use crate::message::{Message, Properties, QoS};

/// Returns the version that the first packet announces, as far as it can be read. Errors are answered in that version.
pub(crate) fn announced_version(buffer: &[u8]) -> Version {
    let level = match frame(buffer, u32::MAX) {
        Ok(Some(frame)) if frame.first >> 4 == 1 => match &buffer[frame.header.min(buffer.len())..] {
            [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => None,
            [high, low, rest @ ..] => rest.get(usize::from(u16::from_be_bytes([*high, *low]))),
            _ => None,
        },
        _ => None,
    };
    level.map_or(Version::V3, |&level| protocol::version_of_level(level))
}

/// Decodes the first packet of a connection.
pub(super) fn decode(frame: Frame, whole: &[u8], user_limit: usize) -> Result<Packet, DecodeError> {
    if frame.first >> 4 != 1 {
        return Err(DecodeError::protocol("the first packet is not CONNECT"));
    }
    let (protocol, bridge) = protocol::read(&whole[frame.header..])?;
    let rewritten;
    let (frame, whole) = if bridge || protocol == Protocol::Mqtt31 {
        let (frame, bytes) = mqtt31::as_311(protocol, frame, whole);
        rewritten = bytes;
        (frame, &rewritten[..])
    } else {
        (frame, whole)
    };
    let body = &whole[frame.header..];
    let version = protocol.version();
    let flags = *body.get(7).ok_or(DecodeError::malformed("the packet ends too soon"))?;
    let (will, user, password) = (flags & 4 != 0, flags & 0x80 != 0, flags & 0x40 != 0);
    if !will && flags & 0x38 != 0 || flags & 0x18 == 0x18 {
        return Err(DecodeError::malformed("will flags that contradict each other"));
    }
    if version == Version::V3 && password && !user {
        return Err(DecodeError::malformed("a password without a user name"));
    }
    if properties::connect_length(body, version, [will, user, password]) != Some(body.len()) {
        return Err(DecodeError::malformed("the length of CONNECT does not fit its fields"));
    }
    let connect = match version {
        Version::V3 => match library3(whole)? {
            v3::Packet::Connect(connect) => connect3(*connect)?,
            _ => return Err(DecodeError::protocol("the first packet is not CONNECT")),
        },
        // The library refuses an empty client id without a clean start, which MQTT 5 allows: a session with an id
        // assigned by the server is a new one either way. Nor does it accept a will's Message Expiry Interval of 0.
        Version::V5 => {
            let no_expiry = properties::check_connect(body, will, user_limit)?;
            let mut copy = whole.to_vec();
            copy[frame.header + 7] |= 2;
            if let Some(at) = no_expiry {
                copy[frame.header + at + 3] = 1;
            }
            let mut connect = match library5(&copy)? {
                v5::Packet::Connect(connect) => connect5(*connect)?,
                _ => return Err(DecodeError::protocol("the first packet is not CONNECT")),
            };
            connect.clean_start = flags & 2 != 0;
            if let Some(will) = connect.will.as_mut().filter(|_| no_expiry.is_some()) {
                will.expiry = Some(0);
            }
            connect
        }
    };
    if protocol == Protocol::Mqtt31 && connect.client_id.is_empty() {
        let text = "an empty client id, which MQTT 3.1 does not have";
        return Err(DecodeError { reason: Reason::CLIENT_ID_NOT_VALID, text });
    }
    Ok(Packet::Connect(Box::new(Connect { protocol, bridge, ..connect })))
}

fn connect3(connect: v3::Connect) -> Result<Connect, DecodeError> {
    let will = match connect.last_will {
        None => None,
        Some(will) => Some(Will {
            message: Message {
                topic: checked_topic(will.topic)?,
                payload: will.message,
                qos: QoS::from_bits(will.qos.value()).unwrap_or_default(),
                retain: will.retain,
                ..Message::default()
            },
            expiry: None,
            delay: 0,
        }),
    };
    Ok(Connect {
        protocol: Protocol::Mqtt311,
        bridge: false,
        version: Version::V3,
        client_id: checked(connect.client_id)?,
        clean_start: connect.clean_session,
        keep_alive: connect.keep_alive,
        session_expiry: if connect.clean_session { 0 } else { u32::MAX },
        receive_maximum: u16::MAX,
        packet_maximum: u32::MAX,
        alias_maximum: 0,
        problem_information: false,
        authentication_method: None,
        will,
        user_name: connect.username.map(checked).transpose()?,
        password: connect.password,
    })
}

fn connect5(connect: v5::Connect) -> Result<Connect, DecodeError> {
    if connect.auth_data.is_some() && connect.auth_method.is_none() {
        return Err(DecodeError::protocol("authentication data without a method"));
    }
    checked_user(&connect.user_properties)?;
    let will = match connect.last_will {
        None => None,
        Some(will) => {
            checked_user(&will.user_properties)?;
            Some(Will {
                message: Message {
                    topic: checked_topic(will.topic)?,
                    payload: will.message,
                    qos: QoS::from_bits(will.qos.value()).unwrap_or_default(),
                    retain: will.retain,
                    properties: Properties {
                        payload_is_utf8: will.is_utf8_payload,
                        content_type: will.content_type.map(checked).transpose()?,
                        response_topic: will.response_topic.map(checked_topic).transpose()?,
                        correlation_data: will.correlation_data,
                        user: will.user_properties.into_iter().collect(),
                    },
                    expires: None,
                    asked: None,
                },
                expiry: will.message_expiry_interval.map(std::num::NonZeroU32::get),
                delay: will.will_delay_interval_sec.unwrap_or(0),
            })
        }
    };
    Ok(Connect {
        protocol: Protocol::Mqtt5,
        bridge: false,
        version: Version::V5,
        client_id: checked(connect.client_id)?,
        clean_start: connect.clean_start,
        keep_alive: connect.keep_alive,
        session_expiry: connect.session_expiry_interval_secs,
        receive_maximum: connect.receive_max.map_or(u16::MAX, std::num::NonZeroU16::get),
        packet_maximum: connect.max_packet_size.map_or(u32::MAX, std::num::NonZeroU32::get),
        alias_maximum: connect.topic_alias_max,
        problem_information: connect.request_problem_info,
        authentication_method: connect.auth_method,
        will,
        user_name: connect.username.map(checked).transpose()?,
        password: connect.password,
    })
}
