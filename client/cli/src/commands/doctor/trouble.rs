//! What keeps an item from being good.

use std::fmt;

use rantai_client::error_chain;
use rantai_client::session::ConnectError;
use rmqtt_codec::error::{DecodeError, EncodeError};

use crate::exit::connect_advice;

/// Why an exchange with the broker did not go as it should.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no connection.
    Unreachable(Box<ConnectError>),
    /// The broker refused the connection, with the reason code of its CONNACK.
    Refused { code: u8, why: String },
    /// The broker did not send this in the time of the item.
    Silent(&'static str),
    /// The broker ended the connection, with the reason code of its DISCONNECT if it sent one.
    Closed { code: Option<u8>, instead_of: &'static str },
    /// The broker sent bytes that are no packet.
    Malformed(String),
    /// The broker does not allow this.
    Denied { action: String, why: String },
    /// The broker did something else than it should.
    Wrong(String),
}

impl Trouble {
    pub(super) fn unreachable(error: ConnectError) -> Self {
        Self::Unreachable(Box::new(error))
    }

    /// What to do, where that does not depend on what was tried.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable(error) => {
                Some(connect_advice(error).trim_start_matches("; ")).filter(|advice| !advice.is_empty())
            }
            _ => None,
        }
    }

    pub(super) fn wrong(text: impl Into<String>) -> Self {
        Self::Wrong(text.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => f.write_str(&error_chain(error)),
            Self::Refused { code, why } => {
                write!(f, "the broker refuses the connection ({})", Reason(*code, why))
            }
            Self::Silent(expected) => write!(f, "{expected} did not come in time"),
            Self::Closed { code: Some(code), instead_of } => {
                write!(f, "the broker ended the connection ({code:#04x}) instead of sending {instead_of}")
            }
            Self::Closed { code: None, instead_of } => {
                write!(f, "the broker ended the connection instead of sending {instead_of}")
            }
            Self::Malformed(error) => write!(f, "the broker sent a malformed packet: {error}"),
            Self::Denied { action, why } if why.is_empty() => {
                write!(f, "the broker does not allow to {action}")
            }
            Self::Denied { action, why } => write!(f, "the broker does not allow to {action} ({why})"),
            Self::Wrong(text) => f.write_str(text),
        }
    }
}

/// A reason code with the Reason String.
struct Reason<'a>(u8, &'a str);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(code, why) = self;
        let meaning = match code {
            0x84 | 1 => "unsupported version, ",
            0x85 | 2 => "client id not taken, ",
            0x86 | 4 => "wrong user name or password, ",
            0x87 | 5 => "not authorized, ",
            0x88 | 0x89 | 3 => "busy, ",
            _ => "",
        };
        write!(f, "{meaning}{code:#04x}")?;
        if why.is_empty() { Ok(()) } else { write!(f, ": {why}") }
    }
}

impl From<DecodeError> for Trouble {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<EncodeError> for Trouble {
    fn from(error: EncodeError) -> Self {
        Self::Wrong(format!("cannot write the packet: {error}"))
    }
}
