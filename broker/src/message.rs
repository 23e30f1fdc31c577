//! Application messages, without anything that depends on their receivers.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::grants::Asked;
use crate::pool::READ_BYTES;

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
    /// User properties in their original order \[MQTT-3.3.2-18].
    pub(crate) user: Vec<(ByteString, ByteString)>,
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
    /// Asker of the reply, if known: for requests on a bus with access rules that do not come from disk.
    pub(crate) asked: Option<Arc<Asked>>,
}

impl Message {
    /// Returns the value of a user property that occurs once.
    pub(crate) fn user(&self, name: &str) -> Option<&str> {
        self.properties.user.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Checks whether its Message Expiry Interval is over at `now`.
    pub(crate) fn expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Returns the approximate size in memory, in bytes, if the message is kept by itself as by
    /// [`detach`](Self::detach) and behind an `Arc`: [`bytes_beside`](Self::bytes_beside), the struct itself, and the
    /// reference counts.
    pub(crate) fn size(&self) -> usize {
        const REFERENCE_COUNTS: usize = 2 * size_of::<usize>();
        self.bytes_beside() + ALLOCATION + REFERENCE_COUNTS + size_of::<Self>()
    }

    /// Returns the approximate number of bytes besides the struct itself: texts and payload in a buffer of their own,
    /// and the overhead of each user property besides its texts, which may be empty.
    pub(crate) fn bytes_beside(&self) -> usize {
        // The buffer and its reference count.
        const BUFFER: usize = 2 * ALLOCATION + 5 * size_of::<usize>();
        BUFFER + self.text_bytes() + self.properties.user.len() * size_of::<(ByteString, ByteString)>()
    }

    /// Returns the number of bytes of texts and payload.
    pub(crate) fn text_bytes(&self) -> usize {
        let p = &self.properties;
        self.topic.len()
            + self.payload.len()
            + p.content_type.as_ref().map_or(0, |s| s.len())
            + p.response_topic.as_ref().map_or(0, |s| s.len())
            + p.correlation_data.as_ref().map_or(0, Bytes::len)
            + p.user.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
    }

    /// Copies the message to a buffer of its own: a slice of a read buffer would keep that whole buffer in memory as
    /// long as the message.
    pub(crate) fn compact(&self) -> Self {
        self.copy(None)
    }

    /// Copies the message like [`compact`](Self::compact), for the time of its delivery: a payload large enough to have
    /// its own read buffer is shared and not copied.
    pub(crate) fn detach(&self) -> Self {
        self.copy((self.payload.len() >= READ_BYTES).then(|| self.payload.clone()))
    }

    fn copy(&self, payload: Option<Bytes>) -> Self {
        let Properties { payload_is_utf8, content_type, response_topic, correlation_data, user } =
            &self.properties;
        let shared = payload.as_ref().map_or(0, Bytes::len);
        let mut buffer = Vec::with_capacity(self.text_bytes() - shared);
        // The texts come first, together, so that they are checked once.
        let texts = [Some(&self.topic), content_type.as_ref(), response_topic.as_ref()];
        for text in texts.into_iter().flatten().chain(user.iter().flat_map(|(key, value)| [key, value])) {
            buffer.extend_from_slice(text.as_bytes());
        }
        let text_end = buffer.len();
        buffer.extend_from_slice(correlation_data.as_deref().unwrap_or_default());
        if payload.is_none() {
            buffer.extend_from_slice(&self.payload);
        }
        let mut bytes = Bytes::from(buffer);
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
            user: user.iter().map(|(key, value)| (text(key), text(value))).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// 390,000 of them once counted as nothing and took 24 MB.
    #[test]
    fn empty_user_properties_count_for_the_memory_they_take() {
        let user = vec![(ByteString::new(), ByteString::new()); 1_000];
        let message =
            Message { properties: Properties { user, ..Properties::default() }, ..Message::default() };
        let empty = Message::default().size();
        assert_eq!(message.size() - empty, 1_000 * size_of::<(ByteString, ByteString)>());
        assert_eq!(message.text_bytes(), 0);
    }

    #[test]
    fn copies_are_equal_and_hold_on_to_no_more_than_they_say() {
        for length in [0, 10, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1] {
            let buffer = Bytes::from(vec![b'x'; length + 100]);
            let message = Message {
                topic: ByteString::try_from(buffer.slice(..1)).expect("ASCII"),
                payload: buffer.slice(100..),
                properties: Properties {
                    user: vec![("k".into(), "v".into())],
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
