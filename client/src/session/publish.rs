//! Codec of PUBLISH (MQTT 5, 3.3), the packet of every request and reply.
//!
//! It is encoded from a borrowed message, and decoded into slices of the read buffer: no text is copied. All other packets
//! are read and written by rumqttc's codec, whose PUBLISH owns each text of its properties.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::message::{Message, Publish, QoS};
use crate::wire::Properties;

const PAYLOAD_FORMAT: u8 = 0x01;
const MESSAGE_EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
const USER_PROPERTY: u8 = 0x26;

/// A received PUBLISH.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) message: Message,
    /// Packet id; 0 at QoS 0.
    pub(super) id: u16,
    /// DUP flag: whether the broker may have sent it before.
    #[cfg_attr(not(test), expect(dead_code, reason = "a repeated message is handled as any other"))]
    pub(super) is_duplicate: bool,
}

/// Error of decoding a PUBLISH.
pub(super) type Malformed = &'static str;

const SHORT: Malformed = "it ends too soon";

/// Returns the length of an encoded PUBLISH, in bytes.
pub(super) fn size(publish: &Publish) -> usize {
    let remaining = remaining_length(publish, properties_length(&publish.properties));
    1 + variable_length_size(remaining) + remaining
}

/// Appends a PUBLISH. `id` is its packet id, which is not written at QoS 0. No text of it may be longer than 65,535 bytes.
pub(super) fn encode(publish: &Publish, id: u16, is_duplicate: bool, out: &mut BytesMut) {
    let Publish { topic, payload, properties, qos, retain, .. } = publish;
    let properties_length = properties_length(properties);
    let remaining = remaining_length(publish, properties_length);
    out.reserve(1 + variable_length_size(remaining) + remaining);
    let level = match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
    };
    out.put_u8(0x30 | u8::from(is_duplicate) << 3 | level << 1 | u8::from(*retain));
    put_variable_length(out, remaining);
    put_binary(out, topic.as_bytes());
    if *qos != QoS::AtMostOnce {
        out.put_u16(id);
    }
    put_variable_length(out, properties_length);
    if let Some(seconds) = properties.expiry {
        out.put_u8(MESSAGE_EXPIRY);
        out.put_u32(seconds);
    }
    for (identifier, text) in
        [(CONTENT_TYPE, &properties.content_type), (RESPONSE_TOPIC, &properties.response_topic)]
    {
        if let Some(text) = text {
            out.put_u8(identifier);
            put_binary(out, text.as_bytes());
        }
    }
    if let Some(data) = &properties.correlation {
        out.put_u8(CORRELATION_DATA);
        put_binary(out, data);
    }
    for (name, value) in &properties.user {
        out.put_u8(USER_PROPERTY);
        put_binary(out, name.as_bytes());
        put_binary(out, value.as_bytes());
    }
    out.put_slice(payload);
}

/// Decodes the body of a PUBLISH. `flags` is the low half of its first byte. The message shares the memory of `body`.
///
/// # Errors
///
/// What is malformed, or not to be sent to a client that supports neither QoS 2 nor Topic Aliases.
pub(super) fn decode(flags: u8, mut body: Bytes) -> Result<Received, Malformed> {
    let is_duplicate = flags & 8 != 0;
    let qos = match flags >> 1 & 3 {
        0 if is_duplicate => return Err("DUP at QoS 0"),
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        2 => return Err("a message at QoS 2, which was not subscribed to"),
        _ => return Err("QoS 3"),
    };
    let topic = text(&mut body)?;
    if topic.is_empty() {
        return Err("no topic name, and this client announces no Topic Alias Maximum");
    }
    let id = match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => body.try_get_u16().map_err(|_| SHORT)?,
    };
    if qos != QoS::AtMostOnce && id == 0 {
        return Err("packet id 0");
    }
    let length = variable_length(&mut body)?;
    if length > body.len() {
        return Err("properties that are longer than the packet");
    }
    let properties = decode_properties(body.split_to(length))?;
    let retain = flags & 1 != 0;
    let message =
        Message { topic, payload: body, properties, qos, retain, unread: std::time::Duration::ZERO };
    Ok(Received { message, id, is_duplicate })
}

