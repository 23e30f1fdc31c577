//! Options of a session.

use bytes::Bytes;

use super::address::Address;
use crate::environment::Environment;
use crate::wire::name::ClientId;

/// Last will, which the broker publishes, retained and at QoS 1, when the connection ends without a DISCONNECT.
#[derive(Clone, Debug)]
pub struct Will {
    /// Topic name.
    pub topic: String,
    /// Payload as sent.
    pub payload: Bytes,
    /// Message expiry interval in seconds.
    pub expiry: Option<u32>,
}

/// Options of a session.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the broker.
    pub address: Address,
    /// MQTT client id. Two sessions with the same id disconnect each other.
    pub client_id: ClientId,
    /// Keep-alive interval in seconds, 1 to 65,535.
    pub keep_alive: u16,
    /// Last will.
    pub will: Option<Will>,
    /// Session expiry interval in seconds; 0 starts a clean session at every connection.
    pub session_expiry: u32,
    /// Maximum Packet Size in bytes; the broker drops larger packets instead of sending them.
    pub max_packet: u32,
    /// Whether the first connection is retried while the broker cannot be reached, instead of failing.
    pub patient: bool,
    /// Whether another session of the process logs the loss of the broker, so that this one logs it at debug level
    /// only.
    pub is_secondary: bool,
    /// Whether the session detects that the process did not run for more than half a second, and reports with each
    /// message how long it may have been waiting to be read. Wakes the process four times a second.
    pub notices_standstill: bool,
    /// Clock and randomness, for the delays between attempts to connect and the ids that are drawn on this session.
    pub environment: Environment,
}

impl Options {
    /// Creates options for a clean session with a keep-alive of 30 s and packets of up to 2 MiB.
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
