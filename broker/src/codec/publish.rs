//! Codec of PUBLISH: decoding, encoding once for many receivers, and patching a copy for each receiver.

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use super::error::DecodeError;
use super::id;
use super::packet::Publish;
use super::properties::skip_field;
use super::reason::Reason;
use super::version::Version;
use crate::message::{Message, Properties, QoS};
use crate::user_properties::UserProperties;

/// Decodes the body of a PUBLISH. `flags` is the lower half of its first byte, and `now` the time in milliseconds from
/// which its Message Expiry Interval counts.
///
/// The result shares the memory of `body`. At most `user_limit` + 1 user properties are read; one above the limit
/// shows that the message has to be refused.
pub(super) fn decode(
    flags: u8,
    mut body: Bytes,
    version: Version,
    now: u64,
    user_limit: usize,
) -> Result<Publish, DecodeError> {
    let qos = QoS::from_bits(flags >> 1 & 3).ok_or(DecodeError::malformed("QoS 3"))?;
    let dup = flags & 8 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::malformed("DUP is set at QoS 0"));
    }
    let topic = text(&mut body)?;
    if topic.bytes().any(|b| matches!(b, b'+' | b'#')) {
        let reason = Reason::TOPIC_NAME_INVALID;
        return Err(DecodeError { reason, text: "a wildcard in a topic name" });
    }
    let id = if qos == QoS::AtMostOnce { 0 } else { u16(&mut body)? };
    if qos != QoS::AtMostOnce && id == 0 {
        return Err(DecodeError::protocol("packet identifier 0"));
    }
    let mut message = Message { topic, qos, retain: flags & 1 != 0, ..Message::default() };
    let mut alias = None;
    if version == Version::V5 {
        let length = variable_length(&mut body)?;
        if length > body.len() {
            return Err(DecodeError::malformed("properties are longer than the packet"));
        }
        if length > 0 {
            alias = properties(body.split_to(length), now, user_limit, &mut message)?;
        }
    }
    if message.topic.is_empty() && alias.is_none() {
        return Err(match version {
            Version::V3 => DecodeError::malformed("an empty topic name"),
            Version::V5 => DecodeError::protocol("an empty topic name without a topic alias"),
        });
    }
    message.payload = body;
    Ok(Publish { message, dup, id, alias })
}

fn properties(
    mut from: Bytes,
    now: u64,
    user_limit: usize,
    message: &mut Message,
) -> Result<Option<u16>, DecodeError> {
    fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), DecodeError> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(DecodeError::protocol("a property that may stand once stands twice")),
        }
    }
    let Message { properties, expires, .. } = message;
    let Properties { payload_is_utf8, content_type, response_topic, correlation_data, user } = properties;
    let mut alias = None;
    while let Some(&identifier) = from.first() {
        if identifier == id::USER_PROPERTY {
            take_user_properties(&mut from, user, user_limit)?;
            continue;
        }
        from.advance(1);
        match identifier {
            id::PAYLOAD_FORMAT => match u8(&mut from)? {
                bit @ (0 | 1) => once(payload_is_utf8, bit == 1)?,
                _ => return Err(DecodeError::protocol("a payload format other than 0 and 1")),
            },
            id::MESSAGE_EXPIRY => once(expires, now + u64::from(u32(&mut from)?) * 1000)?,
            id::CONTENT_TYPE => once(content_type, text(&mut from)?)?,
            id::RESPONSE_TOPIC => {
                let topic = text(&mut from)?;
                if topic.is_empty() || topic.contains(['+', '#']) {
                    return Err(DecodeError::protocol("a response topic that is no topic name"));
                }
                once(response_topic, topic)?;
            }
            id::CORRELATION_DATA => once(correlation_data, binary(&mut from)?)?,
            id::TOPIC_ALIAS => once(&mut alias, u16(&mut from)?)?,
            id::SUBSCRIPTION_IDENTIFIER => {
                return Err(DecodeError::protocol("a subscription identifier from a client"));
            }
            _ => return Err(DecodeError::malformed("a property that no PUBLISH has")),
        }
    }
    Ok(alias)
}

