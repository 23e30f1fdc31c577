//! What a client says about itself in CONNECT.

use std::net::SocketAddr;

use crate::codec::Version;

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
