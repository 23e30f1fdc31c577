//! Connection to a broker that may be killed at any moment.

use rantai_testing::{Connack, Connect, Packet, Place, Property, SocketError, Version};

use crate::process::PATIENCE;

/// Creates a CONNECT with a session that outlives its connection, or with `clean` one that does not.
pub(crate) fn connect(version: Version, id: &str, clean: bool) -> Connect {
    let connect = Connect::new(version).id(id);
    match version {
        _ if clean => connect,
        Version::V3 => connect.resume(),
        Version::V5 => connect.resume().property(Property::SessionExpiry(3_600)),
    }
}

/// Socket with MQTT packets. Every read ends within [`PATIENCE`].
pub(crate) struct Socket(rantai_testing::Socket);

impl Socket {
    /// Connects; returns `None` if nobody listens.
    pub(crate) fn open(place: &Place, version: Version) -> Option<Self> {
        rantai_testing::Socket::at(place, version).ok().map(Self)
    }

    /// Sends bytes; returns false if the connection is lost.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.send(bytes).is_ok()
    }

    /// Returns the next packet; `None` if the connection is lost. Panics if the broker stays silent or sends an invalid
    /// packet.
    pub(crate) fn next(&mut self) -> Option<Packet> {
        match self.0.receive(PATIENCE) {
            Ok(Some(packet)) => Some(packet),
            Ok(None) => panic!("the broker is there and says nothing"),
            Err(SocketError::Malformed(what)) => panic!("{what}"),
            Err(_) => None,
        }
    }

    /// Sends CONNECT and reads CONNACK; returns whether the session was present, or `None` if the broker is gone.
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
