//! A connection to a broker that may be killed at any moment.

use rantai_testing::{Connack, Connect, Packet, Place, Property, SocketError, Version};

use crate::process::PATIENCE;

/// CONNECT for a session that outlives its connection, or (`clean`) for one that does not.
pub(crate) fn connect(version: Version, id: &str, clean: bool) -> Connect {
    let connect = Connect::new(version).id(id);
    match version {
        _ if clean => connect,
        Version::V3 => connect.resume(),
        Version::V5 => connect.resume().property(Property::SessionExpiry(3_600)),
    }
}

/// A socket that speaks MQTT. Every read ends within [`PATIENCE`].
pub(crate) struct Socket(rantai_testing::Socket);

impl Socket {
    /// `None` where nobody listens any more.
    pub(crate) fn open(place: &Place, version: Version) -> Option<Self> {
        rantai_testing::Socket::at(place, version).ok().map(Self)
    }

    /// False where the connection is gone.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.send(bytes).is_ok()
    }

    /// The next packet; `None` where the connection is gone. Panics where the broker is there and silent, or sends
    /// what it may not.
    pub(crate) fn next(&mut self) -> Option<Packet> {
        match self.0.receive(PATIENCE) {
            Ok(Some(packet)) => Some(packet),
            Ok(None) => panic!("the broker is there and says nothing"),
            Err(SocketError::Malformed(what)) => panic!("{what}"),
            Err(_) => None,
        }
    }

    /// Sends CONNECT and reads CONNACK: whether a session was there, or `None` where the broker is gone.
    pub(crate) fn log_in(&mut self, connect: &Connect) -> Option<bool> {
        if !self.send(&connect.encode()) {
            return None;
        }
        match self.next()? {
            Packet::Connack(Connack { code: 0, session_present, .. }) => Some(session_present),
            other => panic!("not let in: {other:?}"),
        }
    }
}