const TOO_SHORT: DecodeError =
    DecodeError { reason: Reason::MALFORMED_PACKET, text: "the packet ends too soon" };

fn u8(from: &mut Bytes) -> Result<u8, DecodeError> {
    from.try_get_u8().map_err(|_| TOO_SHORT)
}

fn u16(from: &mut Bytes) -> Result<u16, DecodeError> {
    from.try_get_u16().map_err(|_| TOO_SHORT)
}

fn u32(from: &mut Bytes) -> Result<u32, DecodeError> {
    from.try_get_u32().map_err(|_| TOO_SHORT)
}

fn binary(from: &mut Bytes) -> Result<Bytes, DecodeError> {
    let length = usize::from(u16(from)?);
    if length > from.len() {
        return Err(TOO_SHORT);
    }
    Ok(from.split_to(length))
}

fn text(from: &mut Bytes) -> Result<ByteString, DecodeError> {
    let bytes = binary(from)?;
    if bytes.contains(&0) {
        return Err(DecodeError::malformed("NUL in a string"));
    }
    ByteString::try_from(bytes).map_err(|_| DecodeError::malformed("a string that is not UTF-8"))
}

/// Removes the consecutive user properties at the start of `from`, and returns all of them but those above `limit`.
fn take_user_properties(
    from: &mut Bytes,
    user: &mut UserProperties,
    limit: usize,
) -> Result<(), DecodeError> {
    let (mut end, mut count) = (0, user.len());
    while from.get(end) == Some(&id::USER_PROPERTY) && count <= limit {
        let name_end = check_text(from, end + 1)?;
        end = check_text(from, name_end)?;
        count += 1;
    }
    user.append_encoded(from.split_to(end));
    if from.first() == Some(&id::USER_PROPERTY) {
        from.advance(1);
        skip_user_properties(from)?;
    }
    Ok(())
}

/// Checks the string with its length at `at`; returns the offset of its end.
fn check_text(from: &[u8], at: usize) -> Result<usize, DecodeError> {
    let end = skip_field(from, at).ok_or(TOO_SHORT)?;
    let bytes = from.get(at + 2..end).ok_or(TOO_SHORT)?;
    let text =
        std::str::from_utf8(bytes).map_err(|_| DecodeError::malformed("a string that is not UTF-8"))?;
    if text.as_bytes().contains(&0) {
        return Err(DecodeError::malformed("NUL in a string"));
    }
    Ok(end)
}

/// Skips a user property, whose identifier has been read, and all user properties directly after it. Only their
/// lengths are read, because a message that is refused may have hundreds of thousands.
fn skip_user_properties(from: &mut Bytes) -> Result<(), DecodeError> {
    let mut rest = &from[..];
    loop {
        let name = skip_field(rest, 0).ok_or(TOO_SHORT)?;
        let end = skip_field(rest, name).ok_or(TOO_SHORT)?;
        rest = rest.get(end..).ok_or(TOO_SHORT)?;
        match rest.split_first() {
            Some((&id::USER_PROPERTY, behind)) => rest = behind,
            _ => break,
        }
    }
    let skipped = from.len() - rest.len();
    from.advance(skipped);
    Ok(())
}

fn variable_length(from: &mut Bytes) -> Result<usize, DecodeError> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = u8(from)?;
        value |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            if byte == 0 && shift > 0 {
                return Err(DecodeError::malformed("a length in more bytes than it needs"));
            }
            return Ok(value);
        }
    }
    Err(DecodeError::malformed("a variable byte integer of more than four bytes"))
}

/// Fields that differ between the copies of one message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outgoing<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) id: u16,
    pub(crate) identifiers: &'a [u32],
    pub(crate) alias: Option<u16>,
    /// Whether the receiver knows the alias, so that the topic is left out.
    pub(crate) alias_known: bool,
}

/// Offsets in an encoded PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Offset of the packet id from the frame's first byte; 0 at QoS 0.
    pub(crate) id_at: usize,
    /// Length of the frame without its payload.
    pub(crate) head: usize,
}

