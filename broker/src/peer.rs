//! Properties of a client known from its CONNECT.

use std::net::SocketAddr;

use bytestring::ByteString;

use crate::access::Principal;
use crate::codec::Version;

/// Identity of a connection's client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) client_id: &'a ByteString,
}

/// Properties announced in CONNECT that affect what the client is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) version: Version,
    pub(crate) packet_maximum: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) alias_maximum: u16,
    pub(crate) problem_information: bool,
    /// Rises with each CONNECT that comes: tells which connection of a client is the latest.
    pub(crate) number: u64,
    /// Whether the client is a broker's bridge (see [`Connect::bridge`](crate::codec::Connect::bridge)).
    pub(crate) bridge: bool,
}
