//! Requests that nobody takes: whoever embeds the broker may answer them, as the broker knows nothing of objects.

mod registry_scans;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::message::{Message, Properties};

pub(crate) use registry_scans::RegistryScans;

/// Retained messages that [`Unserved::retained`] looks at.
const FEW: usize = 64;

/// Answers requests on the topics of a bus that nobody takes; see [`Config::unserved`](crate::Config::unserved).
///
/// Runs where the request was read, between the messages of its sender: it must not wait for anything.
#[derive(Clone)]
pub struct UnservedHandler(Arc<Answers>);

type Answers = dyn Fn(&Unserved<'_>) -> Option<UnservedReply> + Send + Sync;

/// A request that nobody takes: nobody, connected or away, is subscribed to its topic in the shared group of the object or by a
/// filter that names the object (`call`) or the node (`at`). Whoever looks on with a wildcard in its place does not count.
/// Requests on `all` are none.
pub struct Unserved<'a> {
    pub(crate) message: &'a Message,
    pub(crate) root: &'a str,
    pub(crate) has_rules: bool,
    pub(crate) retained: &'a Lookup<'a>,
}

/// Finds retained messages at or below a topic.
pub(crate) type Lookup<'a> = dyn Fn(&str, ScanSize) -> Vec<(ByteString, Bytes)> + 'a;

/// How many retained messages are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanSize {
    /// So many, at any time.
    Few(usize),
    /// So many, where there may be another [scan](RegistryScans).
    Many(usize),
}

impl ScanSize {
    pub(crate) fn most(self) -> usize {
        match self {
            Self::Few(most) | Self::Many(most) => most,
        }
    }
}

/// The reply to a request that nobody takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnservedReply {
    /// A reply topic of the bus; to any other nothing is sent.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// User properties.
    pub user: Vec<(String, String)>,
}

impl UnservedHandler {
    /// By this function; `None` for requests that it does not answer.
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

/// Whether it is the same function.
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
    /// The root of its bus.
    pub fn root(&self) -> &str {
        self.root
    }

    /// Whether the broker has access rules: clients then reply to whom the Response Topic names, and to nobody else.
    pub fn has_rules(&self) -> bool {
        self.has_rules
    }

    /// Its topic.
    pub fn topic(&self) -> &str {
        &self.message.topic
    }

    /// Its payload.
    pub fn payload(&self) -> &[u8] {
        &self.message.payload
    }

    /// Its Content Type.
    pub fn content_type(&self) -> Option<&str> {
        self.message.properties.content_type.as_deref()
    }

    /// Its Response Topic: for clients that logged in always one of their own.
    pub fn response_topic(&self) -> Option<&str> {
        self.message.properties.response_topic.as_deref()
    }

    /// Its Correlation Data.
    pub fn correlation(&self) -> Option<&[u8]> {
        self.message.properties.correlation_data.as_deref()
    }

    /// Its user properties.
    pub fn user(&self) -> impl Iterator<Item = (&str, &str)> {
        self.message.properties.user.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Retained messages at a topic and below it, as topics and payloads: at most 64 are looked at. Those that the sender may
    /// not read are left out.
    pub fn retained(&self, topic: &str) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.look(topic, ScanSize::Few(FEW))
    }

    /// The same of the first `most`. None where the sender, or all together, have asked too often in this second: a look at many
    /// costs the others time.
    pub fn scan(&self, topic: &str, most: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.look(topic, ScanSize::Many(most))
    }

    fn look(&self, topic: &str, look: ScanSize) -> impl Iterator<Item = (String, Vec<u8>)> {
        (self.retained)(topic, look).into_iter().map(|(topic, payload)| (topic.to_string(), payload.to_vec()))
    }
}

impl UnservedReply {
    /// As a message, to the request.
    pub(crate) fn message(self, request: &Message) -> Message {
        let user = self.user.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
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
