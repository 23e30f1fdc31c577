//! Byte streams to clients with one set of non-blocking calls: reads and writes transfer as much as they can, and
//! [`Transport::poll_readable`] and [`Transport::poll_writable`] wake the one task that waits for more.

mod memory;
mod socket;
mod stream;
mod tls;
mod web;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use rantai_tls::ServerTls;
#[cfg(test)]
use tokio::net::TcpStream;

pub(crate) use memory::{MemoryEnd, memory_pair};
pub(crate) use socket::Socket;
use stream::Stream;
pub(crate) use tls::{Computation, Computed, HandshakeError, Tls, TlsStep};
#[cfg(feature = "fuzzing")]
pub(crate) use web::any_bytes;
pub(crate) use web::{CloseCode, HttpRefusal, Web, answer as answer_http};

/// Number of reads of bytes to be discarded before the task yields.
const DISCARDS_PER_TURN: usize = 16;
/// Maximum number of bytes of one client that are read to be discarded.
const MAX_DISCARDED_BYTES: usize = 4 << 20;

/// Reads and discards bytes: closing a socket with unread bytes would lose the bytes written last. Returns 0 at the
/// end of the stream or after more than [`MAX_DISCARDED_BYTES`], and otherwise `WouldBlock`.
fn discard(discarded: &mut usize, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
    for _ in 0..DISCARDS_PER_TURN {
        match read(&mut [0; 4 << 10])? {
            0 => return Ok(0),
            count => *discarded += count,
        }
        if *discarded > MAX_DISCARDED_BYTES {
            return Ok(0);
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// Byte stream of one client.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(Socket),
    Tls(Box<Tls>),
    Web(Box<Web>),
}

impl Transport {
    /// Creates the layers of a listener above a client's socket: TLS, before its handshake, if it is configured; and
    /// WebSocket, before its upgrade request, if `is_web`.
    ///
    /// # Errors
    ///
    /// The TLS configuration cannot be used.
    pub(crate) fn of(
        socket: Socket,
        tls: Option<&Arc<ServerTls>>,
        is_web: bool,
    ) -> Result<Self, rustls::Error> {
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(server) => Stream::Tls(Box::new(Tls::new(socket, server.clone())?)),
        };
        Ok(match stream {
            stream if is_web => Self::Web(Box::new(Web::new(stream))),
            Stream::Plain(socket) => Self::Plain(socket),
            Stream::Tls(tls) => Self::Tls(tls),
        })
    }

    /// Creates a transport for MQTT over TCP.
    #[cfg(test)]
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self::Plain(Socket::Tcp(stream))
    }

    /// Creates the two ends of a stream in memory, each of which accepts `capacity` bytes before writes would block.
    #[cfg(test)]
    pub(crate) fn pair(capacity: usize) -> (Self, Self) {
        let (one, other) = memory_pair(capacity);
        (Self::Plain(Socket::Memory(one)), Self::Plain(Socket::Memory(other)))
    }

    /// Returns the number of bytes written to this end of a stream in memory that the other one has not read.
    #[cfg(test)]
    pub(crate) fn unread(&self) -> usize {
        match self {
            Self::Plain(Socket::Memory(end)) => end.unread(),
            _ => unreachable!("a stream in memory"),
        }
    }

    /// Discards the bytes that were written to this end of a stream in memory and not read, except for the first
    /// `keep`.
    #[cfg(test)]
    pub(crate) fn lose(&self, keep: usize) {
        match self {
            Self::Plain(Socket::Memory(end)) => end.lose(keep),
            _ => unreachable!("a stream in memory"),
        }
    }

    /// Reads available bytes; returns 0 at the end of the stream. Bytes that have to be written because of the read,
    /// such as those of TLS, are written, or are [unsent](Self::has_unsent).
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is available yet.
    pub(crate) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read(buffer),
            Self::Tls(tls) => tls.try_read(buffer),
            Self::Web(web) => web.try_read(buffer),
        }
    }

    /// Writes as many bytes as there is room for. A layer above the socket may keep some of them unsent: see
    /// [`has_unsent`](Self::has_unsent).
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(tls) => tls.try_write(&[IoSlice::new(bytes)]),
            Self::Web(web) => web.try_write(&[IoSlice::new(bytes)]),
        }
    }

    /// Same as [`try_write`](Self::try_write), for several slices at once.
    pub(crate) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(pieces),
            Self::Tls(tls) => tls.try_write(pieces),
            Self::Web(web) => web.try_write(pieces),
        }
    }

    /// Returns whether to try another read after one that left room in its buffer. If a layer above the socket has
    /// removed bytes (frame headers), such a read does not prove that the socket is empty.
    pub(crate) fn may_have_more(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.may_have_more(),
            Self::Web(web) => web.may_have_more(),
        }
    }

    /// Returns whether a layer above the socket has bytes that the socket has not accepted yet.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_unsent(),
            Self::Web(web) => web.has_unsent(),
        }
    }

    /// Writes [unsent](Self::has_unsent) bytes to the socket, as far as there is room. Returns whether none are left.
    ///
    /// # Errors
    ///
    /// The stream has failed.
    pub(crate) fn try_flush(&self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(tls) => tls.try_flush(),
            Self::Web(web) => web.try_flush(),
        }
    }

    /// Returns how the client has violated the protocol of a layer above the socket, after a read has failed because
    /// of it.
    pub(crate) fn violation(&self) -> Option<&'static str> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.violation(),
            Self::Web(web) => web.violation(),
        }
    }

    /// Polls for the stream to become readable or to fail. Wakes the last task that polled.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_readable(cx),
            Self::Tls(tls) => tls.poll_readable(cx),
            Self::Web(web) => web.below().poll_readable(cx),
        }
    }

    /// Polls for the stream to become writable or to fail. Wakes the last task that polled.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_writable(cx)
    }

    /// Waits for [`poll_readable`](Self::poll_readable).
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Waits for [`poll_writable`](Self::poll_writable).
    pub(crate) async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_writable(cx)).await
    }

    /// Waits for bytes of the socket and discards them, bypassing the layers above it. Returns their number, 0 at the
    /// end of the stream. After this, the stream may only be used to discard more.
    pub(crate) async fn forget(&self) -> io::Result<usize> {
        const BYTES_PER_READ: usize = 4 << 10;
        let socket = self.socket();
        loop {
            poll_fn(|cx| socket.poll_readable(cx)).await?;
            match socket.try_read(&mut &mut [0; BYTES_PER_READ][..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Returns whether the other side has closed the stream, or its writing direction.
    pub(crate) fn is_read_closed(&self) -> bool {
        self.socket().is_read_closed()
    }

    /// Acknowledges received bytes at once, if the stream would delay that: TCP on Linux.
    pub(crate) fn acknowledge(&self) -> io::Result<()> {
        self.socket().acknowledge()
    }

    /// Ends one direction or both. Bytes already written are still delivered, unless they are
    /// [unsent](Self::has_unsent). A layer with a closing message sends it at the end of writing; if the socket does
    /// not accept it, writing ends with the [`try_flush`](Self::try_flush) that sends it.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        match self {
            Self::Plain(socket) => socket.shutdown(how),
            Self::Tls(tls) => tls.shutdown(how),
            Self::Web(web) => web.shutdown(how),
        }
    }

    /// Sets the code sent at the end of writing, if a layer above the socket has such codes and has not detected a
    /// protocol violation.
    pub(crate) fn set_close_code(&self, code: CloseCode) {
        if let Self::Web(web) = self {
            web.set_close_code(code);
        }
    }

    /// Returns the TLS layer, if there is one.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls),
            Self::Web(web) => match web.below() {
                Stream::Plain(_) => None,
                Stream::Tls(tls) => Some(tls),
            },
        }
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.below(),
            Self::Web(web) => web.below().socket(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::net::TcpListener;

    use super::*;

    /// Returns whether the stream is readable now, without reading.
    async fn is_readable(transport: &Transport) -> bool {
        poll_fn(|cx| Poll::Ready(transport.poll_readable(cx).is_ready())).await
    }

    /// Unread bytes can still be read: a client may send and close at once.
    #[tokio::test]
    async fn a_client_that_has_closed_is_noticed_without_a_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let transport = Transport::tcp(listener.accept().await.unwrap().0);
        client.write_all(b"last").unwrap();
        transport.readable().await.unwrap();
        assert!(!transport.is_read_closed());
        drop(client);
        while !transport.is_read_closed() {
            tokio::task::yield_now().await;
        }
        let mut buffer = Vec::new();
        assert_eq!(transport.try_read(&mut (&mut buffer).limit(16)).unwrap(), 4);
        assert_eq!(transport.try_read(&mut (&mut buffer).limit(16)).unwrap(), 0);
    }

    /// A read that takes all available bytes must clear the readiness: otherwise every batch would pay for a read that
    /// blocks.
    #[tokio::test]
    async fn a_socket_that_was_emptied_is_not_readable_until_more_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let transport = Transport::tcp(listener.accept().await.unwrap().0);

        let mut buffer = Vec::new();
        for round in 0..3 {
            client.write_all(&[round; 5]).unwrap();
            transport.readable().await.unwrap();
            buffer.clear();
            assert_eq!(transport.try_read(&mut (&mut buffer).limit(16)).unwrap(), 5);
            assert_eq!(buffer, [round; 5]);
            assert!(!is_readable(&transport).await, "round {round}");
        }

        client.write_all(&[9; 20]).unwrap();
        transport.readable().await.unwrap();
        assert_eq!(transport.try_read(&mut (&mut Vec::new()).limit(16)).unwrap(), 16);
        assert!(is_readable(&transport).await, "a full buffer says nothing about what is left");
        assert_eq!(transport.try_read(&mut (&mut Vec::new()).limit(16)).unwrap(), 4);
        assert!(!is_readable(&transport).await);

        drop(client);
        transport.readable().await.unwrap();
        assert_eq!(transport.try_read(&mut (&mut Vec::new()).limit(16)).unwrap(), 0, "the end of the stream");
        assert!(is_readable(&transport).await, "the end stays");
    }

    /// There may be a hundred thousand of them.
    #[test]
    fn a_tcp_transport_is_no_larger_than_its_socket() {
        assert_eq!(size_of::<Transport>(), size_of::<TcpStream>());
    }

    #[tokio::test]
    async fn a_unix_socket_and_its_end_are_handled_as_with_tcp() {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let transport = Transport::Plain(Socket::Unix(Box::new(ours)));
        theirs.writable().await.unwrap();
        theirs.try_write(&[7; 5]).unwrap();
        transport.readable().await.unwrap();
        assert_eq!(transport.try_read(&mut (&mut Vec::new()).limit(16)).unwrap(), 5);
        assert!(!is_readable(&transport).await);
        transport.writable().await.unwrap();
        assert_eq!(transport.try_write(b"answer").unwrap(), 6);
        assert!(!transport.is_read_closed());
        theirs.readable().await.unwrap();
        assert_eq!(theirs.try_read(&mut [0; 16]).unwrap(), 6);
        drop(theirs);
        transport.readable().await.unwrap();
        assert_eq!(transport.try_read(&mut (&mut Vec::new()).limit(16)).unwrap(), 0, "the end of the stream");
        assert!(transport.is_read_closed());
    }
}
