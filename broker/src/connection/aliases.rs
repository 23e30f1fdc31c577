//! Topic aliases set by a client (MQTT 5, 3.3.2.3.4).

use bytestring::ByteString;

use super::ConnectionError;
use crate::codec::{DecodeError, Reason};

/// Aliases of a client. Boxed and created on first use, as most clients set none.
#[derive(Debug, Default)]
pub(super) struct TopicAliases(Option<Box<AliasTable>>);

/// Table of the aliases that a client has set.
#[derive(Debug, Default)]
struct AliasTable {
    topics: Vec<Option<ByteString>>,
    /// Total length of these topics, in bytes.
    bytes: usize,
}

impl TopicAliases {
    /// Replaces an empty topic by the one that `alias` stands for, or sets the alias if `topic` is not empty.
    ///
    /// # Errors
    ///
    /// The alias is 0, above the maximum, or was never set, or the topics of all aliases would exceed the limit in
    /// bytes.
    pub(super) fn resolve(
        &mut self,
        alias: u16,
        topic: &mut ByteString,
        (most, most_bytes): (u16, usize),
    ) -> Result<(), ConnectionError> {
        if alias == 0 || alias > most {
            let reason = Reason::TOPIC_ALIAS_INVALID;
            return Err(DecodeError { reason, text: "a topic alias of 0 or above the maximum" });
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            let known = self.0.as_ref().and_then(|known| known.topics.get(index)?.as_ref());
            *topic = known.cloned().ok_or(DecodeError::protocol("a topic alias that was never set"))?;
            return Ok(());
        }
        let known = self.0.get_or_insert_default();
        if known.topics.len() <= index {
            known.topics.resize(index + 1, None);
        }
        let slot = &mut known.topics[index];
        let bytes = known.bytes - slot.as_ref().map_or(0, |old| old.len()) + topic.len();
        if bytes > most_bytes {
            let reason = Reason::QUOTA_EXCEEDED;
            return Err(DecodeError { reason, text: "topic aliases for too many bytes of topics" });
        }
        known.bytes = bytes;
        // Copied to its own memory, because the topic is a slice of the packet and would keep it in memory.
        *slot = Some(ByteString::from(&**topic));
        Ok(())
    }
}
