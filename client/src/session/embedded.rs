//! Brokers in the same process, reached without a socket.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

/// Byte stream to a broker in the same process.
pub trait EmbeddedStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> EmbeddedStream for T {}

/// Broker in the same process; see [`Address::embedded`](super::Address::embedded).
pub trait EmbeddedBroker: Send + Sync {
    /// Opens a connection, on which MQTT is spoken as over TCP. Must not block. A session calls it for its first
    /// connection, and again whenever it has lost one.
    ///
    /// # Errors
    ///
    /// The broker has stopped. A session treats this like a refused TCP connection.
    fn connect(&self) -> io::Result<Box<dyn EmbeddedStream>>;
}

/// Handle of a broker in the same process. Two handles are equal if they are clones.
#[derive(Clone)]
pub(super) struct Embedded(pub(super) Arc<dyn EmbeddedBroker>);

impl PartialEq for Embedded {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Embedded {}

impl fmt::Display for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the broker of this process")
    }
}
