//! Encoding of records: a version, flags, then varints (LEB128) and length-prefixed texts.
//!
//! Decoding is strict: an unknown version or flag, invalid UTF-8 and trailing bytes are errors, because a record that
//! this code did not write means that the file is damaged.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::{EntryRecord, Phase, SessionRecord, SubscriptionRecord, WillRecord};
use crate::message::{Message, Properties, QoS};

/// Version of every record below; a change to any of them also requires a new format version of the file.
const VERSION: u8 = 1;

/// Error of decoding a record that this code did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed record: {0}")]
pub(super) struct Malformed(&'static str);

/// Queue row whose message has to be looked up by its id.
#[derive(Debug)]
pub(super) struct QueueRow {
    pub(super) message: u64,
    pub(super) entry: EntryRecord,
}

// Message: version, flags (2 bytes), [expires], [content type], [response topic], [correlation data], [user
// properties], payload up to the end.
const QOS: u16 = 0b11;
const RETAIN: u16 = 1 << 2;
const FORMAT: u16 = 1 << 3;
const FORMAT_UTF8: u16 = 1 << 4;
const CONTENT_TYPE: u16 = 1 << 5;
const RESPONSE_TOPIC: u16 = 1 << 6;
const CORRELATION: u16 = 1 << 7;
const USER: u16 = 1 << 8;
const EXPIRES: u16 = 1 << 9;
const MESSAGE_FLAGS: u16 = (1 << 10) - 1;

/// Encodes a retained message without its topic, which is the key.
pub(super) fn encode_retained(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.text_bytes() + 16);
    out.push(VERSION);
    put_message(&mut out, message);
    out
}

pub(super) fn decode_retained(topic: &str, record: &[u8]) -> Result<Message, Malformed> {
    // One buffer for topic and record, as most retained messages are small and the allocation is the main cost.
    let mut buffer = BytesMut::with_capacity(topic.len() + record.len());
    buffer.put_slice(topic.as_bytes());
    buffer.put_slice(record);
    let mut buffer = buffer.freeze();
    let topic = text(buffer.split_to(topic.len()))?;
    let mut reader = Reader::new(buffer)?;
    reader.message(topic)
}

/// Decodes only the expiry of a retained message, in milliseconds since 1970.
pub(super) fn retained_expires(record: &[u8]) -> Result<Option<u64>, Malformed> {
    let head = &record[..record.len().min(3 + 10)];
    let mut reader = Reader::new(Bytes::copy_from_slice(head))?;
    let flags = reader.message_flags()?;
    reader.optional(flags & EXPIRES != 0, Reader::varint)
}

/// Encodes a queued message, including its topic.
pub(super) fn encode_message(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.text_bytes() + 20);
    out.push(VERSION);
    put_bytes(&mut out, message.topic.as_bytes());
    put_message(&mut out, message);
    out
}

pub(super) fn decode_message(record: &[u8]) -> Result<Message, Malformed> {
    let mut reader = Reader::new(Bytes::copy_from_slice(record))?;
    let topic = reader.text()?;
    reader.message(topic)
}

const VERSION5: u8 = 1;
const DISCONNECTED: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const USER_NAME: u8 = 1 << 3;

/// Encodes: version, flags, client id, expiry, [disconnected], [user name], [will: delay, topic, message].
pub(super) fn encode_session(record: &SessionRecord) -> Vec<u8> {
    let mut out = vec![VERSION, 0];
    put_bytes(&mut out, record.client_id.as_bytes());
    put_varint(&mut out, record.expiry.into());
    let mut flags = if record.version5 { VERSION5 } else { 0 };
    if let Some(at) = record.disconnected {
        flags |= DISCONNECTED;
        put_varint(&mut out, at);
    }
    if let Some(name) = &record.user_name {
        flags |= USER_NAME;
        put_bytes(&mut out, name.as_bytes());
    }
    if let Some(will) = &record.will {
        flags |= WILL;
        put_varint(&mut out, will.delay.into());
        put_bytes(&mut out, will.message.topic.as_bytes());
        put_message(&mut out, &will.message);
    }
    out[1] = flags;
    out
}

pub(super) fn decode_session(record: &[u8]) -> Result<SessionRecord, Malformed> {
    let mut reader = Reader::new(Bytes::copy_from_slice(record))?;
    let flags = reader.byte()?;
    if flags >= 1 << 4 {
        return Err(Malformed("session flags"));
    }
    let client_id = reader.text()?;
    let expiry = reader.small()?;
    let disconnected = reader.optional(flags & DISCONNECTED != 0, Reader::varint)?;
    let user_name = reader.optional(flags & USER_NAME != 0, Reader::text)?;
    let will = reader.optional(flags & WILL != 0, |reader| {
        let delay = reader.small()?;
        let topic = reader.text()?;
        Ok(WillRecord { message: Arc::new(reader.message(topic)?), delay })
    })?;
    reader.end()?;
    let version5 = flags & VERSION5 != 0;
    Ok(SessionRecord { client_id, version5, expiry, disconnected, will, user_name })
}

