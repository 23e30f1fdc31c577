//! Replies, in plain and in JSON-RPC form.

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::{Value, json};

use super::fault::{Code, Fault};
use super::request::Form;
use super::{BINARY, Properties, json};

const STATUS_PROPERTY: ByteString = ByteString::from_static("status");
const NODE_PROPERTY: ByteString = ByteString::from_static("node");

/// Outcome of a method.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A value.
    Value(Value),
    /// Bytes.
    Binary(Bytes),
    /// An error.
    Fault(Fault),
}

/// Reply as it is published. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Payload of the reply.
    pub payload: Bytes,
    /// Correlation Data of the request.
    pub correlation: Option<Bytes>,
    /// User property `status`.
    pub status: ByteString,
    /// User property `node`.
    pub node: ByteString,
    /// Whether the payload is binary: [`BINARY`].
    pub is_binary: bool,
    /// User properties after these.
    pub further: Vec<(ByteString, ByteString)>,
}

impl Reply {
    /// Serializes an outcome. A result of more than `limit` bytes becomes the error -32007.
    pub fn write(
        outcome: Outcome,
        form: &Form,
        correlation: Option<&Bytes>,
        node: &ByteString,
        limit: usize,
    ) -> Self {
        let (payload, status, is_binary) = encode(outcome, form);
        if payload.len() > limit {
            return Self::write(Outcome::Fault(Fault::too_large(limit)), form, correlation, node, usize::MAX);
        }
        let (correlation, node) = (correlation.cloned(), node.clone());
        Self { payload, correlation, status, node, is_binary, further: Vec::new() }
    }

    /// Returns the properties of the message.
    pub fn properties(&self) -> Properties {
        let user = [(STATUS_PROPERTY, self.status.clone()), (NODE_PROPERTY, self.node.clone())];
        Properties {
            content_type: self.is_binary.then(|| BINARY.into()),
            correlation: self.correlation.clone(),
            user: user.into_iter().chain(self.further.iter().cloned()).collect(),
            ..Properties::default()
        }
    }

    /// Marks the reply as a repetition, for a request that was received again.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.further.push(("dup".into(), "1".into()));
        self
    }

    /// Marks the result as secret.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.further.push(("secret".into(), "1".into()));
        self
    }

    /// Parses a reply in plain form: the user property `status` distinguishes an error from a result that looks like one.
    pub fn read(payload: &Bytes, properties: &Properties) -> Outcome {
        let broken = |text: &str| Outcome::Fault(Fault::new(Code::BROKEN_OBJECT, text));
        let value = match (&payload[..], properties.content_type.as_deref()) {
            (_, Some(BINARY)) | ([], _) => return Outcome::Binary(payload.clone()),
            _ => match json::read(payload) {
                Ok(value) => value,
                Err(error) => return broken(&format!("a reply that cannot be read: {error}")),
            },
        };
        let error = match properties.user("status") {
            Some("ok") => None,
            Some(_) => Some(value.get("error").cloned().unwrap_or(Value::Null)),
            // Other implementations may leave the `status` out.
            None => value.as_object().filter(|m| m.len() == 1).and_then(|m| m.get("error")).cloned(),
        };
        match error {
            None => Outcome::Value(value),
            Some(error) => match json::typed::<Fault>(error) {
                Ok(fault) => Outcome::Fault(fault),
                Err(_) => broken("an error that cannot be read"),
            },
        }
    }

    /// Parses a response in JSON-RPC form.
    pub fn read_json_rpc(payload: &[u8]) -> Outcome {
        let broken = |text: &str| Outcome::Fault(Fault::new(Code::BROKEN_OBJECT, text));
        let Ok(Value::Object(mut members)) = json::read(payload) else {
            return broken("a reply that is no JSON-RPC response");
        };
        match (members.remove("error").filter(|error| !error.is_null()), members.remove("result")) {
            (Some(error), _) => match json::typed::<Fault>(error) {
                Ok(fault) => Outcome::Fault(fault),
                Err(_) => broken("an error that cannot be read"),
            },
            (None, Some(result)) => Outcome::Value(result),
            (None, None) => broken("a JSON-RPC response with neither result nor error"),
        }
    }
}

fn encode(outcome: Outcome, form: &Form) -> (Bytes, ByteString, bool) {
    let bytes = |value: &Value| json::to_bytes(value).expect("a JSON value is JSON");
    // An `id` is returned unchanged.
    let exact = |value: &Value| Bytes::from(serde_json::to_vec(value).expect("a JSON value is JSON"));
    let ok = || ByteString::from_static("ok");
    match (outcome, form) {
        (Outcome::Value(value), Form::Plain) => (bytes(&value), ok(), false),
        (Outcome::Binary(binary), Form::Plain) => (binary, ok(), true),
        (Outcome::Fault(fault), Form::Plain) => {
            (bytes(&json!({ "error": fault })), fault.code.to_string().into(), false)
        }
        (Outcome::Value(value), Form::JsonRpc(id)) => {
            (exact(&json!({"jsonrpc": "2.0", "id": id, "result": json::portable(value)})), ok(), false)
        }
        (Outcome::Binary(_), Form::JsonRpc(_)) => {
            let fault = Fault::new(Code::NOT_A_REQUEST, "the result is binary: call it in plain form");
            encode(Outcome::Fault(fault), form)
        }
        (Outcome::Fault(fault), Form::JsonRpc(id)) => (
            exact(&json!({"jsonrpc": "2.0", "id": id, "error": fault})),
            fault.code.to_string().into(),
            false,
        ),
    }
}
