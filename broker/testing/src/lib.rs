//! MQTT packets for tests, written and parsed by hand.
//!
//! No MQTT library is used here, including that of this workspace, so that an error in a codec cannot be hidden by the
//! same error in its test. Packets are written without checks, because tests need invalid ones too, and parsed
//! strictly: everything that the standard forbids a server to send is [`Malformed`].
//!
//! | Module | Contents |
//! |---|---|
//! | `outgoing` | Packets sent by a client |
//! | `incoming`, `reader` | Packets sent by a server, parsed strictly |
//! | `property`, `primitive` | Properties of MQTT 5, and the data types of both versions |
//! | `socket` | Blocking connection for both |
//! | `seeds` | Seeds of simulations: which ones are run, and reports of failures |
//!
//! With the feature `tunnels`:
//!
//! | Module | Contents |
//! |---|---|
//! | `authority`, `tunnel` | Certificates; TLS, WebSocket and unix sockets in front of a broker |
//! | `transport`, `place` | Transport named by `RANTAI_TEST_TRANSPORT`; address of a broker with its transport |
//! | `stream`, `blocking` | Connections that carry the same bytes over each transport |
//! | `frames`, `files` | Frames of WebSocket; certificates and sockets shared by all tests of a build |

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
