//! Errors of calls, and their text.

use std::error::Error;
use std::fmt::Write as _;

use crate::session::{SubscribeError, Unsent, because};
use crate::wire::fault::{Code, Fault};
use crate::wire::name::NameError;

/// Suggested delay before retrying a call for which all queues were full, in milliseconds.
const RETRY_AFTER_MS: u64 = 500;

/// Error of a call. Match on [`code`](Self::code), not on the text.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Error with a [`Code`], returned by the object or its node, or by this client on their behalf.
    #[error("{}", .0.message)]
    Fault(Box<Fault>),
    /// The connection was lost during the call: whether the method was executed is not known.
    #[error("the connection to the broker was lost; whether the call was carried out is not known")]
    Lost,
    /// The session has ended, or the broker refused the request for a reason that has no code.
    #[error("the request was not sent: {0}")]
    Unsent(Unsent),
    /// The name of an object, method or node is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The parameters cannot be serialized as JSON.
    #[error("the parameters cannot be written as JSON: {0}")]
    Parameters(String),
    /// The result is of another type than the requested one.
    #[error("the result is not what was expected: {0}")]
    Result(String),
}

impl CallError {
    /// Returns the error code, if there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Fault(fault) => Some(fault.code),
            _ => None,
        }
    }

    /// Returns the fault, if there is one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) => Some(fault),
            _ => None,
        }
    }

    /// Returns whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Fault(fault) => fault.is_retryable(),
            Self::Lost | Self::Unsent(Unsent::Offline | Unsent::Lost) => true,
            _ => false,
        }
    }
}

/// Formats an error and its sources, outermost first, in one line.
///
/// In this workspace, `Display` formats one layer of an error, and `source` returns the next.
pub fn error_chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(line, ": {error}");
        cause = error.source();
    }
    line
}

impl From<Fault> for CallError {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl From<Unsent> for CallError {
    fn from(error: Unsent) -> Self {
        match error {
            Unsent::Lost => Self::Lost,
            Unsent::Denied { why } => {
                let text = format!("the broker does not allow this client to call it{}", because(&why));
                Fault::new(Code::DENIED, text).into()
            }
            Unsent::Busy => {
                let message = "the object takes no more requests now: the queues of all its nodes are full";
                Fault { message: message.to_owned(), ..Fault::busy(RETRY_AFTER_MS) }.into()
            }
            Unsent::TooLarge { size, limit } => {
                let text = format!("a request of {size} bytes; the broker takes {limit} at most");
                Fault::new(Code::TOO_LARGE, text).with("limit", limit).into()
            }
            other => Self::Unsent(other),
        }
    }
}

impl From<SubscribeError> for CallError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Lost => Self::Lost,
            SubscribeError::Ended => Self::Unsent(Unsent::Ended),
            SubscribeError::Refused { .. } => Fault::new(Code::DENIED, error.to_string()).into(),
        }
    }
}
