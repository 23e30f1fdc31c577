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
//! | `seeds` | Seeds of simulations: which are run, and what a failure says |
//!
//! With the feature `tunnels`:
//!
//! | Module | What |
//! |---|---|
//! | `authority`, `tunnel` | Certificates; TLS, WebSocket and unix sockets in front of a broker |
//! | `transport`, `place` | The transport that `RANTAI_TEST_TRANSPORT` names; where a broker listens by it |
//! | `stream`, `blocking` | Connections that carry the same bytes by each transport |
//! | `frames`, `files` | The frames of WebSocket; the certificates and sockets that all tests of a build share |

#[cfg(feature = "tunnels")]
mod authority;
#[cfg(feature = "tunnels")]
mod blocking;
#[cfg(feature = "tunnels")]
mod files;
#[cfg(feature = "tunnels")]
mod frames;
mod incoming;
mod name;
mod outgoing;
#[cfg(feature = "tunnels")]
mod place;
mod primitive;
mod property;
mod reader;
mod seeds;
mod socket;
#[cfg(feature = "tunnels")]
mod stream;
#[cfg(feature = "tunnels")]
mod transport;
#[cfg(feature = "tunnels")]
mod tunnel;
mod version;

#[cfg(feature = "tunnels")]
pub use authority::{Authority, Issued};
#[cfg(feature = "tunnels")]
pub use blocking::BlockingStream;
#[cfg(feature = "tunnels")]
pub use files::{ServerFiles, server_files, socket_path};
pub use incoming::{Ack, Connack, Packet, Suback, length_of_first, read_packet};
pub use name::unique;
pub use outgoing::{
    Connect, Publish, Will, ack, auth, disconnect, frame, pingreq, subscribe, subscribe_with, unsubscribe,
};
#[cfg(feature = "tunnels")]
pub use place::Place;
pub use primitive::{binary, string, variable_integer};
pub use property::{Property, encode_properties};
pub use reader::Malformed;
pub use seeds::{Record, Simulation};
pub use socket::{Socket, SocketError};
#[cfg(feature = "tunnels")]
pub use stream::{Origin, Stream};
#[cfg(feature = "tunnels")]
pub use transport::{KeptToTcp, Transport, keep_to_addresses, keep_to_tcp, note_kept};
#[cfg(feature = "tunnels")]
pub use tunnel::{Layers, Tunnel};
pub use version::Version;
