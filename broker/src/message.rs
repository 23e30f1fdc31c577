//! Application messages, without anything that depends on their receivers.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

use crate::grants::Asked;
use crate::pool::READ_BYTES;
use crate::user_properties::UserProperties;

/// Average overhead of an allocation, including the rounding of its size, in bytes.
pub(crate) const ALLOCATION: usize = 16;

/// Quality of service of a delivery (MQTT 5, 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(clippy::enum_variant_names, reason = "the standard's names")]
pub(crate) enum QoS {
    /// Sent once, never acknowledged.
    #[default]
    AtMostOnce = 0,
    /// Retransmitted until PUBACK.
    AtLeastOnce = 1,
    /// Retransmitted until PUBREC, then released until PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// Parses the two bits of the wire; 3 is malformed (MQTT 5, 3.3.1.2).
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// Returns the lower of the publisher's and the subscription's QoS (MQTT 5, 3.8.4).
pub(crate) fn effective_qos(published: QoS, granted: QoS) -> QoS {
    published.min(granted)
}

/// Properties of a PUBLISH that a server forwards unaltered (MQTT 5, 3.3.2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    /// Payload Format Indicator; `Some(true)` means that the payload is UTF-8.
    pub(crate) payload_is_utf8: Option<bool>,
    pub(crate) content_type: Option<ByteString>,
    pub(crate) response_topic: Option<ByteString>,
    pub(crate) correlation_data: Option<Bytes>,
    pub(crate) user: UserProperties,
}

/// An application message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: ByteString,
    pub(crate) payload: Bytes,
    /// QoS of the publisher's packet.
    pub(crate) qos: QoS,
    /// Retain flag of the publisher's packet.
    pub(crate) retain: bool,
    pub(crate) properties: Properties,
    /// Time of expiry, in milliseconds on the broker's [`Clock`](crate::clock::Clock).
    pub(crate) expires: Option<u64>,
    /// Asker of the request, if known: for requests on a bus with access rules that were not restored from disk.
    pub(crate) asked: Option<Arc<Asked>>,
}

impl Message {
    /// Returns the value of a user property that occurs once.
    pub(crate) fn user(&self, name: &str) -> Option<&str> {
        self.properties.user.get(name)
    }

    /// Returns whether its Message Expiry Interval is over at `now`.
    pub(crate) fn expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Returns the approximate size in memory, in bytes, of a message that was copied by [`detach`](Self::detach) and
    /// is behind an `Arc`: [`bytes_beside`](Self::bytes_beside), the struct itself, and the reference counts.
    pub(crate) fn size(&self) -> usize {
        const REFERENCE_COUNTS: usize = 2 * size_of::<usize>();
        self.bytes_beside() + ALLOCATION + REFERENCE_COUNTS + size_of::<Self>()
    }

    /// Returns the approximate number of bytes outside the struct: texts and payload in a buffer of their own.
    pub(crate) fn bytes_beside(&self) -> usize {
        // The buffer and its reference count.
        const BUFFER: usize = 2 * ALLOCATION + 5 * size_of::<usize>();
        BUFFER + self.text_bytes()
    }

    /// Returns the number of bytes of texts and payload; user properties count with identifiers and lengths.
    pub(crate) fn text_bytes(&self) -> usize {
        let p = &self.properties;
        self.topic.len()
            + self.payload.len()
            + p.content_type.as_ref().map_or(0, |s| s.len())
            + p.response_topic.as_ref().map_or(0, |s| s.len())
            + p.correlation_data.as_ref().map_or(0, Bytes::len)
            + p.user.encoded().len()
    }

    /// Copies the message to its own buffer. A slice of a read buffer would keep that whole buffer in memory.
    pub(crate) fn compact(&self) -> Self {
        self.copy(None)
    }

    /// Copies the message like [`compact`](Self::compact), for the time of its delivery: a payload large enough to
    /// have its own read buffer is shared instead of copied.
    pub(crate) fn detach(&self) -> Self {
        self.copy((self.payload.len() >= READ_BYTES).then(|| self.payload.clone()))
    }