fn decode_properties(mut from: Bytes) -> Result<Properties, Malformed> {
    fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err("a property twice that may be there once"),
        }
    }
    let mut properties = Properties::default();
    while from.has_remaining() {
        match from.get_u8() {
            PAYLOAD_FORMAT => drop(from.try_get_u8().map_err(|_| SHORT)?),
            MESSAGE_EXPIRY => once(&mut properties.expiry, from.try_get_u32().map_err(|_| SHORT)?)?,
            CONTENT_TYPE => once(&mut properties.content_type, text(&mut from)?)?,
            RESPONSE_TOPIC => once(&mut properties.response_topic, text(&mut from)?)?,
            CORRELATION_DATA => once(&mut properties.correlation, binary(&mut from)?)?,
            SUBSCRIPTION_IDENTIFIER => drop(variable_length(&mut from)?),
            USER_PROPERTY => properties.user.push((text(&mut from)?, text(&mut from)?)),
            _ => return Err("a property that no PUBLISH to this client has"),
        }
    }
    Ok(properties)
}

fn binary(from: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = usize::from(from.try_get_u16().map_err(|_| SHORT)?);
    if length > from.len() {
        return Err(SHORT);
    }
    Ok(from.split_to(length))
}

fn text(from: &mut Bytes) -> Result<ByteString, Malformed> {
    ByteString::try_from(binary(from)?).map_err(|_| "a text that is not UTF-8")
}

fn variable_length(from: &mut Bytes) -> Result<usize, Malformed> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = from.try_get_u8().map_err(|_| SHORT)?;
        value |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a length of more than four bytes")
}

fn remaining_length(publish: &Publish, properties: usize) -> usize {
    let id = if publish.qos == QoS::AtMostOnce { 0 } else { 2 };
    2 + publish.topic.len() + id + variable_length_size(properties) + properties + publish.payload.len()
}

fn properties_length(properties: &Properties) -> usize {
    let Properties { content_type, response_topic, correlation, expiry, user } = properties;
    let texts = [content_type, response_topic].into_iter().flatten().map(|text| 3 + text.len());
    texts.sum::<usize>()
        + correlation.as_ref().map_or(0, |data| 3 + data.len())
        + expiry.map_or(0, |_| 5)
        + user.iter().map(|(name, value)| 5 + name.len() + value.len()).sum::<usize>()
}

fn put_binary(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u16(u16::try_from(bytes.len()).expect("checked before it is queued"));
    out.put_slice(bytes);
}

