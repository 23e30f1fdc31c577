//! Options of a session.

use bytes::Bytes;

use super::address::Address;
use crate::environment::Environment;
use crate::wire::name::ClientId;

/// The last will, published by the broker when the connection ends without a DISCONNECT: retained, at QoS 1.
#[derive(Clone, Debug)]
pub struct Will {
    /// The topic name.
    pub topic: String,
    /// The payload, as it is on the wire.
    pub payload: Bytes,
    /// Message expiry interval in seconds.
    pub expiry: Option<u32>,
}

/// Options of a session.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address of the broker.
    pub address: Address,
    /// The MQTT client id. Two sessions with the same id take each other over.
    pub client_id: ClientId,
    /// The keep-alive interval in seconds, 1 to 65,535.
    pub keep_alive: u16,
    /// The last will.
    pub will: Option<Will>,
    /// Session expiry interval in seconds; 0 starts a clean session at every connection.
    pub session_expiry: u32,
    /// Maximum Packet Size in bytes; the broker drops larger packets instead of sending them.
    pub max_packet: u32,
    /// Whether the first connection is retried instead of failing while the broker cannot be reached.
    pub patient: bool,
    /// Whether another session of the process logs that the broker is lost: this one logs that for debugging only.
    pub is_secondary: bool,
    /// Whether the session notices that the process did not run for more than half a second, and tells with each message
    /// how long that may have lain unread. Wakes the process four times a second.
    pub notices_standstill: bool,
    /// Clock and randomness: of the waits between attempts to connect, and of the ids that are drawn on this session.
    pub environment: Environment,
}

impl Options {
    /// A clean session with a keep-alive of 30 s and packets of up to 2 MiB.
    pub fn new(address: Address, client_id: ClientId) -> Self {
        Self {
            address,
            client_id,
            keep_alive: 30,
            will: None,
            session_expiry: 0,
            max_packet: 2 << 20,
            patient: false,
            is_secondary: false,
            notices_standstill: false,
            environment: Environment::default(),
        }
    }
}
