//! Errors of connecting, publishing and subscribing.

use std::borrow::Cow;
use std::time::Duration;

use rantai_tls::{ClientError, TlsProblem};

use super::address::AddressError;
use crate::error::error_chain;

/// An error of publishing: the message was not sent, not acknowledged, or refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsent {
    /// PUBACK 0x10: the topic has no subscriber, and the message is not retained.
    #[error("nobody subscribes to the topic")]
    NobodyThere,
    /// PUBACK 0x87: not authorized.
    #[error("the broker does not allow it{}", because(why))]
    Denied {
        /// What the broker says about it: which rule, and what to do. May be empty.
        why: String,
    },
    /// PUBACK 0x97: no subscriber that should get it has room in its queue; a later publish may succeed.
    #[error("its subscribers take no more messages now")]
    Busy,
    /// The packet is larger than the broker's Maximum Packet Size.
    #[error("a packet of {size} bytes; the broker takes {limit} at most")]
    TooLarge {
        /// The packet's size in bytes.
        size: usize,
        /// The broker's limit in bytes.
        limit: usize,
    },
    /// Any other refusal, by the broker or before sending.
    #[error("the broker refused it ({0})")]
    Refused(Cow<'static, str>),
    /// Not a topic name.
    #[error("{0:?} is no topic to publish to")]
    BadTopic(String),
    /// The connection was lost before the acknowledgement; whether the message arrived is unknown.
    #[error("the connection was lost before the broker acknowledged it")]
    Lost,
    /// Not connected, and the message does not wait for a connection: it was not sent.
    #[error("not connected to the broker")]
    Offline,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

/// What a broker says, behind what it has done.
pub(crate) fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

/// An error of connecting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be parsed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No connection could be made, to the host or the socket.
    #[error("cannot reach the broker at {address}")]
    Unreachable {
        /// The address of the broker, without user name and password.
        address: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// No CONNACK came in time.
    #[error("{address} did not answer as an MQTT 5 broker within {} s", .within.as_secs())]
    Silent {
        /// The address of the broker, without user name and password.
        address: String,
        /// The time limit.
        within: Duration,
    },
    /// The broker refused the connection, for instance because of user name, password or client id.
    #[error("the broker at {address} refused the connection: {reason}")]
    Refused {
        /// The address of the broker, without user name and password.
        address: String,
        /// The reason it gave.
        reason: String,
        /// What can be done about it.
        refusal: ConnectRefusal,
    },
    /// TLS was not agreed on: certificates mostly.
    #[error("no TLS connection to {address}")]
    Tls {
        /// The address of the broker, without user name and password.
        address: String,
        /// What is wrong.
        source: TlsProblem,
    },
    /// The files for TLS of this side cannot be used.
    #[error("cannot set up TLS")]
    TlsFiles(#[source] ClientError),
    /// WebSocket was not agreed on.
    #[error("no WebSocket at {address}: {reason}")]
    Web {
        /// The address of the broker, without user name and password.
        address: String,
        /// What the server says instead.
        reason: String,
    },
    /// Somebody answers there, and speaks another protocol than the address says.
    #[error("{address} {is}; try {instead}")]
    OtherProtocol {
        /// The address of the broker, without user name and password.
        address: String,
        /// What it does, from which the other protocol is seen.
        is: &'static str,
        /// The same host and port, by the protocol that it seems to speak.
        instead: String,
    },
    /// The host name could not be resolved.
    #[error("cannot find the host {host:?}")]
    Unresolved {
        /// The host name.
        host: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// None of several addresses could be used.
    #[error("none of {} brokers can be used: {}", errors.len(), joined(errors))]
    All {
        /// What happened at each of them, in order.
        errors: Vec<ConnectError>,
    },
    /// The peer closed the connection without an answer, as a server of another protocol does, and a broker that is being
    /// stopped.
    #[error("{address} does not speak MQTT 5: it closed the connection without a CONNACK{hint}")]
    Closed {
        /// The address of the broker, without user name and password.
        address: String,
        /// What to try where it is a port of another protocol; may be empty.
        hint: String,
    },
    /// The peer violated MQTT 5.
    #[error("{address} does not speak MQTT 5: {reason}")]
    Protocol {
        /// The address of the broker, without user name and password.
        address: String,
        /// The violation.
        reason: String,
    },
}

impl ConnectError {
    /// Whether the same attempt may succeed later without a change on this side.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Unresolved { .. } => true,
            Self::Tls { source, .. } => source.may_pass(),
            Self::All { errors } => errors.iter().any(Self::may_pass),
            _ => false,
        }
    }

    /// Whether no broker has answered.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Unresolved { .. } => true,
            Self::All { errors } => errors.iter().all(Self::is_absence),
            _ => false,
        }
    }
}

/// Errors with their causes, in one line.
fn joined(errors: &[ConnectError]) -> String {
    errors.iter().map(|error| error_chain(error)).collect::<Vec<_>>().join("; ")
}

/// Why a broker refused a connection, as far as it lies with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectRefusal {
    /// CONNACK 0x87 without a user name: only users who log in are let in.
    NoUser,
    /// CONNACK 0x86: the user name or the password is wrong.
    WrongPassword,
    /// CONNACK 0x87 with a user name: the user may not do this.
    NotAllowed,
    /// CONNACK 0x85: the client id belongs to somebody else, or is not valid.
    ClientId,
    /// CONNACK 0x88, 0x89, 0x97 or 0x9F: the broker takes no more now; a later attempt may succeed.
    Busy,
    /// Anything else.
    Other,
}

/// An error of subscribing or unsubscribing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The broker refused a filter.
    #[error("the broker refused the subscription to {filter}: {reason}")]
    Refused {
        /// The topic filter.
        filter: String,
        /// Why the broker refused it, with what it says about it: which rule, and what to do.
        reason: Cow<'static, str>,
    },
    /// The connection was lost first.
    #[error("the connection was lost before the broker answered")]
    Lost,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}
