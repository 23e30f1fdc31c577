//! Topic aliases set by a client (MQTT 5, 3.3.2.3.4).

use bytestring::ByteString;

use super::Failure;
use crate::codec::{DecodeError, Reason};
use crate::config::Limits;

/// Topics by alias minus 1.
#[derive(Debug, Default)]
pub(super) struct TopicAliases {
    topics: Vec<Option<ByteString>>,
    /// Bytes of these topics.
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
        limits: &Limits,
    ) -> Result<(), Failure> {
        if alias == 0 || alias > limits.topic_aliases {
            let reason = Reason::TOPIC_ALIAS_INVALID;
            return Err(DecodeError { reason, text: "a topic alias of 0 or above the maximum" });
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            let known = self.topics.get(index).and_then(Option::as_ref);
            *topic = known.cloned().ok_or(DecodeError::protocol("a topic alias that was never set"))?;
            return Ok(());
        }
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        let slot = &mut self.topics[index];
        let bytes = self.bytes - slot.as_ref().map_or(0, |old| old.len()) + topic.len();
        if bytes > limits.topic_alias_bytes {
            let reason = Reason::QUOTA_EXCEEDED;
            return Err(DecodeError { reason, text: "topic aliases for too many bytes of topics" });
        }
        self.bytes = bytes;
        // Copied to its own memory: the topic is a slice of the packet.
        *slot = Some(ByteString::from(&**topic));
        Ok(())
    }
}
