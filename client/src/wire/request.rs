//! Requests, parsed from the plain and the JSON-RPC form.

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::{Map, Value};

use super::compact;
use super::fault::{Code, Fault};
use super::features::BrokerFeatures;
use super::json::{self, JsonError};
use super::name::{MethodName, Root};
use super::stream::{self, STREAM_PROPERTY};
use super::topic::{CallTopic, ReplyTopic};
use super::user::User;
use super::{BINARY, Properties};

/// Default deadline, in milliseconds.
pub const DEFAULT_TTL_MS: u64 = 30_000;
/// Maximum deadline, in milliseconds.
pub const MAX_TTL_MS: u64 = 3_600_000;
/// Maximum length of Correlation Data, in bytes.
pub const MAX_CORRELATION_BYTES: usize = 64;
/// Minimum length of Correlation Data that identifies a request, in bytes.
pub const MIN_IDENTITY_BYTES: usize = 16;
/// User property of the time left, in milliseconds.
const TTL_PROPERTY: ByteString = ByteString::from_static("ttl_ms");
/// Maximum size of a trail, in bytes of JSON.
pub const MAX_TRAIL_BYTES: usize = 4 << 10;

/// Parameters before they are converted to a method's types.
#[derive(Clone, Debug, PartialEq)]
pub enum Params {
    /// No parameters.
    None,
    /// Positional parameters.
    Positional(Vec<Value>),
    /// Named parameters.
    Named(Map<String, Value>),
    /// A single value, with its text for a method whose only parameter is a string.
    One {
        /// Parsed value.
        value: Value,
        /// Payload, if it was text or JSON.
        text: String,
    },
    /// A single binary parameter.
    Binary(Bytes),
}

/// Form of a request and its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bare JSON, with the status in a user property.
    Plain,
    /// A JSON-RPC 2.0 response with this `id`.
    JsonRpc(Value),
}

/// Destination of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// Response Topic.
    Topic(ReplyTopic),
    /// No reply: a JSON-RPC notification, or `oneway`.
    Nobody,
}

/// Request of either form.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Method name.
    pub method: MethodName,
    /// Parameters.
    pub params: Params,
    /// Form of the reply.
    pub form: Form,
    /// Destination of the reply.
    pub reply_to: ReplyTo,
    /// Correlation Data, echoed in the reply.
    pub correlation: Option<Bytes>,
    /// Time left on arrival, in milliseconds.
    pub ttl_ms: u64,
    /// Whether the request named a deadline.
    pub has_deadline: bool,
    /// Hops so far.
    pub trail: Vec<Value>,
    /// W3C Trace Context.
    pub traceparent: Option<String>,
    /// Initial credit in bytes, if the caller asked for a [`stream`](super::stream).
    pub stream: Option<u64>,
    /// Calling user, as set by a broker that announces `caller` in CONNACK.
    pub caller: Option<User>,
    /// User that forwards the call on its behalf, also set by the broker.
    pub via: Option<User>,
}

/// What identifies a request to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Response Topic.
    pub reply_to: &'a ReplyTopic,
    /// Correlation Data, or the `id` of a JSON-RPC request; at least [`MIN_IDENTITY_BYTES`] bytes.
    pub id: &'a [u8],
    /// Number of trail items.
    pub hops: usize,
}

/// Error of parsing a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The Response Topic is invalid. Counted, and not answered.
    Silent(&'static str),
    /// Answered with a fault.
    Told {
        /// Fault of the reply.
        fault: Fault,
        /// Form of the reply.
        form: Form,
        /// Destination of the reply.
        reply_to: ReplyTo,
        /// Correlation Data, echoed in the reply.
        correlation: Option<Bytes>,
    },
}

impl Request {
    /// Parses a message that arrived on `topic`, from a broker with these features.
    ///
    /// # Errors
    ///
    /// The message is not a valid request; the error has the reply to send, if any.
    pub fn read(
        root: &Root,
        topic: &CallTopic,
        payload: &Bytes,
        properties: &Properties,
        features: BrokerFeatures,
    ) -> Result<Self, Box<Refusal>> {
        match &topic.method {
            Some(method) => Self::plain(root, topic, method.clone(), payload, properties, features),
            None => Self::json_rpc(root, topic, payload, properties, features),
        }
    }

