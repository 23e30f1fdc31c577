//! Topics of the contract: formatting and parsing.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
pub use rantai_topics::{covers, is_filter, is_topic, matches, overlap};

use super::compact;
use super::name::{ClientId, MethodName, ObjectName, Root};

/// Kind of a topic: the level after the root.
///
/// Roots and names may contain these words too, so only the level at this position counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKind {
    /// `call`: requests to any one instance.
    Call,
    /// `at`: requests to the instances on one node.
    At,
    /// `all`: requests to every instance.
    All,
    /// `reply`: replies.
    Reply,
    /// `name`: registry entries.
    Name,
    /// `node`: node states.
    Node,
    /// `event`: events.
    Event,
}

impl TopicKind {
    /// Returns the kind of a topic and the levels after it; `None` for topics outside `root` and of other kinds.
    pub fn of<'a>(root: &Root, topic: &'a str) -> Option<(Self, &'a str)> {
        let below = topic.strip_prefix(root.as_str())?.strip_prefix('/')?;
        let (kind, rest) = below.split_once('/')?;
        let kind = match kind {
            "call" => Self::Call,
            "at" => Self::At,
            "all" => Self::All,
            "reply" => Self::Reply,
            "name" => Self::Name,
            "node" => Self::Node,
            "event" => Self::Event,
            _ => return None,
        };
        Some((kind, rest))
    }
}

/// Receiver of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any instance: `call`.
    Any,
    /// The instance on one node: `at`.
    Node(ClientId),
    /// Every instance: `all`.
    All,
}

/// A topic that requests are published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallTopic {
    /// Receiver.
    pub target: Target,
    /// Object name.
    pub object: ObjectName,
    /// Method name; `None` for a request in JSON-RPC form.
    pub method: Option<MethodName>,
}

/// Error of parsing a [`CallTopic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The topic is not below this root, or of another kind.
    #[error("not a topic for requests")]
    Other,
    /// Too many levels: -32600.
    #[error("more levels than object and method")]
    TooManyLevels,
    /// Invalid name of an object, method or node: -32600.
    #[error("a level that is no name")]
    NoName,
}

impl CallTopic {
    /// Formats the topic.
    pub fn format(&self, root: &Root) -> String {
        self.parts(root).concat()
    }

    /// Returns the texts that the topic is composed of.
    pub(super) fn parts<'a>(&'a self, root: &'a Root) -> [&'a str; 7] {
        let Self { target, object, method } = self;
        let (kind, node, below) = match target {
            Target::Any => ("/call/", "", ""),
            Target::Node(node) => ("/at/", node.as_str(), "/"),
            Target::All => ("/all/", "", ""),
        };
        let (method, behind) = method.as_ref().map_or(("", ""), |method| (method.as_str(), "/"));
        [root.as_str(), kind, node, below, object.as_str(), behind, method]
    }

    /// Parses a topic.
    ///
    /// # Errors
    ///
    /// The topic is not for requests, has too many levels, or invalid names.
    pub fn parse(root: &Root, topic: &str) -> Result<Self, TopicError> {
        let (kind, rest) = TopicKind::of(root, topic).ok_or(TopicError::Other)?;
        let (target, rest) = match kind {
            TopicKind::Call => (Target::Any, rest),
            TopicKind::All => (Target::All, rest),
            TopicKind::At => {
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

/// Returns the filters that a node subscribes to for one object: `call`, `at` and `all`.
///
/// `call` is always shared, with exactly this group name, so that two holders of one name never both execute one request.
pub fn call_filters(root: &Root, node: &ClientId, object: &ObjectName) -> [String; 3] {
    [
        format!("$share/{object}/{root}/call/{object}/#"),
        requests_at(root, node),
        format!("{root}/all/{object}/#"),
    ]
}

/// Returns the filter for the requests to all objects on one node.
pub fn requests_at(root: &Root, node: &ClientId) -> String {
    format!("{root}/at/{node}/#")
}

/// Topic of replies. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTopic(ByteString);

impl ReplyTopic {
    /// Maximum length of a topic that is not of the form [`to`](Self::to), in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Returns the topic for replies of an object to one client.
    pub fn to(root: &Root, object: &ObjectName, client: &ClientId) -> Self {
        Self(Self::text(root, object, client))
    }

    /// Formats the topic of [`to`](Self::to).
    pub fn text(root: &Root, object: &ObjectName, client: &ClientId) -> ByteString {
        compact::text([root.as_str(), "/reply/", object.as_str(), "/", client.as_str()])
    }

    /// Returns the topic for replies to requests without a Response Topic.
    pub fn public(root: &Root, object: &ObjectName) -> Self {
        Self(compact::text([root.as_str(), "/reply/", object.as_str()]))
    }

    /// Checks a Response Topic: it must begin with `{root}/reply/`, contain no wildcard, and be at most
    /// [`MAX_BYTES`](Self::MAX_BYTES) bytes long, unless it is the topic of an object and a client, which may be a little longer.
    pub fn named(root: &Root, topic: impl AsRef<str> + Into<ByteString>) -> Option<Self> {
        Self::is_named(root, topic.as_ref()).then(|| Self(topic.into()))
    }

    fn is_named(root: &Root, topic: &str) -> bool {
        let Some((TopicKind::Reply, rest)) = TopicKind::of(root, topic) else { return false };
        let fits = !rest.is_empty() && !topic.contains(['+', '#', '\0']);
        fits && (topic.len() <= Self::MAX_BYTES || client_level(root, topic).is_some())
    }

    /// Returns the topic and the Correlation Data of a request, copied out of the buffer that the request was read into: a call that
    /// waits would keep the whole buffer.
    pub fn detached(self, correlation: Option<&[u8]>) -> (Self, Option<Bytes>) {
        let (topic, data) = compact::text_and_bytes(&self.0, correlation.unwrap_or_default());
        (Self(topic), correlation.map(|_| data))
    }

    /// Returns the topic as text that is cheap to clone.
    pub fn shared(&self) -> ByteString {
        self.0.clone()
    }

    /// Returns the client of `{root}/reply/{object}/{client}`; `None` for topics of another form.
    pub fn client(&self, root: &Root) -> Option<ClientId> {
        client_level(root, &self.0).and_then(|client| ClientId::new(client).ok())
    }

    /// Returns the object whose replies to `client` arrive on this topic; `None` for other topics.
    pub fn object_of<'a>(root: &Root, client: &ClientId, topic: &'a str) -> Option<&'a str> {
        let (object, addressee) = addressee(root, topic)?;
        (addressee == client.as_str()).then_some(object)
    }

    /// Returns the filter for all replies to a client.
    pub fn filter(root: &Root, client: &ClientId) -> String {
        format!("{root}/reply/+/{client}")
    }

    /// Formats the topic.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the object and client levels of a reply topic.
fn addressee<'a>(root: &Root, topic: &'a str) -> Option<(&'a str, &'a str)> {
    match TopicKind::of(root, topic)? {
        (TopicKind::Reply, rest) => rest.split_once('/'),
        _ => None,
    }
}

/// Returns the client level of a reply topic if it and the object level are names.
fn client_level<'a>(root: &Root, topic: &'a str) -> Option<&'a str> {
    let (object, client) = addressee(root, topic)?;
    (ObjectName::is_any(object) && ClientId::is_valid(client)).then_some(client)
}

