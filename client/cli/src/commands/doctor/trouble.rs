//! Errors of an examination, and what they say about an item.

use std::fmt;

use rantai_client::session::{ConnectError, TlsProblem};
use rantai_client::{error_chain, printable};
use rmqtt_codec::error::{DecodeError, EncodeError};

use crate::exit::connect_advice;

/// Maximum length of a text of the broker that is shown, in characters: a Reason String may have 64 KiB.
const MAX_TEXT_CHARS: usize = 200;

/// Error of an exchange with the broker.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection could not be opened.
    Unreachable(Box<ConnectError>),
    /// The broker refused the connection, with the reason code of its CONNACK.
    Refused { code: u8, why: String },
    /// The broker did not send this packet within the time of the item, but answered a PINGREQ that was sent later.
    Missing(&'static str),
    /// The broker sent nothing within the time of the item.
    Silent(&'static str),
    /// The broker closed the connection, with the reason code of its DISCONNECT if it sent one.
    Closed { code: Option<u8>, why: String, instead_of: &'static str },
    /// The broker sent bytes that are no packet, or a packet that is too long.
    Malformed(String),
    /// The broker denied this action.
    Denied { action: String, why: String },
    /// The broker answered with another reason code that means a failure.
    Declined { action: String, code: u8, why: String },
    /// The broker did something else than it should.
    Wrong(String),
    /// The result is unclear.
    Unclear(String),
}

/// Meaning of an error for an item that objects and callers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The broker does not do what the item needs.
    Bad,
    /// The user may not try it.
    Untested,
    /// The result is unclear.
    Unknown,
}

impl Trouble {
    pub(super) fn unreachable(error: ConnectError) -> Self {
        Self::Unreachable(Box::new(error))
    }

    /// The connection ended without a DISCONNECT.
    pub(super) fn cut(instead_of: &'static str) -> Self {
        Self::Closed { code: None, why: String::new(), instead_of }
    }

    pub(super) fn wrong(text: impl Into<String>) -> Self {
        Self::Wrong(text.into())
    }

    pub(super) fn unclear(text: impl Into<String>) -> Self {
        Self::Unclear(text.into())
    }

    /// Returns what the error means for an item, when everything that was tried is within the user's rights.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Missing(_) | Self::Malformed(_) | Self::Declined { .. } | Self::Wrong(_) => Verdict::Bad,
            Self::Denied { .. } | Self::Closed { code: Some(0x87), .. } => Verdict::Untested,
            Self::Closed { code: Some(code), .. } if is_reaction(*code) => Verdict::Bad,
            Self::Unreachable(_)
            | Self::Refused { .. }
            | Self::Silent(_)
            | Self::Closed { .. }
            | Self::Unclear(_) => Verdict::Unknown,
        }
    }

    /// Checks whether the broker refused the client because of its identity.
    pub(super) fn keeps_out(&self) -> bool {
        match self {
            Self::Denied { .. }
            | Self::Refused { code: 0x86 | 0x87, .. }
            | Self::Closed { code: Some(0x87), .. } => true,
            Self::Unreachable(error) => matches!(
                **error,
                ConnectError::Tls {
                    source: TlsProblem::CertificateRequired | TlsProblem::CertificateRefused(_),
                    ..
                }
            ),
            _ => false,
        }
    }

    /// Returns what to do, if that does not depend on what was tried.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable(error) => {
                Some(connect_advice(error).trim_start_matches("; ")).filter(|advice| !advice.is_empty())
            }
            Self::Refused { code: 0x9c | 0x9d, .. } | Self::Closed { code: Some(0x9c | 0x9d), .. } => Some(
                "examine the broker that it names, if you trust this one; commands and nodes do not follow either",
            ),
            Self::Refused { code: 0x88 | 0x89 | 0x97 | 0x9f, .. } => {
                Some("try again in a moment, or raise the broker's limits of connections")
            }
            Self::Refused { code: 0x8a, .. } => Some("have the broker's administrator lift the ban"),
            _ => None,
        }
    }
}

/// Checks whether the reason code of a DISCONNECT refers to the last packet, and not to load, time or other connections.
fn is_reaction(code: u8) -> bool {
    matches!(code, 0x81..=0x83 | 0x8f | 0x90 | 0x93..=0x95 | 0x99..=0x9b | 0x9e | 0xa1 | 0xa2)
}

/// Prepares a text of the broker for output: escaped, and cut to a line or two.
pub(super) fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_TEXT_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    printable(&shown)
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => f.write_str(&error_chain(error)),
            Self::Refused { code, why } => {
                write!(f, "the broker refuses the connection ({})", Reason(*code, why))
            }
            Self::Missing(expected) => {
                write!(f, "{expected} did not come in time, though the broker answers a PINGREQ")
            }
            Self::Silent(expected) => write!(f, "{expected} did not come in time"),
            Self::Closed { code: Some(code), why, instead_of } => {
                write!(
                    f,
                    "the broker ended the connection ({}) instead of sending {instead_of}",
                    Reason(*code, why)
                )
            }
            Self::Closed { code: None, instead_of, .. } => {
                write!(f, "the broker ended the connection instead of sending {instead_of}")
            }
            Self::Malformed(error) => write!(f, "the broker sent a malformed packet: {error}"),
            Self::Denied { action, why } if why.is_empty() => {
                write!(f, "the broker does not allow to {action}")
            }
            Self::Denied { action, why } => write!(f, "the broker does not allow to {action} ({why})"),
            Self::Declined { action, code, why } => {
                write!(f, "the broker answers the attempt to {action} with {}", Reason(*code, why))
            }
            Self::Wrong(text) | Self::Unclear(text) => f.write_str(text),
        }
    }
}

/// Reason code with its Reason String.
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
            0x8a => "banned, ",
            0x8b => "shutting down, ",
            0x8d => "keep alive timeout, ",
            0x8e => "session taken over, ",
            0x93 => "Receive Maximum exceeded, ",
            0x95 => "packet too large, ",
            0x97 => "quota exceeded, ",
            0x9a => "no retained messages, ",
            0x9b => "QoS not supported, ",
            0x9c => "use another server, ",
            0x9d => "server moved, ",
            0x9e => "no shared subscriptions, ",
            0x9f => "too many connections at once, ",
            0xa2 => "no wildcard subscriptions, ",
            _ => "",
        };
        write!(f, "{meaning}{code:#04x}")?;
        if why.is_empty() { Ok(()) } else { write!(f, ": {why}") }
    }
}

impl From<DecodeError> for Trouble {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(excerpt(&error.to_string()))
    }
}

impl From<EncodeError> for Trouble {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::OverMaxPacketSize { .. } => {
                Self::unclear("what has to be sent is larger than the largest packet that the broker takes")
            }
            error => Self::unclear(format!("cannot write the packet: {error}")),
        }
    }
}