    /// Returns the error of a request on an invalid topic; it is answered if the request has a Response Topic.
    pub fn misdirected(root: &Root, properties: &Properties, text: &str) -> Refusal {
        let named = properties.response_topic.clone().and_then(|topic| ReplyTopic::named(root, topic));
        let short = properties.correlation.as_ref().is_none_or(|c| c.len() <= MAX_CORRELATION_BYTES);
        match named.filter(|_| short && properties.user("oneway") != Some("1")) {
            None => Refusal::Silent("a topic that is none for requests"),
            Some(topic) => Refusal::Told {
                fault: not_a_request(text),
                form: Form::Plain,
                reply_to: ReplyTo::Topic(topic),
                correlation: properties.correlation.clone(),
            },
        }
    }

    fn plain(
        root: &Root,
        topic: &CallTopic,
        method: MethodName,
        payload: &Bytes,
        properties: &Properties,
        features: BrokerFeatures,
    ) -> Result<Self, Box<Refusal>> {
        let envelope = Envelope::read(root, topic, properties, None, features)?;
        let params = if properties.content_type.as_deref() == Some(BINARY) {
            Ok(Params::Binary(payload.clone()))
        } else {
            plain_params(payload)
        };
        let params = params.map_err(|fault| envelope.refusal(Form::Plain, fault))?;
        envelope.request(method, params, Form::Plain, properties, None, None)
    }

    fn json_rpc(
        root: &Root,
        topic: &CallTopic,
        payload: &[u8],
        properties: &Properties,
        features: BrokerFeatures,
    ) -> Result<Self, Box<Refusal>> {
        let read = json::read(payload);
        let members = match &read {
            Ok(Value::Object(members)) => Some(members),
            _ => None,
        };
        let reply_to = members.and_then(|m| m.get("reply_to")).and_then(Value::as_str);
        let mut envelope = Envelope::read(root, topic, properties, reply_to, features)?;
        let id = members.and_then(|m| m.get("id")).cloned();
        let form = Form::JsonRpc(id.clone().unwrap_or(Value::Null));
        let fault = match &read {
            Err(error) => Some(error.into()),
            Ok(Value::Array(_)) => Some(not_a_request("a batch: MQTT pipelines by itself, send one by one")),
            Ok(Value::Object(_)) => None,
            Ok(_) => Some(not_a_request("a JSON-RPC request is an object")),
        };
        let (None, Some(members)) = (fault.clone(), members) else {
            let fault = fault.unwrap_or_else(|| not_a_request("a JSON-RPC request is an object"));
            return Err(envelope.refusal(form, fault));
        };
        // Many devices omit the member `jsonrpc`.
        if members.get("jsonrpc").is_some_and(|version| version != "2.0") {
            return Err(envelope.refusal(form, not_a_request("`jsonrpc` is \"2.0\"")));
        }
        if !matches!(id, None | Some(Value::String(_) | Value::Number(_) | Value::Null)) {
            return Err(
                envelope.refusal(Form::JsonRpc(Value::Null), not_a_request("`id` is a text or a number"))
            );
        }
        let method = members.get("method").and_then(Value::as_str).map(MethodName::new);
        let Some(Ok(method)) = method else {
            return Err(envelope.refusal(form, not_a_request("`method` is the name of one")));
        };
        let params = match members.get("params") {
            None | Some(Value::Null) => Params::None,
            Some(Value::Array(items)) => Params::Positional(items.clone()),
            Some(Value::Object(named)) => Params::Named(named.clone()),
            Some(_) => return Err(envelope.refusal(form, not_a_request("`params` is an array or an object"))),
        };
        if id.is_none() {
            envelope.reply_to = ReplyTo::Nobody;
        }
        envelope.request(method, params, form, properties, members.get("ttl_ms"), members.get("trail"))
    }

