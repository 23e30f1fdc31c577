//! Errors as they travel: a code, a message for people, and data.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// An error's code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub i32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// Every code of the contract.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

codes! {
    /// Not JSON.
    NOT_JSON = -32700;
    /// JSON, and no request.
    NOT_A_REQUEST = -32600;
    /// No such method.
    NO_SUCH_METHOD = -32601;
    /// Wrong parameters.
    WRONG_PARAMETERS = -32602;
    /// The object broke its contract, or panicked.
    BROKEN_OBJECT = -32603;
    /// The method's own error.
    FAILED = -32000;
    /// Out of time before it started.
    EXPIRED = -32001;
    /// Out of time while it ran.
    TIMED_OUT = -32002;
    /// No such object.
    UNKNOWN_OBJECT = -32003;
    /// Registered, and its node is lost.
    LOST_OBJECT = -32004;
    /// Too many requests at once.
    BUSY = -32005;
    /// Denied.
    DENIED = -32006;
    /// Too large.
    TOO_LARGE = -32007;
    /// Cancelled.
    CANCELLED = -32008;
    /// The trail has reached its limit.
    TRAIL_LIMIT = -32009;
    /// The next hop is not served.
    DEAD_HOP = -32010;
    /// The name is taken.
    NAME_TAKEN = -32013;
    /// The identity was used for another request.
    IDENTITY_REUSED = -32014;
    /// The digest, or what was to be resumed, does not fit.
    MISMATCH = -32015;
}

impl Code {
    /// Whether the same request may succeed later. A code that is not known may not.
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

/// The detail of an error that says whether the request may have been carried out.
pub const MAYBE_EXECUTED: &str = "maybe_executed";

/// An error as it stands in a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Fault {
    /// What kind of error.
    pub code: Code,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// Details by code; always with `retryable`.
    #[serde(default)]
    pub data: Map<String, Value>,
}

impl Fault {
    /// An error of a code, with `retryable` as the contract has it.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let mut data = Map::new();
        data.insert("retryable".to_owned(), Value::Bool(code.is_retryable()));
        Self { code, message: message.into(), data }
    }

    /// The same with one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }

    /// The method's own error; `kind` is for programs, `detail` for people.
    pub fn failed(kind: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(Code::FAILED, detail.clone()).with("kind", kind).with("detail", detail)
    }

    /// No such method; `similar` are those that it might have been.
    pub fn no_such_method(method: &str, similar: &[String]) -> Self {
        Self::new(Code::NO_SUCH_METHOD, format!("no method {method:?}")).with("did_you_mean", json!(similar))
    }

    /// A parameter that does not fit; `path` says which, as in `params[1].name`.
    pub fn wrong_parameter(path: &str, expected: &str) -> Self {
        Self::new(Code::WRONG_PARAMETERS, format!("{path}: expected {expected}"))
            .with("path", path)
            .with("expected", expected)
    }

    /// Too many requests at once.
    pub fn busy(retry_after_ms: u64) -> Self {
        Self::new(Code::BUSY, "busy").with("retry_after_ms", retry_after_ms)
    }

    /// More than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(Code::TOO_LARGE, format!("more than {limit} bytes")).with("limit", limit)
    }

    /// The next hop of a chain is not served.
    pub fn dead_hop(hop: &str, trail: Value) -> Self {
        Self::new(Code::DEAD_HOP, format!("{hop} is not served")).with("hop", hop).with("trail", trail)
    }

    /// A name that somebody else holds.
    pub fn name_taken(object: &str, holder: &str) -> Self {
        Self::new(Code::NAME_TAKEN, format!("{object} is served by {holder}")).with("holder", holder)
    }

    /// The same of a request that may have been carried out: whoever sends it again may have it done twice.
    #[must_use]
    pub fn with_maybe_executed(self) -> Self {
        self.with(MAYBE_EXECUTED, true)
    }

    /// Whether the request may have been carried out, as nobody knows what came of it.
    pub fn maybe_executed(&self) -> bool {
        self.data.get(MAYBE_EXECUTED).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        // A code that is not known is not retryable, whatever is said beside it.
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
