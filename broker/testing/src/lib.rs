//! MQTT packets for tests, written and read by hand.
//!
//! Nothing here uses an MQTT library, ours included, so that a mistake in a codec cannot hide behind the same mistake
//! in its test. Packets are written without checks, as tests need wrong ones too, and read strictly: whatever the
//! standard forbids a server to send is [`Malformed`].
//!
//! | Module | What |
//! |---|---|
//! | `outgoing` | Packets as a client writes them |
//! | `incoming` | Packets as a server sends them |
//! | `property` | The properties of MQTT 5 |
//! | `socket` | A blocking connection for both |

mod incoming;
mod outgoing;
mod property;
mod reader;
mod socket;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub use incoming::{Ack, Connack, Packet, Suback, length_of_first, read_packet};
pub use outgoing::{
    Connect, Publish, Will, ack, auth, binary, disconnect, frame, pingreq, string, subscribe, subscribe_with,
    unsubscribe, variable_integer,
};
pub use property::{Property, encode_properties};
pub use reader::Malformed;
pub use socket::{Socket, SocketError};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V3,
    /// MQTT 5, protocol level 5.
    V5,
}

impl Version {
    /// Both, for tests of what the standards have in common.
    pub const BOTH: [Self; 2] = [Self::V3, Self::V5];

    /// The byte that names it in CONNECT.
    pub fn level(self) -> u8 {
        match self {
            Self::V3 => 4,
            Self::V5 => 5,
        }
    }
}

/// A name that no other test has, nor an earlier run on the same broker: 1 to 23 letters and digits, so that every
/// server has to take it as a client id [MQTT-3.1.3-5].
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("t{:x}n{number}", started.as_micros() & 0xFF_FFFF_FFFF)
}
