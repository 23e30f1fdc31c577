//! MQTT packets for tests, written and read by hand.
//!
//! Nothing here uses an MQTT library, ours included, so that a mistake in a codec cannot hide behind the same mistake
//! in its test. Packets are written without checks, as tests need wrong ones too, and read strictly: whatever the
//! standard forbids a server to send is [`Malformed`].
//!
//! | Module | What |
//! |---|---|
//! | `outgoing` | Packets as a client writes them |
//! | `incoming`, `reader` | Packets as a server sends them, read strictly |
//! | `property`, `primitive` | The properties of MQTT 5, and the data types of both versions |
//! | `socket` | A blocking connection for both |
//! | `authority`, `tunnel` | Certificates; TLS, WebSocket and unix sockets in front of a broker (feature `tunnels`) |

#[cfg(feature = "tunnels")]
mod authority;
mod incoming;
mod name;
mod outgoing;
mod primitive;
mod property;
mod reader;
mod socket;
#[cfg(feature = "tunnels")]
mod tunnel;
mod version;

#[cfg(feature = "tunnels")]
pub use authority::{Authority, Issued};
pub use incoming::{Ack, Connack, Packet, Suback, length_of_first, read_packet};
pub use name::unique;
pub use outgoing::{
    Connect, Publish, Will, ack, auth, disconnect, frame, pingreq, subscribe, subscribe_with, unsubscribe,
};
pub use primitive::{binary, string, variable_integer};
pub use property::{Property, encode_properties};
pub use reader::Malformed;
pub use socket::{Socket, SocketError};
#[cfg(feature = "tunnels")]
pub use tunnel::{Layers, Tunnel};
pub use version::Version;
