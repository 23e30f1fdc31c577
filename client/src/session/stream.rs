//! Byte stream of a connection: TCP, a unix socket or memory, with TLS and WebSocket above it if the address says so.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConnection;

use super::embedded::EmbeddedStream;
use super::heard::Heard;
use super::web::Web;
#[cfg(test)]
use crate::simulation::SimulatedStream;

/// Connection to a broker. Only TCP and unix sockets are stored inline; the others are boxed, so that they do not make
/// the type larger for TCP.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Heard<TcpStream>>>),
    Web(Box<Web>),
    Embedded(Box<dyn EmbeddedStream>),
    #[cfg(test)]
    Simulated(SimulatedStream),
}

impl Stream {
    /// Returns the TCP connection below all layers.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) | Self::Embedded(_) => None,
            #[cfg(test)]
            Self::Simulated(_) => None,
            Self::Tls(stream) => Some(stream.get_ref().0.below()),
            Self::Web(stream) => stream.below().tcp(),
        }
    }

    /// Returns the TLS connection, if there is one.
    pub(super) fn tls(&self) -> Option<&ClientConnection> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Embedded(_) => None,
            #[cfg(test)]
            Self::Simulated(_) => None,
            Self::Tls(stream) => Some(stream.get_ref().1),
            Self::Web(stream) => stream.below().tls(),
        }
    }

    /// Returns whether a layer above the socket still has bytes to write, such as the answer to a WebSocket ping.
    /// `poll_flush` writes them.
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Embedded(_) => false,
            #[cfg(test)]
            Self::Simulated(_) => false,
            Self::Tls(stream) => stream.get_ref().1.wants_write(),
            Self::Web(stream) => stream.has_unsent(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Embedded(stream) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(test)]
            Self::Simulated(stream) => Pin::new(stream).poll_read(context, buffer),
            // MQTT packets contain their length, so a connection that ends without TLS's close_notify is an ordinary
            // end of the stream.
            Self::Tls(stream) => match Pin::new(stream).poll_read(context, buffer) {
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                read => read,
            },
            Self::Web(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Embedded(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(test)]
            Self::Simulated(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Web(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Embedded(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(test)]
            Self::Simulated(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Web(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Embedded(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(test)]
            Self::Simulated(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Web(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
