//! Properties of a client known from its CONNECT.

use std::net::SocketAddr;

use bytestring::ByteString;

use crate::access::Principal;
use crate::codec::{Protocol, Version};
use crate::transport::{Socket, Transport};

/// Way in which a client reaches the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// From the broker's own process.
    Process,
    /// By a Unix socket.
    Unix,
    /// By TCP or TLS, from a loopback address.
    Loopback,
    /// By TCP or TLS, from another address.
    Network,
    /// By WebSocket: possibly a page in a browser, or a proxy that hides the address of its client.
    Web,
}

impl Reach {
    pub(crate) fn of(transport: &Transport, address: SocketAddr) -> Self {
        match transport {
            Transport::Web(_) => Self::Web,
            Transport::Plain(Socket::Unix(_)) => Self::Unix,
            Transport::Plain(Socket::Memory(_)) => Self::Process,
            _ if address.ip().to_canonical().is_loopback() => Self::Loopback,
            _ => Self::Network,
        }
    }

    /// Returns whether the client is a program on the broker's machine.
    pub(crate) fn is_near(self) -> bool {
        matches!(self, Self::Unix | Self::Loopback)
    }
}

/// Identity of a connection's client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) client_id: &'a ByteString,
}

/// Properties announced in CONNECT that determine what the client is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) reach: Reach,
    /// Time of CONNECT, in milliseconds since 1970.
    pub(crate) connected_at: u64,
    pub(crate) protocol: Protocol,
    pub(crate) version: Version,
    pub(crate) packet_maximum: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) alias_maximum: u16,
    pub(crate) problem_information: bool,
    /// Number of the CONNECT, which shows which connection of a client is the latest.
    pub(crate) number: u64,
    /// Whether the client is a broker's bridge (see [`Connect::bridge`](crate::codec::Connect::bridge)).
    pub(crate) bridge: bool,
}