    /// Returns the key that identifies this request to its object: Response Topic, Correlation Data or `id` of at least 16 bytes,
    /// and number of trail items. `None` if the correlation is too short.
    pub fn identity(&self) -> Option<Identity<'_>> {
        let ReplyTo::Topic(reply_to) = &self.reply_to else { return None };
        let id = match (&self.correlation, &self.form) {
            (Some(correlation), _) => &correlation[..],
            (None, Form::JsonRpc(Value::String(id))) => id.as_bytes(),
            _ => return None,
        };
        (id.len() >= MIN_IDENTITY_BYTES).then_some(Identity { reply_to, id, hops: self.trail.len() })
    }
}

fn not_a_request(text: &str) -> Fault {
    Fault::new(Code::NOT_A_REQUEST, text)
}

/// Converts the payload of a request in plain form to the `params` of one in JSON-RPC form, as a server would read it.
pub fn plain_values(payload: &[u8]) -> Value {
    match plain_params(payload) {
        Ok(Params::Positional(items)) => Value::Array(items),
        Ok(Params::Named(members)) => Value::Object(members),
        Ok(Params::One { value, .. }) => Value::Array(vec![value]),
        // Parameters that a server would refuse are left to the server.
        Ok(_) => Value::Array(Vec::new()),
        Err(_) => Value::from(String::from_utf8_lossy(payload)),
    }
}

/// Parses the parameters of a request in plain form.
fn plain_params(payload: &[u8]) -> Result<Params, Fault> {
    if payload.is_empty() {
        return Ok(Params::None);
    }
    let Ok(text) = std::str::from_utf8(payload) else {
        let text = format!("not UTF-8; binary parameters have the content type {BINARY}");
        return Err(Fault::new(Code::NOT_JSON, text));
    };
    match json::read(payload) {
        Ok(Value::Array(items)) => Ok(Params::Positional(items)),
        Ok(Value::Object(members)) => Ok(Params::Named(members)),
        Ok(value) => Ok(Params::One { value, text: text.to_owned() }),
        Err(JsonError::Syntax(_)) if json::is_plain_text(text) => {
            Ok(Params::One { value: text.into(), text: text.to_owned() })
        }
        Err(error) => Err((&error).into()),
    }
}

/// Properties of a request, known before its payload is parsed.
struct Envelope {
    reply_to: ReplyTo,
    correlation: Option<Bytes>,
    caller: Option<User>,
    via: Option<User>,
}

impl Envelope {
    fn read(
        root: &Root,
        topic: &CallTopic,
        properties: &Properties,
        reply_to: Option<&str>,
        features: BrokerFeatures,
    ) -> Result<Self, Box<Refusal>> {
        if properties.correlation.as_ref().is_some_and(|c| c.len() > MAX_CORRELATION_BYTES) {
            return Err(Box::new(Refusal::Silent("correlation data of more than 64 bytes")));
        }
        // A broker with grants ensures a Response Topic in requests of logged-in clients; `reply_to` could name another client's.
        let reply_to = reply_to.filter(|_| !features.grants());
        let topic = match (&properties.response_topic, reply_to) {
            (Some(named), _) => ReplyTopic::named(root, named.clone()),
            (None, Some(named)) => ReplyTopic::named(root, named),
            (None, None) => Some(ReplyTopic::public(root, &topic.object)),
        };
        let topic = topic.ok_or_else(|| Box::new(Refusal::Silent("a reply topic outside {root}/reply/")))?;
        let (topic, correlation) = topic.detached(properties.correlation.as_deref());
        let oneway = properties.user("oneway") == Some("1");
        let reply_to = if oneway { ReplyTo::Nobody } else { ReplyTo::Topic(topic) };
        // Unless the broker sets these properties, any client may have forged them.
        let user = |name| properties.user(name).filter(|_| features.caller()).and_then(|u| User::new(u).ok());
        let (caller, via) = (user("caller"), user("via"));
        Ok(Self { reply_to, correlation, caller, via })
    }

    fn refusal(&self, form: Form, fault: Fault) -> Box<Refusal> {
        let (reply_to, correlation) = (self.reply_to.clone(), self.correlation.clone());
        Box::new(Refusal::Told { fault, form, reply_to, correlation })
    }