/// Flag in addition to the options of SUBSCRIBE: retained messages are being read.
const READING: u8 = 1 << 6;

/// Encodes: version, the options byte as in SUBSCRIBE (MQTT 5, 3.8.3.1), [identifier]. With [`READING`], since format
/// 2: identifier or 0, and up to the end the key at which the read continues.
pub(super) fn encode_subscription(record: &SubscriptionRecord) -> Vec<u8> {
    let options = record.qos as u8
        | u8::from(record.no_local) << 2
        | u8::from(record.retain_as_published) << 3
        | (record.retain_handling & 3) << 4;
    let mut out = vec![VERSION, options];
    if let Some(key) = &record.reading {
        out[1] |= READING;
        put_varint(&mut out, record.identifier.unwrap_or(0).into());
        out.extend_from_slice(key.as_bytes());
    } else if let Some(identifier) = record.identifier {
        put_varint(&mut out, identifier.into());
    }
    out
}

pub(super) fn decode_subscription(record: &[u8]) -> Result<SubscriptionRecord, Malformed> {
    let mut reader = Reader::new(Bytes::copy_from_slice(record))?;
    let byte = reader.byte()?;
    let options = byte & !READING;
    if options >= 0b11_0000 {
        return Err(Malformed("subscription options"));
    }
    let (identifier, reading) = if byte & READING == 0 {
        (reader.optional(!reader.bytes.is_empty(), Reader::small)?, None)
    } else {
        let identifier = Some(reader.small()?).filter(|&identifier| identifier > 0);
        (identifier, Some(text(std::mem::take(&mut reader.bytes))?))
    };
    reader.end()?;
    Ok(SubscriptionRecord {
        qos: qos(options & 3)?,
        no_local: options & 1 << 2 != 0,
        retain_as_published: options & 1 << 3 != 0,
        retain_handling: options >> 4,
        identifier,
        reading,
    })
}

const ENTRY_RETAIN: u8 = 1 << 2;
const ENTRY_SHARED: u8 = 1 << 3;
/// Range of the phase and the packet id, which [`move_entry`] replaces.
const MOVED: std::ops::Range<usize> = 1..4;

/// Encodes: version, phase, packet id (2 bytes), flags, message id, identifiers, [shared filter].
pub(super) fn encode_entry(entry: &EntryRecord, message: u64) -> Vec<u8> {
    let mut out = vec![VERSION, entry.phase as u8];
    out.put_u16(entry.packet_id);
    out.push(
        entry.qos as u8
            | if entry.retain { ENTRY_RETAIN } else { 0 }
            | if entry.shared.is_some() { ENTRY_SHARED } else { 0 },
    );
    put_varint(&mut out, message);
    put_varint(&mut out, entry.identifiers.len() as u64);
    for identifier in &entry.identifiers {
        put_varint(&mut out, (*identifier).into());
    }
    if let Some(filter) = &entry.shared {
        put_bytes(&mut out, filter.as_bytes());
    }
    out
}

/// Decodes an entry. Its message is left empty, as it is stored in another table.
pub(super) fn decode_entry(record: &[u8]) -> Result<QueueRow, Malformed> {
    let mut reader = Reader::new(Bytes::copy_from_slice(record))?;
    let phase = match reader.byte()? {
        0 => Phase::Queued,
        1 => Phase::Sent,
        2 => Phase::Released,
        _ => return Err(Malformed("phase")),
    };
    let packet_id = reader.two()?;
    let flags = reader.byte()?;
    if flags >= 1 << 4 {
        return Err(Malformed("entry flags"));
    }
    let message = reader.varint()?;
    let count = reader.varint()?;
    if count > reader.bytes.len() as u64 {
        return Err(Malformed("identifiers"));
    }
    let identifiers = (0..count).map(|_| reader.small()).collect::<Result<_, _>>()?;
    let shared = reader.optional(flags & ENTRY_SHARED != 0, Reader::text)?;
    reader.end()?;
    let entry = EntryRecord {
        message: Arc::default(),
        qos: qos(flags & 3)?,
        retain: flags & ENTRY_RETAIN != 0,
        identifiers,
        shared,
        packet_id,
        phase,
    };
    Ok(QueueRow { message, entry })
}

/// Returns the record of an entry with another packet id and phase.
pub(super) fn move_entry(record: &[u8], packet_id: u16, phase: Phase) -> Result<Vec<u8>, Malformed> {
    let mut record = record.to_vec();
    let [low, high] = packet_id.to_be_bytes();
    record.get_mut(MOVED).ok_or(Malformed("too short"))?.copy_from_slice(&[phase as u8, low, high]);
    Ok(record)
}

