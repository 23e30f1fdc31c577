//! One connection to a broker that reconnects by itself. Handles publish and subscribe; one task owns the socket.
//!
//! | Module | Content |
//! |---|---|
//! | [`Address`] | Address of a broker, or a list of them |
//! | `message`, `options`, `error` | Messages and subscriptions; options; errors |
//! | `handle`, `outlet`, `receiver` | [`Session`] keeps the connection alive, [`Outlet`] publishes, [`Receiver`] has the callbacks |
//! | `outbox` | Send queue, in-flight table and subscriptions, without I/O |
//! | `frame`, `publish`, `decode` | Packets, by rumqttc's codec except for PUBLISH; results from acknowledgements |
//! | [`open`] | Byte stream to a broker, for tools that write packets themselves |
//! | `connection` | The connection task: reads, writes, reconnects |
//! | `reach`, `dial`, `stream`, `web` | Byte streams by TCP, unix sockets, TLS, WebSocket |
//! | `heard`, `mismatch` | First bytes of an answer, and the protocol that they reveal |
//! | `tickets` | TLS configurations, kept for session resumption |
//! | `handshake`, `pulse`, `backoff`, `stalls` | CONNECT; keep-alive; delays between attempts; delayed TCP acknowledgements |
//! | `standstill` | Detection of times in which the process did not run |
//!
//! Reading never waits for writing: the task reads even while the peer does not, so that two clients that stream to
//! each other cannot stall. Messages that are published while the task is busy are sent with one write.

mod address;
mod backoff;
mod connection;
mod decode;
mod dial;
mod embedded;
mod error;
mod frame;
mod handle;
mod handshake;
mod heard;
mod message;
mod mismatch;
mod options;
mod outbox;
mod outlet;
mod publish;
mod pulse;
mod raw;
mod reach;
mod receiver;
mod shared;
mod stalls;
mod standstill;
mod stream;
mod tickets;
mod web;

pub use address::{Address, AddressError};
pub use embedded::{EmbeddedBroker, EmbeddedStream};
pub(crate) use error::because;
pub use error::{ConnectError, ConnectRefusal, SubscribeError, Unsent};
pub use handle::Session;
pub use message::{Filter, Message, Publish, QoS};
pub use options::{Options, Will};
pub use outlet::Outlet;
pub use rantai_tls::{ClientError, TlsFiles, TlsProblem};
pub use raw::{RawStream, open};
pub use receiver::Receiver;
pub use shared::Status;