    fn copy(&self, payload: Option<Bytes>) -> Self {
        let Properties { payload_is_utf8, content_type, response_topic, correlation_data, user } =
            &self.properties;
        let shared = payload.as_ref().map_or(0, Bytes::len);
        // The texts come first and adjacent, so that they are validated once.
        let texts = [Some(&self.topic), content_type.as_ref(), response_topic.as_ref()]
            .map(|text| text.map_or("", |text| text));
        let text_end = texts.iter().map(|text| text.len()).sum();
        let [topic, content, response] = texts.map(str::as_bytes);
        let correlation = correlation_data.as_deref().unwrap_or_default();
        let own_payload = if payload.is_none() { &self.payload[..] } else { &[] };
        let parts = [topic, content, response, user.encoded(), correlation, own_payload];
        let mut bytes = concatenated(self.text_bytes() - shared, parts);
        let texts = ByteString::try_from(bytes.split_to(text_end)).expect("copied from valid UTF-8");
        let mut at = 0;
        let mut text = |from: &ByteString| {
            let begin = at;
            at += from.len();
            texts.slice_ref(&texts[begin..at])
        };
        let topic = text(&self.topic);
        let properties = Properties {
            payload_is_utf8: *payload_is_utf8,
            content_type: content_type.as_ref().map(&mut text),
            response_topic: response_topic.as_ref().map(&mut text),
            user: user.moved_to(bytes.split_to(user.encoded().len())),
            correlation_data: correlation_data.as_ref().map(|data| bytes.split_to(data.len())),
        };
        let payload = payload.unwrap_or(bytes);
        let Self { qos, retain, expires, asked, .. } = self;
        Self {
            topic,
            payload,
            qos: *qos,
            retain: *retain,
            properties,
            expires: *expires,
            asked: asked.clone(),
        }
    }
}

/// Concatenates parts with a total length of `size` bytes. A short result takes one allocation, however often it is
/// cloned and sliced.
fn concatenated<const COUNT: usize>(size: usize, parts: [&[u8]; COUNT]) -> Bytes {
    fn inline<const SIZE: usize>(parts: &[&[u8]]) -> Bytes
    where
        [u8; SIZE]: smallvec::Array<Item = u8>,
        SmallVec<[u8; SIZE]>: Send,
    {
        let mut all = SmallVec::<[u8; SIZE]>::new();
        for part in parts {
            all.extend_from_slice(part);
        }
        Bytes::from_owner(all)
    }
    match size {
        0..=64 => inline::<64>(&parts),
        65..=128 => inline::<128>(&parts),
        129..=256 => inline::<256>(&parts),
        _ => parts.concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once, 390,000 of them counted as nothing and took 24 MB.
    #[test]
    fn empty_user_properties_count_for_the_memory_they_take() {
        let user: UserProperties = std::iter::repeat_n(("", ""), 1_000).collect();
        let message =
            Message { properties: Properties { user, ..Properties::default() }, ..Message::default() };
        let empty = Message::default().size();
        assert_eq!((message.size() - empty, message.text_bytes()), (5_000, 5_000));
    }

    #[test]
    fn copies_are_equal_and_keep_no_more_memory_than_their_size() {
        for length in [0, 10, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1] {
            let buffer = Bytes::from(vec![b'x'; length + 100]);
            let message = Message {
                topic: ByteString::try_from(buffer.slice(..1)).expect("ASCII"),
                payload: buffer.slice(100..),
                properties: Properties {
                    user: [("k", "v")].into_iter().collect(),
                    correlation_data: Some(buffer.slice(1..9)),
                    ..Properties::default()
                },
                ..Message::default()
            };
            let (compact, detached) = (message.compact(), message.detach());
            assert_eq!((&compact, &detached), (&message, &message));
            assert!(length == 0 || compact.payload.as_ptr() != message.payload.as_ptr());
            assert_eq!(
                detached.payload.as_ptr() == message.payload.as_ptr(),
                length >= READ_BYTES,
                "{length}"
            );
            assert_ne!(detached.topic.as_ptr(), message.topic.as_ptr());
        }
    }
}
