//! Requests that no subscriber serves. The embedding program may answer them, because the broker knows nothing of
//! objects.

mod registry_scans;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::message::{Message, Properties};

pub(crate) use registry_scans::RegistryScans;

/// Maximum number of retained messages that [`Unserved::retained`] visits.
const MAX_RETAINED_VISITS: usize = 64;

/// Handler that answers requests on bus topics that no subscriber serves; see
/// [`Config::unserved`](crate::Config::unserved).
///
/// Called by the task that read the request, between the messages of its sender: it must not block.
#[derive(Clone)]
pub struct UnservedHandler(Arc<Answers>);

type Answers = dyn Fn(&Unserved<'_>) -> Option<UnservedReply> + Send + Sync;

/// Request that no subscriber serves: no session, connected or absent, is subscribed to its topic in the object's
/// shared group, or by a filter that names the object (`call`) or the node (`at`). Subscribers that only monitor
/// requests, with a wildcard at that level, do not count. Requests on `all` are never unserved.
pub struct Unserved<'a> {
    pub(crate) message: &'a Message,
    pub(crate) root: &'a str,
    pub(crate) has_rules: bool,
    pub(crate) retained: &'a Lookup<'a>,
}

/// Looks up retained messages at or below a topic.
pub(crate) type Lookup<'a> = dyn Fn(&str, ScanSize) -> Vec<(ByteString, Bytes)> + 'a;

/// Size of a lookup of retained messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanSize {
    /// At most this number of messages, without a rate limit.
    Few(usize),
    /// At most this number of messages, if the rate limit allows another [scan](RegistryScans).
    Many(usize),
}

impl ScanSize {
    pub(crate) fn most(self) -> usize {
        match self {
            Self::Few(most) | Self::Many(most) => most,
        }
    }
}

/// Reply to a request that no subscriber serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnservedReply {
    /// Reply topic on the bus; a reply to any other topic is dropped.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// User properties.
    pub user: Vec<(String, String)>,
}

impl UnservedHandler {
    /// Creates a handler from a function that returns `None` for requests that it does not answer.
    pub fn new(answer: impl Fn(&Unserved<'_>) -> Option<UnservedReply> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    pub(crate) fn answer(&self, request: &Unserved<'_>) -> Option<UnservedReply> {
        (self.0)(request)
    }
}

impl fmt::Debug for UnservedHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnservedHandler")
    }
}

/// Two handlers are equal if they share the same function.
impl PartialEq for UnservedHandler {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for UnservedHandler {}

impl fmt::Debug for Unserved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unserved").field("topic", &self.message.topic).finish_non_exhaustive()
    }
}

impl Unserved<'_> {
    /// Returns the root of the bus.
    pub fn root(&self) -> &str {
        self.root
    }

    /// Returns whether the broker has access rules. If so, replies are only sent to the Response Topic.
    pub fn has_rules(&self) -> bool {
        self.has_rules
    }

    /// Returns the topic of the request.
    pub fn topic(&self) -> &str {
        &self.message.topic
    }

    /// Returns the payload of the request.
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Returns the Content Type of the request.
    pub fn content_type(&self) -> Option<&str> {
        self.message.properties.content_type.as_deref()
    }

    /// Returns the Response Topic of the request; if the client has logged in, always one of its own.
    pub fn response_topic(&self) -> Option<&str> {
        self.message.properties.response_topic.as_deref()
    }

    /// Returns the Correlation Data of the request.
    pub fn correlation(&self) -> Option<&[u8]> {
        self.message.properties.correlation_data.as_deref()
    }

    /// Returns the user properties of the request.
    pub fn user(&self) -> impl Iterator<Item = (&str, &str)> {
        self.message.properties.user.iter()
    }

    /// Returns topics and payloads of retained messages at a topic and below it, visiting at most 64. Messages that
    /// the sender may not read are omitted.
    pub fn retained(&self, topic: &str) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.look(topic, ScanSize::Few(MAX_RETAINED_VISITS))
    }

    /// Same as [`retained`](Self::retained), visiting at most `most` messages. Returns none if the sender, or all
    /// clients together, have used up the rate limit of this second, because a large scan delays other clients.
    pub fn scan(&self, topic: &str, most: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.look(topic, ScanSize::Many(most))
    }

    fn look(&self, topic: &str, look: ScanSize) -> impl Iterator<Item = (String, Vec<u8>)> {
        (self.retained)(topic, look).into_iter().map(|(topic, payload)| (topic.to_string(), payload.to_vec()))
    }
}

impl UnservedReply {
    /// Creates the message that replies to the request.
    pub(crate) fn message(self, request: &Message) -> Message {
        let user = self.user.into_iter().collect();
        let correlation_data = request.properties.correlation_data.clone();
        let properties = Properties { correlation_data, user, ..Properties::default() };
        Message {
            topic: self.topic.into(),
            payload: self.payload.into(),
            qos: request.qos,
            properties,
            expires: request.expires,
            ..Message::default()
        }
    }
}
