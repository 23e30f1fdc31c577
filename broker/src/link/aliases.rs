//! Topic aliases set towards a client (MQTT 5, 3.3.2.3.4).

use bytestring::ByteString;
use hashbrown::HashMap;

use crate::codec::Outgoing;

/// Topics that the client knows by alias.
#[derive(Debug, Default)]
pub(super) struct SentAliases {
    known: HashMap<ByteString, u16>,
    /// Total length of these topics, in bytes.
    bytes: usize,
}

impl SentAliases {
    /// Sets an alias for the topic, if there are fewer than `maximum` aliases, for at most `max_bytes` of topics.
    /// Returns whether the alias is new.
    pub(super) fn name(
        &mut self,
        topic: &ByteString,
        (maximum, max_bytes): (u16, usize),
        outgoing: &mut Outgoing<'_>,
    ) -> bool {
        if let Some(&alias) = self.known.get(topic) {
            outgoing.alias = Some(alias);
            outgoing.alias_known = true;
            return false;
        }
        if self.known.len() >= usize::from(maximum) || self.bytes + topic.len() > max_bytes {
            return false;
        }
        let alias = self.known.len() as u16 + 1;
        self.bytes += topic.len();
        // Copied, as the topic may be a slice of a read buffer, and would keep it in memory.
        self.known.insert(ByteString::from(&**topic), alias);
        outgoing.alias = Some(alias);
        true
    }

    /// Removes the newest alias, which was not sent to the client.
    pub(super) fn forget(&mut self, topic: &ByteString) {
        if self.known.remove(topic).is_some() {
            self.bytes -= topic.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_aliases_up_to_a_number_and_a_size() {
        let mut aliases = SentAliases::default();
        let mut name = |topic: &str, limits| {
            let mut outgoing = Outgoing::default();
            let new = aliases.name(&topic.into(), limits, &mut outgoing);
            assert_eq!(new, outgoing.alias.is_some() && !outgoing.alias_known);
            outgoing.alias
        };
        assert_eq!(name("0123456789", (2, 12)), Some(1));
        assert_eq!(name("abc", (2, 12)), None, "13 bytes");
        assert_eq!(name("ab", (2, 12)), Some(2));
        assert_eq!(name("", (2, 12)), None, "two are used");
        assert_eq!(name("ab", (2, 12)), Some(2));
        aliases.forget(&"ab".into());
        let mut outgoing = Outgoing::default();
        assert!(aliases.name(&"cd".into(), (2, 12), &mut outgoing));
        assert_eq!(outgoing.alias, Some(2));
    }
}