    fn request(
        self,
        method: MethodName,
        params: Params,
        form: Form,
        properties: &Properties,
        ttl_member: Option<&Value>,
        trail_member: Option<&Value>,
    ) -> Result<Request, Box<Refusal>> {
        let ttl = match (properties.user("ttl_ms"), ttl_member) {
            (Some(text), _) => Some(text.parse::<u64>().ok()),
            // Some languages write every number with a fraction.
            (None, Some(value)) => Some(json::typed(value.clone()).ok()),
            (None, None) => None,
        };
        let ttl = match ttl {
            Some(None) => {
                let fault = Fault::wrong_parameter("ttl_ms", "whole milliseconds");
                return Err(self.refusal(form, fault));
            }
            Some(Some(ttl)) => Some(ttl),
            None => None,
        };
        let expiry = properties.expiry.map(|seconds| u64::from(seconds) * 1000);
        let left = match (ttl, expiry) {
            (Some(ttl), Some(expiry)) => Some(ttl.min(expiry)),
            (one, other) => one.or(other),
        };
        let (trail, size) = match (properties.user("trail"), trail_member) {
            (Some(text), _) if text.len() > MAX_TRAIL_BYTES => (None, text.len()),
            (Some(text), _) => (json::read(text.as_bytes()).ok(), text.len()),
            (None, Some(value)) => (Some(value.clone()), value.to_string().len()),
            (None, None) => (Some(Value::Array(Vec::new())), 0),
        };
        if size > MAX_TRAIL_BYTES {
            // The trail is not returned with the error, as the limit is to keep it off the bus.
            let text = format!("a trail of {size} bytes; {MAX_TRAIL_BYTES} are the limit");
            return Err(
                self.refusal(form, Fault::new(Code::TRAIL_LIMIT, text).with("trail", Vec::<Value>::new()))
            );
        }
        let Some(Value::Array(trail)) = trail else {
            let fault = Fault::wrong_parameter("trail", "an array of hops");
            return Err(self.refusal(form, fault));
        };
        let is_plain = form == Form::Plain;
        Ok(Request {
            method,
            params,
            form,
            reply_to: self.reply_to,
            correlation: self.correlation,
            ttl_ms: left.unwrap_or(DEFAULT_TTL_MS).min(MAX_TTL_MS),
            has_deadline: left.is_some(),
            trail,
            traceparent: properties.user("traceparent").map(ToOwned::to_owned),
            // A JSON-RPC request has a single response.
            stream: properties.user(STREAM_PROPERTY).filter(|_| is_plain).and_then(stream::initial_credit),
            caller: self.caller,
            via: self.via,
        })
    }
}

/// Returns the topic and the properties of a request with a deadline in `ttl_ms` milliseconds. The parts of both that differ from
/// request to request take one allocation.
pub fn head(
    root: &Root,
    topic: &CallTopic,
    response_topic: ByteString,
    correlation: &[u8],
    ttl_ms: u64,
) -> (ByteString, Properties) {
    let ttl_ms = ttl_ms.min(MAX_TTL_MS);
    let mut digits = itoa::Buffer::new();
    let ttl = digits.format(ttl_ms).as_bytes();
    let [root, kind, node, below, object, behind, method] = topic.parts(root).map(str::as_bytes);
    let mut topic = compact::bytes([root, kind, node, below, object, behind, method, ttl, correlation]);
    let correlation = topic.split_off(topic.len() - correlation.len());
    let ttl = topic.split_off(topic.len() - ttl.len());
    let text = |bytes| ByteString::try_from(bytes).expect("names and digits are ASCII");
    let properties = Properties {
        response_topic: Some(response_topic),
        correlation: Some(correlation),
        // In whole seconds, rounded up: `ttl_ms` is exact.
        expiry: Some(ttl_ms.div_ceil(1000) as u32),
        user: [(TTL_PROPERTY, text(ttl))].into(),
        content_type: None,
    };
    (text(topic), properties)
}