/// Appends a PUBLISH without its payload to `out`. `now`, in milliseconds, determines the remaining Message Expiry
/// Interval, which counts down while a message waits \[MQTT-3.3.2-6].
pub(crate) fn encode_publish(
    message: &Message,
    outgoing: Outgoing<'_>,
    version: Version,
    now: u64,
    out: &mut Vec<u8>,
) -> Encoded {
    let topic = if outgoing.alias_known { "" } else { &message.topic };
    let with_id = outgoing.qos != QoS::AtMostOnce;
    let properties = match version {
        Version::V3 => 0,
        Version::V5 => properties_length(message, outgoing),
    };
    let properties_head = match version {
        Version::V3 => 0,
        Version::V5 => variable_length_size(properties),
    };
    let remaining =
        2 + topic.len() + if with_id { 2 } else { 0 } + properties_head + properties + message.payload.len();
    let start = out.len();
    out.reserve(remaining + 5);
    let flags = u8::from(outgoing.dup) << 3 | (outgoing.qos as u8) << 1 | u8::from(outgoing.retain);
    out.push(0x30 | flags);
    put_variable_length(out, remaining);
    put_bytes(out, topic.as_bytes());
    let mut id_at = 0;
    if with_id {
        id_at = out.len() - start;
        out.extend_from_slice(&outgoing.id.to_be_bytes());
    }
    if version == Version::V5 {
        put_variable_length(out, properties);
        put_properties(message, outgoing, now, out);
    }
    Encoded { id_at, head: out.len() - start }
}

/// Writes another packet id into an encoded PUBLISH that begins at `frame[0]`.
pub(crate) fn patch_packet_id(frame: &mut [u8], encoded: Encoded, id: u16) {
    if encoded.id_at > 0 {
        frame[encoded.id_at..encoded.id_at + 2].copy_from_slice(&id.to_be_bytes());
    }
}

fn properties_length(message: &Message, outgoing: Outgoing<'_>) -> usize {
    let p = &message.properties;
    let strings = [&p.content_type, &p.response_topic].into_iter().flatten().map(|s| 3 + s.len());
    let identifiers = outgoing.identifiers.iter().map(|&i| 1 + variable_length_size(i as usize));
    strings.chain(identifiers).sum::<usize>()
        + p.user.encoded().len()
        + p.payload_is_utf8.map_or(0, |_| 2)
        + message.expires.map_or(0, |_| 5)
        + p.correlation_data.as_ref().map_or(0, |c| 3 + c.len())
        + outgoing.alias.map_or(0, |_| 3)
}

fn put_properties(message: &Message, outgoing: Outgoing<'_>, now: u64, out: &mut Vec<u8>) {
    let p = &message.properties;
    if let Some(utf8) = p.payload_is_utf8 {
        out.extend_from_slice(&[id::PAYLOAD_FORMAT, u8::from(utf8)]);
    }
    if let Some(at) = message.expires {
        // Rounded up, so that a message delivered at once keeps the interval it was sent with.
        let left = at.saturating_sub(now).div_ceil(1000).min(u64::from(u32::MAX)) as u32;
        out.push(id::MESSAGE_EXPIRY);
        out.extend_from_slice(&left.to_be_bytes());
    }
    for (id, value) in [(id::CONTENT_TYPE, &p.content_type), (id::RESPONSE_TOPIC, &p.response_topic)] {
        if let Some(value) = value {
            out.push(id);
            put_bytes(out, value.as_bytes());
        }
    }
    if let Some(data) = &p.correlation_data {
        out.push(id::CORRELATION_DATA);
        put_bytes(out, data);
    }
    for &identifier in outgoing.identifiers {
        out.push(id::SUBSCRIPTION_IDENTIFIER);
        put_variable_length(out, identifier as usize);
    }
    if let Some(alias) = outgoing.alias {
        out.push(id::TOPIC_ALIAS);
        out.extend_from_slice(&alias.to_be_bytes());
    }
    out.extend_from_slice(p.user.encoded());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("came in behind a two-byte length");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn variable_length_size(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

pub(super) fn put_variable_length(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7F {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
