//! Topic names and topic filters: what is valid, and which filter matches which name (MQTT 5, 4.7).

use bytestring::ByteString;

/// The longest UTF-8 string on the wire, in bytes (MQTT 5, 1.5.4).
const MAX_BYTES: usize = 65_535;

/// Whether `name` may be published to: not empty, no wildcard, no NUL, at most `levels` levels.
pub(crate) fn valid_name(name: &str, levels: usize) -> bool {
    !name.is_empty()
        && name.len() <= MAX_BYTES
        && !name.bytes().any(|b| matches!(b, b'+' | b'#' | 0))
        && (name.len() < levels || name.bytes().filter(|&b| b == b'/').count() < levels)
}

/// Whether `filter`, without any `$share/…/`, may be subscribed to.
pub(crate) fn valid_filter(filter: &str, levels: usize) -> bool {
    if filter.is_empty() || filter.len() > MAX_BYTES || filter.contains('\0') {
        return false;
    }
    let mut parts = filter.split('/').peekable();
    let mut count = 0;
    while let Some(level) = parts.next() {
        count += 1;
        let fits = match level {
            "#" => parts.peek().is_none(),
            "+" => true,
            other => !other.contains(['+', '#']),
        };
        if !fits || count > levels {
            return false;
        }
    }
    true
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

/// Whether a filter matches a name. Only for lists of a few filters; subscriptions are kept in a trie.
pub(crate) fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = name.split('/');
    let mut filters = filter.split('/');
    loop {
        match (filters.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(f), Some(l)) if f == l => {}
            _ => return false,
        }
    }
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
    }

    #[test]
    fn shared_filters() {
        assert_eq!(shared("a/b"), None);
        assert_eq!(shared("$share/g/a/#"), Some(Some(Shared { name: "g", filter: "a/#" })));
        for bad in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a"] {
            assert_eq!(shared(bad), Some(None), "{bad:?}");
        }
    }

    #[test]
    fn matching() {
        for (filter, name) in [
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("+/b", "a/b"),
            ("#", "a"),
            ("+", ""),
            ("/+", "/x"),
            ("$SYS/#", "$SYS/x"),
        ] {
            assert!(matches(filter, name), "{filter} {name}");
        }
        for (filter, name) in
            [("a/+", "a"), ("#", "$SYS/x"), ("+/x", "$SYS/x"), ("a", "a/b"), ("+", "a/b"), ("a/b", "a")]
        {
            assert!(!matches(filter, name), "{filter} {name}");
        }
    }
}
