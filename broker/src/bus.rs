//! Topics of a bus (PROTOCOL.md), as far as the broker has to know them: roots, requests, and reply topics.

use bytestring::ByteString;
use rantai_topics::split_level;

/// Maximum length of a level of a root, an object's name, and a client id in a reply topic.
const MAX_LEVEL_BYTES: usize = 64;
/// Maximum length of a root, in bytes.
const MAX_ROOT_BYTES: usize = 128;

/// Roots of the buses on a broker (`bus_roots`). No root is below another.
#[derive(Debug, Default)]
pub(crate) struct BusRoots(Vec<ByteString>);

/// Kind of a topic below a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BusKind {
    /// `call`: requests to any one instance.
    Call,
    /// `at`: requests to the objects of one node.
    At,
    /// `all`: requests to every instance.
    All,
    /// `reply`: replies.
    Reply,
    /// `name`: entries of the registry.
    Name,
    /// `event`: events.
    Event,
    /// Other topics, such as states of nodes.
    Other,
}

/// Topic below a root, split into its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BusTopic<'a> {
    pub(crate) root: &'a str,
    pub(crate) kind: BusKind,
    /// Node of a request on `at`; empty on other topics.
    pub(crate) node: &'a str,
    /// Object of a request, of a registry entry or of an event; empty if the topic names none.
    pub(crate) object: &'a str,
}

impl BusRoots {
    pub(crate) fn new(roots: &[String]) -> Self {
        Self(roots.iter().map(|root| ByteString::from(root.as_str())).collect())
    }

    /// Parses a topic. Returns `None` if it is outside every root.
    pub(crate) fn topic<'a>(&self, topic: &'a str) -> Option<BusTopic<'a>> {
        let (root, below) = self.0.iter().find_map(|root| {
            let below = topic.strip_prefix(&**root)?.strip_prefix('/')?;
            Some((&topic[..root.len()], below))
        })?;
        let (kind, rest) = split_level(below);
        let rest = rest.unwrap_or_default();
        let (kind, node, rest) = match kind {
            "call" => (BusKind::Call, "", rest),
            "all" => (BusKind::All, "", rest),
            "at" => {
                let (node, rest) = split_level(rest);
                (BusKind::At, node, rest.unwrap_or_default())
            }
            "reply" => (BusKind::Reply, "", ""),
            "name" => (BusKind::Name, "", rest),
            "event" => (BusKind::Event, "", rest),
            _ => (BusKind::Other, "", ""),
        };
        Some(BusTopic { root, kind, node, object: split_level(rest).0 })
    }

    /// Checks whether a topic is a reply topic.
    pub(crate) fn is_reply(&self, topic: &str) -> bool {
        self.topic(topic).is_some_and(|topic| topic.kind == BusKind::Reply)
    }
}

impl BusTopic<'_> {
    pub(crate) fn is_request(&self) -> bool {
        matches!(self.kind, BusKind::Call | BusKind::At | BusKind::All)
    }

    /// Returns the shared filter by which the servers of a request's object receive requests on `call`.
    pub(crate) fn group_filter(&self) -> String {
        group_filter(self.root, self.object)
    }

    /// Returns whether a topic concerns an object: a request to it, its registry entry, or one of its events.
    pub(crate) fn is_about(&self, object: &str) -> bool {
        self.object == object && matches!(self.kind, BusKind::Name | BusKind::Event) || self.asks(object)
    }

    /// Returns whether a topic is that of requests to an object.
    pub(crate) fn asks(&self, object: &str) -> bool {
        self.object == object && self.is_request()
    }

    /// Returns the topic of replies to this request for one client, `{root}/reply/{object}/{client}`. `None` if the
    /// topic names no object, or the client id does not fit into a reply topic.
    pub(crate) fn private_reply(&self, client_id: &str) -> Option<ByteString> {
        let fits = self.is_request() && is_level(self.object) && is_client(client_id);
        fits.then(|| format!("{}/reply/{}/{client_id}", self.root, self.object).into())
    }
}

