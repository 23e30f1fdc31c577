//! Topics of the contract, formatted and parsed in this one place.

use std::fmt;

use super::name::{ClientId, MethodName, ObjectName, Root};

/// To whom a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any one instance: `call`.
    Any,
    /// The instance on one node: `at`.
    Node(ClientId),
    /// Every instance: `all`.
    All,
}

/// A topic that requests are published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallTopic {
    /// To whom.
    pub target: Target,
    /// Which object.
    pub object: ObjectName,
    /// Which method; none for a request in JSON-RPC form.
    pub method: Option<MethodName>,
}

/// Why a topic under `call`, `at` or `all` is no [`CallTopic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Not under this root, or of another kind.
    #[error("not a topic for requests")]
    Other,
    /// More levels than a request has: -32600.
    #[error("more levels than object and method")]
    TooManyLevels,
    /// An object, method or node that is no name: -32600.
    #[error("a level that is no name")]
    NoName,
}

impl CallTopic {
    /// The topic as text.
    pub fn format(&self, root: &Root) -> String {
        let Self { target, object, method } = self;
        let mut topic = match target {
            Target::Any => format!("{root}/call/{object}"),
            Target::Node(node) => format!("{root}/at/{node}/{object}"),
            Target::All => format!("{root}/all/{object}"),
        };
        if let Some(method) = method {
            topic.push('/');
            topic.push_str(method.as_str());
        }
        topic
    }

    /// Takes a topic apart.
    ///
    /// # Errors
    ///
    /// What is no topic for requests, has too many levels, or levels that are no names.
    pub fn parse(root: &Root, topic: &str) -> Result<Self, TopicError> {
        let (kind, rest) = under(root, topic).and_then(|t| t.split_once('/')).ok_or(TopicError::Other)?;
        let (target, rest) = match kind {
            "call" => (Target::Any, rest),
            "all" => (Target::All, rest),
            "at" => {
                let (node, rest) = rest.split_once('/').ok_or(TopicError::Other)?;
                (Target::Node(ClientId::new(node).map_err(|_| TopicError::NoName)?), rest)
            }
            _ => return Err(TopicError::Other),
        };
        let mut levels = rest.split('/');
        let object = levels.next().unwrap_or_default();
        let object = ObjectName::any(object);
        let object = object.map_err(|_| TopicError::NoName)?;
        let method = levels.next().map(MethodName::new).transpose().map_err(|_| TopicError::NoName)?;
        if levels.next().is_some() {
            return Err(TopicError::TooManyLevels);
        }
        Ok(Self { target, object, method })
    }
}

fn under<'a>(root: &Root, topic: &'a str) -> Option<&'a str> {
    topic.strip_prefix(root.as_str())?.strip_prefix('/')
}

/// The filters a server subscribes to for one object.
///
/// `call` is always shared, with exactly this group name: two holders of one name then never both execute one
/// request.
pub fn call_filters(root: &Root, node: &ClientId, object: &ObjectName) -> [String; 3] {
    [
        format!("$share/{object}/{root}/call/{object}/#"),
        format!("{root}/at/{node}/#"),
        format!("{root}/all/{object}/#"),
    ]
}

/// Where replies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTopic(String);

impl ReplyTopic {
    /// The longest one, in bytes.
    pub const LONGEST: usize = 256;

    /// To one client.
    pub fn to(root: &Root, object: &ObjectName, client: &ClientId) -> Self {
        Self(format!("{root}/reply/{object}/{client}"))
    }

    /// For who named none.
    pub fn public(root: &Root, object: &ObjectName) -> Self {
        Self(format!("{root}/reply/{object}"))
    }

    /// One that a caller named: it must begin with `{root}/reply/`, hold no wildcard and be at most
    /// [`LONGEST`](Self::LONGEST) bytes.
    pub fn named(root: &Root, topic: &str) -> Option<Self> {
        let rest = under(root, topic)?.strip_prefix("reply/")?;
        let fits = !rest.is_empty() && topic.len() <= Self::LONGEST && !topic.contains(['+', '#', '\0']);
        fits.then(|| Self(topic.to_owned()))
    }

    /// The one subscription of a client for all its replies.
    pub fn filter(root: &Root, client: &ClientId) -> String {
        format!("{root}/reply/+/{client}")
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplyTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Retained topics of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryTopic {
    /// The entry of an object on a node.
    Name(ObjectName, ClientId),
    /// The state of a node.
    Node(ClientId),
}

impl RegistryTopic {
    /// The topic as text.
    pub fn format(&self, root: &Root) -> String {
        match self {
            Self::Name(object, node) => format!("{root}/name/{object}/{node}"),
            Self::Node(node) => format!("{root}/node/{node}"),
        }
    }

    /// Takes a topic apart; `None` for any other topic.
    pub fn parse(root: &Root, topic: &str) -> Option<Self> {
        let levels: Vec<&str> = under(root, topic)?.split('/').collect();
        match levels[..] {
            ["name", object, node] => {
                let object = ObjectName::any(object);
                Some(Self::Name(object.ok()?, ClientId::new(node).ok()?))
            }
            ["node", node] => Some(Self::Node(ClientId::new(node).ok()?)),
            _ => None,
        }
    }

    /// Every entry of one object.
    pub fn entries_of(root: &Root, object: &ObjectName) -> String {
        format!("{root}/name/{object}/+")
    }

    /// Every entry of one node.
    pub fn entries_on(root: &Root, node: &ClientId) -> String {
        format!("{root}/name/+/{node}")
    }

    /// Every entry.
    pub fn entries(root: &Root) -> String {
        format!("{root}/name/+/+")
    }

    /// Every node's state.
    pub fn nodes(root: &Root) -> String {
        format!("{root}/node/+")
    }
}

/// A topic of events: telemetry, states, and upcalls to one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTopic {
    /// Whose event.
    pub object: ObjectName,
    /// Which event; named like a method.
    pub event: MethodName,
    /// For whom; `None` for everyone.
    pub client: Option<ClientId>,
}

impl EventTopic {
    /// The topic as text.
    pub fn format(&self, root: &Root) -> String {
        let Self { object, event, client } = self;
        match client {
            None => format!("{root}/event/{object}/{event}"),
            Some(client) => format!("{root}/event/{object}/{event}/{client}"),
        }
    }

