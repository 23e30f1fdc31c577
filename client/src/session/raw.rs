//! Byte streams to brokers, for tools that write MQTT packets themselves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::address::Address;
use super::error::ConnectError;
use super::reach::{StreamErrors, reach};
use super::stream::Stream;
use super::tickets::Tickets;

/// Byte stream to a broker: TCP or a unix socket, with TLS and WebSocket above it if the address says so.
///
/// Written bytes are sent by [`flush`](tokio::io::AsyncWriteExt::flush). Dropping the stream closes the connection.
pub struct RawStream {
    stream: Stream,
    errors: StreamErrors,
}

/// Connects to the first place of an address, without sending any MQTT packet.
///
/// # Errors
///
/// The place cannot be reached, or the handshake of TLS or WebSocket failed.
pub async fn open(address: &Address) -> Result<RawStream, ConnectError> {
    let (stream, errors) =
        reach(&address.endpoints[0].place, &address.tls, &Tickets::default(), || ()).await?;
    Ok(RawStream { stream, errors })
}

impl RawStream {
    /// Returns the certificates that the broker has presented, its own first, in DER; empty without TLS.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        let tls = self.stream.tls().and_then(|tls| tls.peer_certificates());
        tls.unwrap_or_default().iter().map(|certificate| certificate.to_vec()).collect()
    }

    /// Converts an error of reading or writing to one that explains its cause.
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
