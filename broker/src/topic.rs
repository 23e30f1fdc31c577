//! Topics and topic filters as the broker takes them: within its limit of levels, and shared (MQTT 5, 4.7 and 4.8.2).

use bytestring::ByteString;
use rantai_topics::{is_filter, is_topic, matches};

/// Whether `name` may be published to: a topic of at most `levels` levels.
pub(crate) fn valid_name(name: &str, levels: usize) -> bool {
    is_topic(name) && within(name, levels)
}

/// Whether `filter`, without any `$share/…/`, may be subscribed to: a filter of at most `levels` levels.
pub(crate) fn valid_filter(filter: &str, levels: usize) -> bool {
    is_filter(filter) && within(filter, levels)
}

/// Whether a text has at most `levels` levels, which a text shorter than that always has.
fn within(text: &str, levels: usize) -> bool {
    text.len() < levels || text.bytes().filter(|&b| b == b'/').count() < levels
}

/// A filter of the form `$share/{name}/{filter}` taken apart (MQTT 5, 4.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shared<'a> {
    pub(crate) name: &'a str,
    pub(crate) filter: &'a str,
}

/// Takes a shared filter apart; `Some(None)` where it begins with `$share/` and is not well formed.
#[expect(clippy::option_option, reason = "not shared, not well formed, or both")]
pub(crate) fn shared(filter: &str) -> Option<Option<Shared<'_>>> {
    let rest = filter.strip_prefix("$share/")?;
    Some(rest.split_once('/').and_then(|(name, filter)| {
        let fits = !name.is_empty() && !name.contains(['+', '#']) && !filter.is_empty();
        fits.then_some(Shared { name, filter })
    }))
}

/// Filters whose topics get the user property `caller`.
#[derive(Debug, Default)]
pub(crate) struct FilterList(Vec<ByteString>);

impl FilterList {
    pub(crate) fn new(filters: &[String]) -> Self {
        Self(filters.iter().map(|f| ByteString::from(f.as_str())).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|filter| matches(filter, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(valid_name("a/b", 128) && valid_name("/", 128) && valid_name("é/x", 128));
        for bad in ["", "a/+", "#", "a\0b"] {
            assert!(!valid_name(bad, 128), "{bad:?}");
        }
        assert!(!valid_name("a/b/c", 2) && valid_name("a/b", 2));
    }

    #[test]
    fn filters() {
        for good in ["#", "+", "a/#", "+/b/+", "/", "//", "a//+"] {
            assert!(valid_filter(good, 128), "{good:?}");
        }
        for bad in ["", "a#", "a/#/b", "a+", "+a/b", "#/", "a\0"] {
            assert!(!valid_filter(bad, 128), "{bad:?}");
        }
        assert!(!valid_filter("a/+/#", 2) && valid_filter("a/#", 2));
    }

    #[test]
    fn shared_filters() {
        assert_eq!(shared("a/b"), None);
        assert_eq!(shared("$share/g/a/#"), Some(Some(Shared { name: "g", filter: "a/#" })));
        for bad in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a"] {
            assert_eq!(shared(bad), Some(None), "{bad:?}");
        }
    }
}
