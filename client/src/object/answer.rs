//! What a method returns.

use serde::Serialize;
use serde_json::Value;

use crate::wire::fault::{Code, Fault};
use crate::wire::name::{MethodName, ObjectName};

/// What a method comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A value.
    Value(Value),
    /// Bytes.
    Binary(Vec<u8>),
    /// The last items of a stream, whose others were sent before: a JSON array.
    FinalPart {
        /// The array.
        payload: Vec<u8>,
        /// How many there are in it.
        items: u64,
    },
    /// Another object goes on; it replies to the caller, and this one does not.
    Forward(Forward),
}

/// A request handed on to another object.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// To whom.
    pub to: ObjectName,
    /// Which of its methods.
    pub method: MethodName,
    /// Parameters, by position.
    pub params: Vec<Value>,
    /// What is added to the trail.
    pub hop: Value,
}

/// Bytes as a parameter or result of a method of an [`interface`](crate::interface).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binary(pub Vec<u8>);

impl Answer {
    /// A value of any type.
    ///
    /// # Errors
    ///
    /// -32603 for what is no JSON.
    pub fn value(value: &impl Serialize) -> Result<Self, Fault> {
        serde_json::to_value(value)
            .map(Self::Value)
            .map_err(|error| Fault::new(Code::BROKEN_OBJECT, format!("a result that is no JSON: {error}")))
    }
}