/// Returns the shared filter by which the servers of an object receive requests on `call`.
pub(crate) fn group_filter(root: &str, object: &str) -> String {
    format!("$share/{object}/{root}/call/{object}/#")
}

/// Checks whether a text is a valid root: levels of 1 to 64 characters of `A-Z a-z 0-9 . _ -`, with at most 128 bytes
/// in total.
pub(crate) fn is_root(text: &str) -> bool {
    text.len() <= MAX_ROOT_BYTES && text.split('/').all(is_level)
}

/// Checks whether two roots are equal or one is below the other, so that a topic would belong to both.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let below = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(one, other) || below(other, one)
}

fn is_level(level: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_LEVEL_BYTES).contains(&level.len()) && level.bytes().all(fits)
}

fn is_client(client_id: &str) -> bool {
    is_level(client_id) && !client_id.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> BusRoots {
        BusRoots::new(&["rantai".to_owned(), "home/at/office".to_owned()])
    }

    #[test]
    fn topics_below_a_root_are_parsed_by_kind() {
        for (topic, expected) in [
            ("rantai/call/calculator/add", Some((BusKind::Call, "calculator"))),
            ("rantai/call/calculator", Some((BusKind::Call, "calculator"))),
            ("rantai/all/calculator/add", Some((BusKind::All, "calculator"))),
            ("rantai/at/pi/calculator/add", Some((BusKind::At, "calculator"))),
            ("rantai/at/pi", Some((BusKind::At, ""))),
            ("rantai/call", Some((BusKind::Call, ""))),
            ("rantai/reply/calculator/me", Some((BusKind::Reply, ""))),
            ("rantai/name/calculator/pi", Some((BusKind::Name, "calculator"))),
            ("rantai/event/calculator/done", Some((BusKind::Event, "calculator"))),
            ("rantai/node/pi", Some((BusKind::Other, ""))),
            ("home/at/office/call/x", Some((BusKind::Call, "x"))),
            ("home/at/office/reply/x/reply", Some((BusKind::Reply, ""))),
            ("home/at/other/x", None),
            ("rantai", None),
            ("rantaix/call/x", None),
            ("x/rantai/call/x", None),
        ] {
            let got = roots();
            let got = got.topic(topic).map(|topic| (topic.kind, topic.object));
            assert_eq!(got, expected, "{topic}");
        }
        assert!(roots().is_reply("rantai/reply/x") && !roots().is_reply("reply/x"));
    }

    #[test]
    fn a_private_reply_needs_an_object_and_a_client_id_that_is_a_level() {
        let reply = |topic: &str, client: &str| {
            let reply = roots().topic(topic).and_then(|topic| topic.private_reply(client));
            reply.map(|topic| topic.to_string())
        };
        assert_eq!(reply("rantai/at/pi/a.b/add", "me--1").as_deref(), Some("rantai/reply/a.b/me--1"));
        assert_eq!(reply("home/at/office/call/x", "me").as_deref(), Some("home/at/office/reply/x/me"));
        for (topic, client) in [
            ("rantai/call", "me"),
            ("rantai/call//add", "me"),
            ("rantai/call/x", "me/+"),
            ("rantai/call/x", "a.b"),
            ("rantai/call/x", ""),
            ("rantai/event/x/y", "me"),
        ] {
            assert_eq!(reply(topic, client), None, "{topic} {client}");
        }
    }

    #[test]
    fn roots_are_validated_and_must_not_overlap() {
        assert!(is_root("rantai") && is_root("home/at/office") && is_root("a.b_c-d"));
        for bad in ["", "/a", "a/", "a//b", "a/+", "#", "$SYS", "a b", &"a".repeat(65), &"a/".repeat(65)] {
            assert!(!is_root(bad), "{bad}");
        }
        assert!(overlap("a", "a") && overlap("a/b", "a") && overlap("a", "a/b"));
        assert!(!overlap("a", "ab") && !overlap("a/b", "a/c"));
    }
}
