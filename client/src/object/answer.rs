//! Results of methods.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::wire::fault::{Code, Fault};
use crate::wire::name::{MethodName, ObjectName};

/// Result of a method.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A value.
    Value(Value),
    /// Bytes.
    Binary(Bytes),
    /// The last part of a stream; the parts before were sent already.
    FinalPart {
        /// JSON array of the items.
        payload: Vec<u8>,
        /// Number of items.
        items: u64,
    },
    /// Forwards the call to another object, which replies to the caller instead of this one.
    Forward(Forward),
}

/// Request to the next object of a forwarded call.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Next object.
    pub to: ObjectName,
    /// Method of the next object.
    pub method: MethodName,
    /// Positional parameters.
    pub params: Vec<Value>,
    /// Item to append to the trail.
    pub hop: Value,
}

/// Binary parameter or result of a method of an [`interface`](crate::interface). A clone shares the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binary(pub Bytes);

impl From<Vec<u8>> for Binary {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Answer {
    /// Serializes a value as JSON.
    ///
    /// # Errors
    ///
    /// -32603 if it cannot be serialized.
    pub fn value(value: &impl Serialize) -> Result<Self, Fault> {
        serde_json::to_value(value)
            .map(Self::Value)
            .map_err(|error| Fault::new(Code::BROKEN_OBJECT, format!("a result that is no JSON: {error}")))
    }
}