    /// Filters for the events of one object, those to single clients included: all of them, or one.
    pub fn filters(root: &Root, object: &ObjectName, event: Option<&MethodName>) -> Vec<String> {
        match event {
            None => vec![format!("{root}/event/{object}/#")],
            Some(event) => vec![format!("{root}/event/{object}/{event}/#")],
        }
    }

    /// The filter for one event of every object.
    pub fn every(root: &Root, event: &str) -> String {
        format!("{root}/event/+/{event}")
    }

    /// The filter for one event of every object, for one client.
    pub fn every_for(root: &Root, event: &str, client: &ClientId) -> String {
        format!("{root}/event/+/{event}/{client}")
    }

    /// Takes a topic apart; `None` for any other topic.
    pub fn parse(root: &Root, topic: &str) -> Option<Self> {
        let levels: Vec<&str> = under(root, topic)?.split('/').collect();
        let (object, event, client) = match levels[..] {
            ["event", object, event] => (object, event, None),
            ["event", object, event, client] => (object, event, Some(ClientId::new(client).ok()?)),
            _ => return None,
        };
        Some(Self { object: ObjectName::any(object).ok()?, event: MethodName::new(event).ok()?, client })
    }
}

/// The longest topic or filter, in bytes (MQTT 5, 1.5.4).
const LONGEST: usize = u16::MAX as usize;

/// Whether a text is a topic that may be published to (MQTT 5, 4.7.1 and 4.7.3).
pub fn is_topic(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && !text.contains(['+', '#', '\0'])
}

/// Whether a text is a filter, with its wildcards where they may be (MQTT 5, 4.7.1).
pub fn is_filter(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    let mut fits = !text.is_empty() && text.len() <= LONGEST && !text.contains('\0');
    while let Some(level) = levels.next() {
        fits &= match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            level => !level.contains(['+', '#']),
        };
    }
    fits
}

/// Whether a filter takes everything that another one takes.
pub fn covers(filter: &str, other: &str) -> bool {
    // A wildcard at the beginning is not meant for `$SYS` and its like [MQTT-4.7.2-1].
    if other.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = other.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(level)) if level != "#" => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Whether there are topics that both filters take.
pub fn overlap(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    let special = |filter: &str| filter.starts_with('$');
    if (special(one) || special(other)) && [one, other].iter().any(|f| f.starts_with(['+', '#'])) {
        return false;
    }
    loop {
        match (ones.next(), others.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

/// Whether a filter (without `$share/GROUP/`) takes a topic (MQTT 5, 4.7).
pub fn matches(filter: &str, topic: &str) -> bool {
    // A wildcard at the beginning is not meant for `$SYS` and its like [MQTT-4.7.2-1].
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_take_what_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("+", "é", true),
            ("a", "b", false),
            ("a//+", "a//", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn topics_and_filters_are_known() {
        for topic in ["a", "/", "sister/temp", "a b/é", "$SYS/x"] {
            assert!(is_topic(topic) && is_filter(topic), "{topic}");
        }
        for filter in ["#", "+", "a/#", "+/+/#", "a/+/b"] {
            assert!(is_filter(filter) && !is_topic(filter), "{filter}");
        }
        let long = "x".repeat(65_536);
        for bad in ["", "a\0", "a/#/b", "#/a", "a#", "a/b+", "+a", &long] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn filters_are_compared() {
        for (filter, other, covered, overlapping) in [
            ("#", "a/b", true, true),
            ("#", "+/b", true, true),
            ("a/#", "a", true, true),
            ("a/#", "a/+/c", true, true),
            ("a/+", "a/#", false, true),
            ("a/+", "a/b", true, true),
            ("a/b", "a/+", false, true),
            ("+/b", "a/+", false, true),
            ("a/b", "a/b", true, true),
            ("a", "a/b", false, false),
            ("a/b", "a/c", false, false),
            ("a/+", "a/+/#", false, true),
            ("#", "$SYS/#", false, false),
            ("$SYS/#", "$SYS/a", true, true),
        ] {
            assert_eq!(covers(filter, other), covered, "{filter} {other}");
            assert_eq!(overlap(filter, other), overlapping, "{filter} {other}");
            assert_eq!(overlap(other, filter), overlapping, "{other} {filter}");
        }
    }
}
