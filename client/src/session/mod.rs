//! One connection to a broker that reconnects by itself. Handles publish and subscribe; one task owns the socket.
//!
//! | Room | What |
//! |---|---|
//! | [`Address`] | `mqtt://user:password@host:port`, and several of them |
//! | `message`, `options`, `error` | What is published and subscribed to; options; errors |
//! | `handle`, `outlet`, `receiver` | [`Session`] keeps the connection, [`Outlet`] publishes, [`Receiver`] is called back |
//! | `outbox` | Send queue, in-flight table and subscriptions, without I/O |
//! | `frame`, `publish`, `decode` | Bytes to packets, by rumqttc's codec but for PUBLISH; acknowledgements to results |
//! | [`open`] | A byte stream to a broker, for tools that write packets themselves |
//! | `connection` | The task: reads, writes, reconnects |
//! | `reach`, `dial`, `stream`, `web` | From a place to bytes: TCP, unix sockets, TLS, WebSocket |
//! | `heard`, `mismatch` | The first bytes of an answer, and which protocol they are of |
//! | `tickets` | TLS configurations, kept from one connection to the next |
//! | `handshake`, `pulse`, `backoff`, `stalls` | CONNECT; keep-alive; waits between attempts; delayed TCP acknowledgements |
//! | `standstill` | Whether the process did not run, and since when messages may lie unread |
//!
//! Reading and writing do not wait for each other: while the peer does not read what is written, what it sends is
//! still read, so that two clients which stream at each other cannot stall. Everything that is published while the
//! task is busy goes out in one write.

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
