//! Byte streams to brokers, for tools that write MQTT packets themselves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::address::Address;
use super::error::ConnectError;
use super::reach::{Errors, reach};
use super::stream::Stream;
use super::tickets::Tickets;

/// A byte stream to a broker: TCP or a unix socket, with TLS and WebSocket above it where the address says so.
///
/// What is written goes out with [`flush`](tokio::io::AsyncWriteExt::flush). Dropping the stream closes the connection.
pub struct RawStream {
    stream: Stream,
    errors: Errors,
}

/// Connects to the first place of an address, without sending any MQTT.
///
/// # Errors
///
/// The place cannot be reached, or TLS or WebSocket is not agreed on.
pub async fn open(address: &Address) -> Result<RawStream, ConnectError> {
    let (stream, errors) =
        reach(&address.endpoints[0].place, &address.tls, &Tickets::default(), || ()).await?;
    Ok(RawStream { stream, errors })
}

impl RawStream {
    /// The certificates that the broker has shown, its own first, in DER; none without TLS.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        let tls = self.stream.tls().and_then(|tls| tls.peer_certificates());
        tls.unwrap_or_default().iter().map(|certificate| certificate.to_vec()).collect()
    }

    /// What an error of reading or writing means.
    pub fn explain(&self, error: io::Error) -> ConnectError {
        self.errors.explain(error)
    }
}

impl AsyncRead for RawStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for RawStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
