//! Responses of objects.

use bytes::Bytes;
use bytestring::ByteString;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::CallError;
use crate::wire::Properties;
use crate::wire::fault::Fault;
use crate::wire::json::typed;
use crate::wire::reply::{Outcome, Reply};

/// Response of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Result or error of the method.
    pub outcome: Result<Content, Box<Fault>>,
    /// Node that replied.
    pub node: Option<ByteString>,
    /// Whether it is the stored response to an earlier request with the same identity.
    pub repeated: bool,
    /// Whether the result is secret: it must be neither logged nor stored.
    pub secret: bool,
}

/// Content of a result.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// JSON value.
    Value(Value),
    /// Bytes.
    Binary(Bytes),
}

impl Response {
    /// Deserializes the result.
    ///
    /// # Errors
    ///
    /// The object's own error, or the result is of another type.
    pub fn read<R: DeserializeOwned>(self) -> Result<R, CallError> {
        match self.outcome.map_err(CallError::Fault)? {
            Content::Value(value) => typed(value).map_err(|error| CallError::Result(error.to_string())),
            Content::Binary(_) => Err(CallError::Result("it is binary".to_owned())),
        }
    }

    /// Returns a binary result.
    ///
    /// # Errors
    ///
    /// The object's own error, or the result is not binary.
    pub fn bytes(self) -> Result<Bytes, CallError> {
        match self.outcome.map_err(CallError::Fault)? {
            Content::Binary(bytes) => Ok(bytes),
            Content::Value(_) => Err(CallError::Result("it is not binary".to_owned())),
        }
    }
}

pub(super) fn response(payload: &Bytes, properties: &Properties) -> Response {
    // Replies without Correlation Data are matched by the `id` of the JSON-RPC form.
    let read = match properties.correlation {
        Some(_) => Reply::read(payload, properties),
        None => Reply::read_json_rpc(payload),
    };
    let outcome = match read {
        Outcome::Value(value) => Ok(Content::Value(value)),
        Outcome::Binary(bytes) => Ok(Content::Binary(bytes)),
        Outcome::Fault(fault) => Err(Box::new(fault)),
    };
    Response {
        outcome,
        node: properties.user.get("node").cloned(),
        repeated: properties.user("dup") == Some("1"),
        secret: properties.user("secret") == Some("1"),
    }
}