impl fmt::Display for ReplyTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Retained topics of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryTopic {
    /// Entry of an object on a node.
    Name(ObjectName, ClientId),
    /// State of a node.
    Node(ClientId),
}

impl RegistryTopic {
    /// Formats the topic.
    pub fn format(&self, root: &Root) -> String {
        match self {
            Self::Name(object, node) => format!("{root}/name/{object}/{node}"),
            Self::Node(node) => format!("{root}/node/{node}"),
        }
    }

    /// Parses a topic; `None` for topics of another kind.
    pub fn parse(root: &Root, topic: &str) -> Option<Self> {
        match TopicKind::of(root, topic)? {
            (TopicKind::Name, rest) => {
                let (object, node) = rest.split_once('/')?;
                Some(Self::Name(ObjectName::any(object).ok()?, ClientId::new(node).ok()?))
            }
            (TopicKind::Node, node) => Some(Self::Node(ClientId::new(node).ok()?)),
            _ => None,
        }
    }

    /// Returns the filter for all entries of an object.
    pub fn entries_of(root: &Root, object: &ObjectName) -> String {
        format!("{root}/name/{object}/+")
    }

    /// Returns the filter for all entries of a node.
    pub fn entries_on(root: &Root, node: &ClientId) -> String {
        format!("{root}/name/+/{node}")
    }

    /// Returns the filter for all entries.
    pub fn entries(root: &Root) -> String {
        format!("{root}/name/+/+")
    }

    /// Returns the filter for all node states.
    pub fn nodes(root: &Root) -> String {
        format!("{root}/node/+")
    }
}

/// Topic of an event: telemetry, states, and upcalls to one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTopic {
    /// Object that emits it.
    pub object: ObjectName,
    /// Event name; the same characters as a method name.
    pub event: MethodName,
    /// Client that it is for; `None` for all.
    pub client: Option<ClientId>,
}

impl EventTopic {
    /// Formats the topic.
    pub fn format(&self, root: &Root) -> String {
        let Self { object, event, client } = self;
        match client {
            None => format!("{root}/event/{object}/{event}"),
            Some(client) => format!("{root}/event/{object}/{event}/{client}"),
        }
    }

    /// Returns filters for one event or all events of an object: for events to all, and for events to single clients.
    ///
    /// They are two because a broker with access rules may grant one filter for both although the client may read only the
    /// latter.
    pub fn filters(root: &Root, object: &ObjectName, event: Option<&MethodName>) -> [String; 2] {
        let event = event.map_or("+", MethodName::as_str);
        [format!("{root}/event/{object}/{event}"), format!("{root}/event/{object}/{event}/+")]
    }

    /// Returns the filter for one event of all objects.
    pub fn every(root: &Root, event: &str) -> String {
        format!("{root}/event/+/{event}")
    }

    /// Returns the filter for one event of all objects to one client.
    pub fn every_for(root: &Root, event: &str, client: &ClientId) -> String {
        format!("{root}/event/+/{event}/{client}")
    }

    /// Returns the event if the topic is an event to `client`.
    pub fn event_for<'a>(root: &Root, client: &ClientId, topic: &'a str) -> Option<&'a str> {
        let (TopicKind::Event, rest) = TopicKind::of(root, topic)? else { return None };
        let (event, addressee) = rest.split_once('/')?.1.split_once('/')?;
        (addressee == client.as_str()).then_some(event)
    }

    /// Parses a topic; `None` for topics of another kind.
    pub fn parse(root: &Root, topic: &str) -> Option<Self> {
        let (TopicKind::Event, rest) = TopicKind::of(root, topic)? else { return None };
        let (object, rest) = rest.split_once('/')?;
        let (event, client) = match rest.split_once('/') {
            None => (rest, None),
            Some((event, client)) => (event, Some(ClientId::new(client).ok()?)),
        };
        Some(Self { object: ObjectName::any(object).ok()?, event: MethodName::new(event).ok()?, client })
    }
}