/// Returns the id of the message that an entry refers to.
pub(super) fn entry_message(record: &[u8]) -> Result<u64, Malformed> {
    let id = record.get(5..).ok_or(Malformed("too short"))?;
    Reader { bytes: Bytes::copy_from_slice(&id[..id.len().min(10)]) }.varint()
}

fn put_message(out: &mut Vec<u8>, message: &Message) {
    let p = &message.properties;
    let mut flags = u16::from(message.qos as u8);
    let mut flag = |set: bool, bit: u16| flags |= if set { bit } else { 0 };
    flag(message.retain, RETAIN);
    flag(p.payload_is_utf8.is_some(), FORMAT);
    flag(p.payload_is_utf8 == Some(true), FORMAT_UTF8);
    flag(p.content_type.is_some(), CONTENT_TYPE);
    flag(p.response_topic.is_some(), RESPONSE_TOPIC);
    flag(p.correlation_data.is_some(), CORRELATION);
    flag(!p.user.is_empty(), USER);
    flag(message.expires.is_some(), EXPIRES);
    out.put_u16(flags);
    if let Some(at) = message.expires {
        put_varint(out, at);
    }
    for text in [&p.content_type, &p.response_topic].into_iter().flatten() {
        put_bytes(out, text.as_bytes());
    }
    if let Some(data) = &p.correlation_data {
        put_bytes(out, data);
    }
    if !p.user.is_empty() {
        put_varint(out, p.user.len() as u64);
        for (name, value) in p.user.iter() {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
    out.put_slice(&message.payload);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn text(bytes: Bytes) -> Result<ByteString, Malformed> {
    ByteString::try_from(bytes).map_err(|_| Malformed("not UTF-8"))
}

fn qos(bits: u8) -> Result<QoS, Malformed> {
    QoS::from_bits(bits).ok_or(Malformed("QoS"))
}

/// Reader of a record. Everything it returns shares the record's buffer.
struct Reader {
    bytes: Bytes,
}

impl Reader {
    fn new(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Self { bytes };
        if reader.byte()? == VERSION { Ok(reader) } else { Err(Malformed("version")) }
    }

    fn take(&mut self, count: u64) -> Result<Bytes, Malformed> {
        match usize::try_from(count) {
            Ok(count) if count <= self.bytes.len() => Ok(self.bytes.split_to(count)),
            _ => Err(Malformed("too short")),
        }
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1).map(|byte| byte[0])
    }

    fn two(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("number too large"))
    }

    fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("number too large"))
    }

    fn data(&mut self) -> Result<Bytes, Malformed> {
        let length = self.varint()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<ByteString, Malformed> {
        self.data().and_then(text)
    }

    fn optional<T>(
        &mut self,
        present: bool,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        present.then(|| read(self)).transpose()
    }

    fn message_flags(&mut self) -> Result<u16, Malformed> {
        let flags = self.two()?;
        let stray = flags & !MESSAGE_FLAGS != 0 || flags & (FORMAT | FORMAT_UTF8) == FORMAT_UTF8;
        if stray { Err(Malformed("message flags")) } else { Ok(flags) }
    }

    /// Decodes a text that fits into a packet.
    fn short_text(&mut self) -> Result<ByteString, Malformed> {
        let text = self.text()?;
        if text.len() > usize::from(u16::MAX) {
            Err(Malformed("a text of more than 65,535 bytes"))
        } else {
            Ok(text)
        }
    }

    /// Decodes a message up to the end of the record.
    fn message(&mut self, topic: ByteString) -> Result<Message, Malformed> {
        let flags = self.message_flags()?;
        let has = |bit| flags & bit != 0;
        let expires = self.optional(has(EXPIRES), Self::varint)?;
        let content_type = self.optional(has(CONTENT_TYPE), Self::text)?;
        let response_topic = self.optional(has(RESPONSE_TOPIC), Self::text)?;
        let correlation_data = self.optional(has(CORRELATION), Self::data)?;
        let mut user = Vec::new();
        if has(USER) {
            for _ in 0..self.varint()? {
                user.push((self.short_text()?, self.short_text()?));
            }
        }
        let user = user.into_iter().collect();
        let payload_is_utf8 = has(FORMAT).then_some(has(FORMAT_UTF8));
        let payload = std::mem::take(&mut self.bytes);
        let qos = qos((flags & QOS) as u8)?;
        let properties = Properties { payload_is_utf8, content_type, response_topic, correlation_data, user };
        Ok(Message { topic, payload, qos, retain: has(RETAIN), properties, expires, asked: None })
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed("too long")) }
    }
}
