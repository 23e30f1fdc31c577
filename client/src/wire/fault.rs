//! Errors in replies: code, message and data.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Error code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub i32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// All codes of the contract.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

codes! {
    /// Invalid JSON.
    NOT_JSON = -32700;
    /// Invalid request.
    NOT_A_REQUEST = -32600;
    /// The object has no such method.
    NO_SUCH_METHOD = -32601;
    /// Invalid parameters.
    WRONG_PARAMETERS = -32602;
    /// Internal error of the object, such as a panic.
    BROKEN_OBJECT = -32603;
    /// Error of the method; `data.kind` says which.
    FAILED = -32000;
    /// The deadline passed before the method started.
    EXPIRED = -32001;
    /// The deadline passed while the method ran, or without a reply.
    TIMED_OUT = -32002;
    /// The object is not registered.
    UNKNOWN_OBJECT = -32003;
    /// The object is registered, but its node is lost.
    LOST_OBJECT = -32004;
    /// Too many concurrent requests; retry later.
    BUSY = -32005;
    /// The caller is not allowed to do this.
    DENIED = -32006;
    /// The request, result or an item is too large.
    TOO_LARGE = -32007;
    /// The call was cancelled.
    CANCELLED = -32008;
    /// The trail is at its limit of hops.
    TRAIL_LIMIT = -32009;
    /// The next object of a chain is not served.
    DEAD_HOP = -32010;
    /// The name is held by another node.
    NAME_TAKEN = -32013;
    /// The correlation was used for another request.
    IDENTITY_REUSED = -32014;
    /// The digest of a file, or a transfer to resume, does not match.
    MISMATCH = -32015;
}

impl Code {
    /// Returns whether the same request may succeed later; false for unknown codes.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::EXPIRED
                | Self::TIMED_OUT
                | Self::UNKNOWN_OBJECT
                | Self::LOST_OBJECT
                | Self::BUSY
                | Self::DEAD_HOP
        )
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Key in `data`: whether the request may have been executed.
pub const MAYBE_EXECUTED: &str = "maybe_executed";

/// Error in a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Fault {
    /// Error code.
    pub code: Code,
    /// Text to display.
    #[serde(default)]
    pub message: String,
    /// Details; always with `retryable`.
    #[serde(default)]
    pub data: Map<String, Value>,
}

impl Fault {
    /// Creates an error, with `retryable` as the contract has it for the code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let mut data = Map::new();
        data.insert("retryable".to_owned(), Value::Bool(code.is_retryable()));
        Self { code, message: message.into(), data }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }

    /// Creates an error of a method; `kind` is for programs, `detail` to display.
    pub fn failed(kind: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(Code::FAILED, detail.clone()).with("kind", kind).with("detail", detail)
    }

    /// Creates the error of an unknown method; `similar` are suggestions.
    pub fn no_such_method(method: &str, similar: &[String]) -> Self {
        Self::new(Code::NO_SUCH_METHOD, format!("no method {method:?}")).with("did_you_mean", json!(similar))
    }

    /// Creates the error of an invalid parameter; `path` is its place, as in `params[1].name`.
    pub fn wrong_parameter(path: &str, expected: &str) -> Self {
        Self::new(Code::WRONG_PARAMETERS, format!("{path}: expected {expected}"))
            .with("path", path)
            .with("expected", expected)
    }

    /// Creates the error of an overloaded object.
    pub fn busy(retry_after_ms: u64) -> Self {
        Self::new(Code::BUSY, "busy").with("retry_after_ms", retry_after_ms)
    }

    /// Creates the error of something larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(Code::TOO_LARGE, format!("more than {limit} bytes")).with("limit", limit)
    }

    /// Creates the error of a chain whose next object is not served.
    pub fn dead_hop(hop: &str, trail: Value) -> Self {
        Self::new(Code::DEAD_HOP, format!("{hop} is not served")).with("hop", hop).with("trail", trail)
    }

    /// Creates the error of a name that `holder` holds.
    pub fn name_taken(object: &str, holder: &str) -> Self {
        Self::new(Code::NAME_TAKEN, format!("{object} is served by {holder}")).with("holder", holder)
    }

    /// Marks the request as possibly executed: repeating it may execute it twice.
    #[must_use]
    pub fn with_maybe_executed(self) -> Self {
        self.with(MAYBE_EXECUTED, true)
    }

    /// Returns whether the request may have been executed, although there was no result.
    pub fn maybe_executed(&self) -> bool {
        self.data.get(MAYBE_EXECUTED).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Returns whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        // Unknown codes are not retryable, whatever their data contain.
        Code::ALL.contains(&self.code)
            && self.data.get("retryable").and_then(Value::as_bool).unwrap_or(self.code.is_retryable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_this_json() {
        let fault = Fault::failed("division_by_zero", "b is 0");
        let expected = json!({
            "code": -32000, "message": "b is 0",
            "data": {"retryable": false, "kind": "division_by_zero", "detail": "b is 0"},
        });
        assert_eq!(serde_json::to_value(&fault).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Fault>(expected).unwrap(), fault);
        assert_eq!(Fault::busy(20).data["retry_after_ms"], 20);
        assert_eq!(Fault::wrong_parameter("params[1]", "a number").data["path"], "params[1]");
    }

    #[test]
    fn unknown_codes_are_errors_that_are_not_retryable() {
        let fault: Fault =
            serde_json::from_value(json!({"code": -32099, "data": {"retryable": true}})).unwrap();
        assert!(!fault.is_retryable());
        let terse: Fault = serde_json::from_value(json!({"code": -32005})).unwrap();
        assert!(terse.is_retryable());
    }
}
