//! Errors of connecting, publishing and subscribing.

use std::borrow::Cow;
use std::time::Duration;

use rantai_tls::{ClientError, TlsProblem};

use super::address::AddressError;
use crate::error::error_chain;

/// Error of publishing: the message was not sent, not acknowledged, or refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsent {
    /// PUBACK 0x10: the topic has no subscriber, and the message is not retained.
    #[error("nobody subscribes to the topic")]
    NobodyThere,
    /// PUBACK 0x87: not authorized.
    #[error("the broker does not allow it{}", because(why))]
    Denied {
        /// Reason String of the broker: the rule that denied the publish, and what to do. May be empty.
        why: String,
    },
    /// PUBACK 0x97: the queues of all intended subscribers are full; a later publish may succeed.
    #[error("its subscribers take no more messages now")]
    Busy,
    /// The packet is larger than the broker's Maximum Packet Size.
    #[error("a packet of {size} bytes; the broker takes {limit} at most")]
    TooLarge {
        /// Size of the packet, in bytes.
        size: usize,
        /// Limit of the broker, in bytes.
        limit: usize,
    },
    /// Any other refusal, by the broker or before sending.
    #[error("the broker refused it ({0})")]
    Refused(Cow<'static, str>),
    /// The topic is not a valid topic name.
    #[error("{0:?} is no topic to publish to")]
    BadTopic(String),
    /// The connection was lost before the acknowledgement; whether the message arrived is unknown.
    #[error("the connection was lost before the broker acknowledged it")]
    Lost,
    /// There is no connection, and the message does not wait for one: it was not sent.
    #[error("not connected to the broker")]
    Offline,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

/// Formats a broker's Reason String as the end of an error text.
pub(crate) fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

/// Error of connecting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be parsed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No connection to the host or the socket could be made.
    #[error("cannot reach the broker at {address}")]
    Unreachable {
        /// Address of the broker, without user name and password.
        address: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// No CONNACK came in time.
    #[error("{address} did not answer as an MQTT 5 broker within {} s", .within.as_secs())]
    Silent {
        /// Address of the broker, without user name and password.
        address: String,
        /// Time limit.
        within: Duration,
    },
    /// The broker refused the connection, for instance because of user name, password or client id.
    #[error("the broker at {address} refused the connection: {reason}")]
    Refused {
        /// Address of the broker, without user name and password.
        address: String,
        /// Reason given by the broker.
        reason: String,
        /// Category of the refusal, which determines what to do.
        refusal: ConnectRefusal,
    },
    /// The TLS handshake failed, mostly because of a certificate.
    #[error("no TLS connection to {address}")]
    Tls {
        /// Address of the broker, without user name and password.
        address: String,
        /// Cause of the failure.
        source: TlsProblem,
    },
    /// The local TLS files cannot be used.
    #[error("cannot set up TLS")]
    TlsFiles(#[source] ClientError),
    /// The WebSocket handshake failed.
    #[error("no WebSocket at {address}: {reason}")]
    Web {
        /// Address of the broker, without user name and password.
        address: String,
        /// Answer of the server.
        reason: String,
    },
    /// A server answers, but speaks another protocol than the address says.
    #[error("{address} {is}; try {instead}")]
    OtherProtocol {
        /// Address of the broker, without user name and password.
        address: String,
        /// Behavior that reveals the other protocol.
        is: &'static str,
        /// Same host and port, with the scheme of the protocol that the server seems to speak.
        instead: String,
    },
    /// The host name could not be resolved.
    #[error("cannot find the host {host:?}")]
    Unresolved {
        /// Host name.
        host: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// None of several addresses could be used.
    #[error("none of {} brokers can be used: {}", errors.len(), joined(errors))]
    All {
        /// Error of each address, in order.
        errors: Vec<ConnectError>,
    },
    /// The peer closed the connection without an answer, as servers of other protocols and brokers that are shutting
    /// down do.
    #[error("{address} does not speak MQTT 5: it closed the connection without a CONNACK{hint}")]
    Closed {
        /// Address of the broker, without user name and password.
        address: String,
        /// What to try if the port belongs to another protocol; may be empty.
        hint: String,
    },
    /// The peer violated MQTT 5.
    #[error("{address} does not speak MQTT 5: {reason}")]
    Protocol {
        /// Address of the broker, without user name and password.
        address: String,
        /// The violation.
        reason: String,
    },
}

impl ConnectError {
    /// Returns whether the same attempt may succeed later without a change on this side.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Unresolved { .. } => true,
            Self::Tls { source, .. } => source.may_pass(),
            Self::All { errors } => errors.iter().any(Self::may_pass),
            _ => false,
        }
    }

    /// Returns whether no broker has answered.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Unresolved { .. } => true,
            Self::All { errors } => errors.iter().all(Self::is_absence),
            _ => false,
        }
    }
}

/// Formats errors with their causes, in one line.
fn joined(errors: &[ConnectError]) -> String {
    errors.iter().map(|error| error_chain(error)).collect::<Vec<_>>().join("; ")
}

/// Category of a refused connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectRefusal {
    /// CONNACK 0x87 without a user name: clients must log in.
    NoUser,
    /// CONNACK 0x86: the user name or the password is wrong.
    WrongPassword,
    /// CONNACK 0x87 with a user name: the user is not allowed to connect.
    NotAllowed,
    /// CONNACK 0x85: the client id belongs to another user, or is invalid.
    ClientId,
    /// CONNACK 0x88, 0x89, 0x97 or 0x9F: the broker accepts no more connections now; a later attempt may succeed.
    Busy,
    /// Any other reason code.
    Other,
}

/// Error of subscribing or unsubscribing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The broker refused a filter.
    #[error("the broker refused the subscription to {filter}: {reason}")]
    Refused {
        /// Topic filter.
        filter: String,
        /// Reason of the refusal, from the broker's reason code and Reason String.
        reason: Cow<'static, str>,
    },
    /// The connection was lost before the acknowledgement.
    #[error("the connection was lost before the broker answered")]
    Lost,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}
