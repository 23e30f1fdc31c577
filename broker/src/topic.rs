//! Topics and topic filters as accepted by the broker: limited in levels, and shared filters (MQTT 5, 4.7 and 4.8.2).

use bytestring::ByteString;
use rantai_topics::{is_filter, is_topic, matches, split_level};

/// Checks whether `name` is a valid topic name of at most `levels` levels.
pub(crate) fn valid_name(name: &str, levels: usize) -> bool {
    is_topic(name) && within(name, levels)
}

/// Checks whether `filter`, without any `$share/…/`, is a valid filter of at most `levels` levels.
pub(crate) fn valid_filter(filter: &str, levels: usize) -> bool {
    is_filter(filter) && within(filter, levels)
}

/// Returns the number of levels of a topic or filter.
pub(crate) fn levels(text: &str) -> usize {
    1 + text.bytes().filter(|&byte| byte == b'/').count()
}

/// Returns whether a text has at most `levels` levels. A text with fewer bytes than that always has.
fn within(text: &str, levels: usize) -> bool {
    text.len() < levels || self::levels(text) <= levels
}

/// Returns whether clients may publish to this topic although it begins with `$`. On
/// `$SYS/broker/connection/NAME/state`, bridges announce whether they are connected, with a will. A bridge with MQTT 5
/// cannot be distinguished from other clients, so all clients may.
pub(crate) fn is_bridge_state(topic: &str) -> bool {
    let name = topic.strip_prefix("$SYS/broker/connection/").and_then(|rest| rest.strip_suffix("/state"));
    name.is_some_and(|name| !name.contains('/'))
}

/// Returns whether this is the topic on which the bridge with this client id announces whether it is connected. Any
/// client admitted with the id may publish there.
pub fn is_state_of_bridge(topic: &str, client_id: &str) -> bool {
    is_bridge_state(topic)
        && topic.strip_prefix("$SYS/broker/connection/").and_then(|rest| rest.strip_suffix("/state"))
            == Some(client_id)
}

/// Returns whether only the broker publishes to this topic. Its values are neither counted, refused nor stored.
pub(crate) fn is_own_value(topic: &str) -> bool {
    topic.starts_with("$SYS/") && !is_bridge_state(topic)
}

/// Parsed filter of the form `$share/{name}/{filter}` (MQTT 5, 4.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SharedFilter<'a> {
    pub(crate) name: &'a str,
    pub(crate) filter: &'a str,
}

/// Parses a shared filter. `None` if it is not shared, and `Some(None)` if it begins with `$share/` but is not well
/// formed.
#[expect(clippy::option_option, reason = "not shared, not well formed, or both")]
pub(crate) fn shared(filter: &str) -> Option<Option<SharedFilter<'_>>> {
    let rest = filter.strip_prefix("$share/")?;
    let (name, filter) = split_level(rest);
    Some(filter.and_then(|filter| {
        let fits = !name.is_empty() && !name.bytes().any(|b| matches!(b, b'+' | b'#')) && !filter.is_empty();
        fits.then_some(SharedFilter { name, filter })
    }))
}

/// A set of topics, as a list of filters.
#[derive(Debug, Default)]
pub(crate) struct FilterList(Vec<ByteString>);

impl FilterList {
    pub(crate) fn new(filters: &[String]) -> Self {
        Self(filters.iter().map(|f| ByteString::from(f.as_str())).collect())
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|filter| matches(filter, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_topic_names_are_refused() {
        assert!(valid_name("a/b", 128) && valid_name("/", 128) && valid_name("é/x", 128));
        for bad in ["", "a/+", "#", "a\0b"] {
            assert!(!valid_name(bad, 128), "{bad:?}");
        }
        assert!(!valid_name("a/b/c", 2) && valid_name("a/b", 2));
    }

    #[test]
    fn invalid_filters_are_refused() {
        for good in ["#", "+", "a/#", "+/b/+", "/", "//", "a//+"] {
            assert!(valid_filter(good, 128), "{good:?}");
        }
        for bad in ["", "a#", "a/#/b", "a+", "+a/b", "#/", "a\0"] {
            assert!(!valid_filter(bad, 128), "{bad:?}");
        }
        assert!(!valid_filter("a/+/#", 2) && valid_filter("a/#", 2));
    }

    #[test]
    fn only_the_state_of_a_bridge_is_not_the_brokers_own() {
        for topic in ["$SYS/broker/connection/b/state", "$SYS/broker/connection//state"] {
            assert!(is_bridge_state(topic) && !is_own_value(topic), "{topic}");
        }
        for topic in [
            "$SYS/broker/connection/state",
            "$SYS/broker/connection/b/c/state",
            "$SYS/broker/connection/b",
            "$SYS/broker/uptime",
        ] {
            assert!(!is_bridge_state(topic) && is_own_value(topic), "{topic}");
        }
        assert!(!is_own_value("a/$SYS/"));
    }

    #[test]
    fn shared_filters_are_split_into_name_and_filter() {
        assert_eq!(shared("a/b"), None);
        assert_eq!(shared("$share/g/a/#"), Some(Some(SharedFilter { name: "g", filter: "a/#" })));
        for bad in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a"] {
            assert_eq!(shared(bad), Some(None), "{bad:?}");
        }
    }
}
