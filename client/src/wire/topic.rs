//! Topics of the contract, formatted and parsed in this one place.

use std::fmt;

pub use rantai_topics::{covers, is_filter, is_topic, matches, overlap};

use super::name::{ClientId, MethodName, ObjectName, Root};

/// The kind of a topic: the level that follows the root.
///
/// A root and a name may contain any of these words as well, so that only the level at this place decides.
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
    /// The kind of a topic, and the levels behind the kind; `None` for a topic outside `root` and for other kinds.
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

/// The filters a server subscribes to for one object.
///
/// `call` is always shared, with exactly this group name: two holders of one name then never both execute one
/// request.
pub fn call_filters(root: &Root, node: &ClientId, object: &ObjectName) -> [String; 3] {
    [
        format!("$share/{object}/{root}/call/{object}/#"),
        requests_at(root, node),
        format!("{root}/all/{object}/#"),
    ]
}

/// The filter for the requests to every object on one node; one subscription serves all of them.
pub fn requests_at(root: &Root, node: &ClientId) -> String {
    format!("{root}/at/{node}/#")
}

/// Where replies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTopic(String);

impl ReplyTopic {
    /// The longest one that is not of the form [`to`](Self::to), in bytes.
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
    /// [`LONGEST`](Self::LONGEST) bytes, unless it is the topic of an object and a client: the longest root and
    /// names need a few more.
    pub fn named(root: &Root, topic: &str) -> Option<Self> {
        let (TopicKind::Reply, rest) = TopicKind::of(root, topic)? else { return None };
        let fits = !rest.is_empty() && !topic.contains(['+', '#', '\0']);
        let named = Self(topic.to_owned());
        (fits && (topic.len() <= Self::LONGEST || named.client(root).is_some())).then_some(named)
    }

    /// The client of `{root}/reply/{object}/{client}`; `None` for a topic of another form.
    pub fn client(&self, root: &Root) -> Option<ClientId> {
        let (object, client) = addressee(root, &self.0)?;
        ObjectName::any(object).ok()?;
        ClientId::new(client).ok()
    }

    /// The object whose replies to `client` come on a topic; `None` where it is another topic.
    pub fn object_of<'a>(root: &Root, client: &ClientId, topic: &'a str) -> Option<&'a str> {
        let (object, addressee) = addressee(root, topic)?;
        (addressee == client.as_str()).then_some(object)
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

/// The levels for the object and for the client of a reply topic.
fn addressee<'a>(root: &Root, topic: &'a str) -> Option<(&'a str, &'a str)> {
    match TopicKind::of(root, topic)? {
        (TopicKind::Reply, rest) => rest.split_once('/'),
        _ => None,
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
        match TopicKind::of(root, topic)? {
            (TopicKind::Name, rest) => {
                let (object, node) = rest.split_once('/')?;
                Some(Self::Name(ObjectName::any(object).ok()?, ClientId::new(node).ok()?))
            }
            (TopicKind::Node, node) => Some(Self::Node(ClientId::new(node).ok()?)),
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

    /// Filters for the events of one object, all of them or one: for those to everybody, and for those to single clients.
    ///
    /// Two, because a broker with access rules grants a filter for both to whoever may read the latter alone, and then
    /// says nothing about the former.
    pub fn filters(root: &Root, object: &ObjectName, event: Option<&MethodName>) -> [String; 2] {
        let event = event.map_or("+", MethodName::as_str);
        [format!("{root}/event/{object}/{event}"), format!("{root}/event/{object}/{event}/+")]
    }

    /// The filter for one event of every object.
    pub fn every(root: &Root, event: &str) -> String {
        format!("{root}/event/+/{event}")
    }

    /// The filter for one event of every object, for one client.
    pub fn every_for(root: &Root, event: &str, client: &ClientId) -> String {
        format!("{root}/event/+/{event}/{client}")
    }

    /// The event of a topic that is for `client` alone; `None` where it is another topic.
    pub fn event_for<'a>(root: &Root, client: &ClientId, topic: &'a str) -> Option<&'a str> {
        let (TopicKind::Event, rest) = TopicKind::of(root, topic)? else { return None };
        let (event, addressee) = rest.split_once('/')?.1.split_once('/')?;
        (addressee == client.as_str()).then_some(event)
    }

    /// Takes a topic apart; `None` for any other topic.
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
