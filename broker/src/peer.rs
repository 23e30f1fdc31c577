//! What is known of a client from its CONNECT.

use std::net::SocketAddr;

use bytestring::ByteString;

use crate::access::Principal;
use crate::codec::Version;

/// Who the client of a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) client_id: &'a ByteString,
}

/// What the client said about itself in CONNECT, as far as it decides what it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) version: Version,
    pub(crate) packet_maximum: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) alias_maximum: u16,
    pub(crate) problem_information: bool,
    /// Whether it is another broker (see [`Connect::bridge`](crate::codec::Connect::bridge)).
    pub(crate) bridge: bool,
}