fn variable_length_size(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

fn put_variable_length(out: &mut BytesMut, mut value: usize) {
    while value > 0x7F {
        out.put_u8((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc::v5::mqttbytes::{self, v5 as packets};

    /// Returns the same PUBLISH in the types of rumqttc's codec.
    fn theirs(publish: &Publish, id: u16, dup: bool) -> packets::Publish {
        let Properties { content_type, response_topic, correlation, expiry, user } = &publish.properties;
        let properties = packets::PublishProperties {
            message_expiry_interval: *expiry,
            content_type: content_type.as_ref().map(ToString::to_string),
            response_topic: response_topic.as_ref().map(ToString::to_string),
            correlation_data: correlation.clone(),
            user_properties: user.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            ..packets::PublishProperties::default()
        };
        packets::Publish {
            dup,
            qos: match publish.qos {
                QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
                QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
            },
            retain: publish.retain,
            topic: publish.topic.clone().into_bytes(),
            pkid: id,
            payload: publish.payload.clone(),
            properties: Some(properties),
        }
    }

    fn any(random: &mut fastrand::Rng) -> (Publish, u16, bool) {
        let text = |random: &mut fastrand::Rng| -> ByteString {
            let length = *random.choice(&[0, 1, 20, 127, 128, 300]).expect("some");
            (0..length).map(|_| random.alphanumeric()).collect::<String>().into()
        };
        let properties = Properties {
            content_type: random.bool().then(|| text(random)),
            response_topic: random.bool().then(|| text(random)),
            correlation: random.bool().then(|| text(random).into_bytes()),
            expiry: random.bool().then(|| random.u32(..)),
            user: (0..random.usize(0..4)).map(|_| (text(random), text(random))).collect(),
        };
        let payload = vec![7; *random.choice(&[0, 1, 90, 130, 16_300, 70_000]).expect("some")];
        let topic = format!("t/{}", text(random));
        let qos = if random.bool() { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let publish = Publish::new(topic, payload).properties(properties).qos(qos);
        let publish = if random.bool() { publish.retain() } else { publish };
        let has_id = qos == QoS::AtLeastOnce;
        (publish, if has_id { random.u16(1..) } else { 0 }, has_id && random.bool())
    }

    #[test]
    fn encodes_and_decodes_what_rumqttcs_codec_does() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let (publish, id, dup) = any(&mut random);
            let mut ours = BytesMut::new();
            encode(&publish, id, dup, &mut ours);
            assert_eq!(ours.len(), size(&publish));
            let expected = theirs(&publish, id, dup);
            let mut bytes = ours.clone();
            let read = packets::Packet::read(&mut bytes, None).expect("a PUBLISH");
            let packets::Packet::Publish(mut read) = read else { panic!("{read:?}") };
            // rumqttc's codec reads an empty property list as none, and writes none as a length of 0.
            read.properties.get_or_insert_default();
            assert_eq!(read, expected);
            let mut written = BytesMut::new();
            packets::Packet::Publish(expected).write(&mut written, None).expect("a PUBLISH");
            let header = written.len() - {
                let mut rest = written.clone().freeze();
                rest.advance(1);
                variable_length(&mut rest).expect("a length")
            };
            let flags = written[0] & 0x0F;
            let received = decode(flags, written.freeze().slice(header..)).expect("a PUBLISH");
            assert_eq!((received.id, received.is_duplicate), (id, dup));
            let Message { topic, payload, properties, qos, retain, .. } = received.message;
            assert_eq!((topic, payload), (publish.topic, publish.payload));
            assert_eq!((properties, qos, retain), (publish.properties, publish.qos, publish.retain));
        }
    }

    #[test]
    fn invalid_publishes_of_a_broker_are_refused() {
        for (flags, body, expected) in [
            (0b1000, &[0, 1, b't', 0][..], "DUP at QoS 0"),
            (0b0100, &[0, 1, b't', 0, 1, 0], "a message at QoS 2, which was not subscribed to"),
            (0b0110, &[0, 1, b't', 0, 1, 0], "QoS 3"),
            (0, &[0, 0, 0], "no topic name, and this client announces no Topic Alias Maximum"),
            (0b0010, &[0, 1, b't', 0, 0, 0], "packet id 0"),
            (0, &[0, 1, b't'], SHORT),
            (0, &[0, 2, b't'], SHORT),
            (0, &[0, 1, 0xFF, 0], "a text that is not UTF-8"),
            (0, &[0, 1, b't', 3, 1, 0], "properties that are longer than the packet"),
            (0, &[0, 1, b't', 3, 0x26, 0, 1], SHORT),
            (0, &[0, 1, b't', 3, 0x23, 0, 1], "a property that no PUBLISH to this client has"),
            (0, &[0, 1, b't', 6, 8, 0, 0, 8, 0, 0], "a property twice that may be there once"),
        ] {
            let refused = decode(flags, Bytes::copy_from_slice(body)).expect_err(expected);
            assert_eq!(refused, expected);
        }
        // The standard allows a broker to send these properties.
        let body = [0, 1, b't', 4, 0x01, 1, 0x0B, 9, b'x'];
        let received = decode(0, Bytes::copy_from_slice(&body)).expect("a PUBLISH");
        assert_eq!(
            (received.message.payload, received.message.properties),
            ("x".into(), Properties::default())
        );
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..100_000 {
            let (publish, id, dup) = any(&mut random);
            if publish.payload.len() > 1_000 {
                continue;
            }
            let mut bytes = BytesMut::new();
            encode(&publish, id, dup, &mut bytes);
            let mut bytes = bytes.split_off(2);
            for _ in 0..random.usize(0..4) {
                let at = random.usize(0..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(0..=bytes.len()));
            let _ = decode(random.u8(0..16), bytes.freeze());
        }
    }
}
