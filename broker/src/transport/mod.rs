//! Byte streams to clients, behind one set of non-blocking calls: reads and writes take or give what they can, and
//! [`Transport::poll_readable`] and [`Transport::poll_writable`] wake the one task that waits for more.

#[cfg(test)]
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

pub(crate) use socket::Socket;
use stream::Stream;
pub(crate) use tls::{HandshakeError, Progress, Tls};
#[cfg(feature = "fuzzing")]
pub(crate) use web::any_bytes;
pub(crate) use web::{CloseCode, HttpRefusal, Web, answer as answer_http};

/// Reads of what is of no use, before the others get their turn.
const DISCARDS_AT_ONCE: usize = 16;
/// Bytes of no use that are read of one client.
const DISCARDED: usize = 4 << 20;

/// Reads what is of no use any more, as a socket that is closed with bytes unread takes back what was written last. Returns
/// 0 at its end, or when enough has come, and otherwise `WouldBlock`.
fn discard(discarded: &mut usize, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
    for _ in 0..DISCARDS_AT_ONCE {
        match read(&mut [0; 4 << 10])? {
            0 => return Ok(0),
            count => *discarded += count,
        }
        if *discarded > DISCARDED {
            return Ok(0);
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// One client's byte stream.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(Socket),
    Tls(Box<Tls>),
    Web(Box<Web>),
}

impl Transport {
    /// What a listener's clients speak, above the socket of one of them: TLS, before its handshake, where there is a
    /// configuration of it; and WebSocket, before the client has asked for it, where `is_web`.
    ///
    /// # Errors
    ///
    /// The configuration cannot be used.
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

    /// MQTT over TCP.
    #[cfg(test)]
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self::Plain(Socket::Tcp(stream))
    }

    /// Two ends of a stream in memory, each of which takes `capacity` bytes before writes would block.
    #[cfg(test)]
    pub(crate) fn pair(capacity: usize) -> (Self, Self) {
        let (one, other) = memory::pair(capacity);
        (Self::Plain(Socket::Memory(one)), Self::Plain(Socket::Memory(other)))
    }

    /// Returns how many bytes written to this end of a stream in memory the other one has not read.
    #[cfg(test)]
    pub(crate) fn unread(&self) -> usize {
        match self {
            Self::Plain(Socket::Memory(end)) => end.unread(),
            _ => unreachable!("a stream in memory"),
        }
    }

    /// Loses what was written to this end of a stream in memory and not read, but for the first `keep` bytes.
    #[cfg(test)]
    pub(crate) fn lose(&self, keep: usize) {
        match self {
            Self::Plain(Socket::Memory(end)) => end.lose(keep),
            _ => unreachable!("a stream in memory"),
        }
    }

    /// Reads what is there; 0 at the end of the stream. What that makes necessary to write (of TLS for instance) is written, or
    /// [`has_unsent`](Self::has_unsent).
    ///
    /// # Errors
    ///
    /// `WouldBlock` where nothing is there yet.
    pub(crate) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read(buffer),
            Self::Tls(tls) => tls.try_read(buffer),
            Self::Web(web) => web.try_read(buffer),
        }
    }

    /// Writes as much as there is room for. A layer above the socket may hold some of it back: see
    /// [`has_unsent`](Self::has_unsent).
    ///
    /// # Errors
    ///
    /// `WouldBlock` where there is none.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(tls) => tls.try_write(&[IoSlice::new(bytes)]),
            Self::Web(web) => web.try_write(&[IoSlice::new(bytes)]),
        }
    }

    /// [`try_write`](Self::try_write) of several pieces with one call.
    pub(crate) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(pieces),
            Self::Tls(tls) => tls.try_write(pieces),
            Self::Web(web) => web.try_write(pieces),
        }
    }

    /// Whether another read is worth trying after one that left room in its buffer: what a layer above the socket takes away
    /// (headers of frames) makes such a read no sign that the socket is empty.
    pub(crate) fn may_have_more(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.may_have_more(),
            Self::Web(web) => web.may_have_more(),
        }
    }

    /// Whether a layer above the socket holds bytes that the socket has not taken yet.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_unsent(),
            Self::Web(web) => web.has_unsent(),
        }
    }

    /// Hands what is [unsent](Self::has_unsent) to the socket, as far as there is room; true when nothing is left.
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

    /// What the client has done against the rules of a layer above the socket, once a read has failed for it.
    pub(crate) fn violation(&self) -> Option<&'static str> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.violation(),
            Self::Web(web) => web.violation(),
        }
    }

    /// Ready when a read is worth trying, or the stream has failed. Wakes the last task that asked.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_readable(cx),
            Self::Tls(tls) => tls.poll_readable(cx),
            Self::Web(web) => web.below().poll_readable(cx),
        }
    }

    /// Ready when a write is worth trying, or the stream has failed. Wakes the last task that asked.
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

    /// Waits for bytes of the socket and forgets them, whatever the layers above it would make of them; returns how many, 0 at
    /// the end of the stream. Nothing can be read of this afterwards but more to be forgotten.
    pub(crate) async fn forget(&self) -> io::Result<usize> {
        const AT_ONCE: usize = 4 << 10;
        let socket = self.socket();
        loop {
            poll_fn(|cx| socket.poll_readable(cx)).await?;
            match socket.try_read(&mut &mut [0; AT_ONCE][..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Whether the other side will send nothing more: it has closed the stream, or its end of it.
    pub(crate) fn is_read_closed(&self) -> bool {
        self.socket().is_read_closed()
    }

    /// Has what was read acknowledged at once, where the stream below does that with a delay: TCP on Linux.
    pub(crate) fn acknowledge(&self) -> io::Result<()> {
        self.socket().acknowledge()
    }

    /// Ends one direction or both; what is written already is still delivered, as far as it is not
    /// [unsent](Self::has_unsent). A layer that says goodbye does so at the end of writing; where the socket does not take
    /// that, writing ends with the [`try_flush`](Self::try_flush) that sends it.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        match self {
            Self::Plain(socket) => socket.shutdown(how),
            Self::Tls(tls) => tls.shutdown(how),
            Self::Web(web) => web.shutdown(how),
        }
    }

    /// Has the end of writing say why, where a layer above the socket can, and has not met a violation of its own rules.
    pub(crate) fn set_close_code(&self, code: CloseCode) {
        if let Self::Web(web) = self {
            web.set_close_code(code);
        }
    }

    /// The TLS of it, where it has some.
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

    /// Whether a read is worth trying now, asked without a read.
    async fn is_readable(transport: &Transport) -> bool {
        poll_fn(|cx| Poll::Ready(transport.poll_readable(cx).is_ready())).await
    }

    /// What is unread stays to be read: a client may send and close at once.
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

    /// A read that takes all there is must leave nothing to try: the loop would pay for a read that blocks in every batch.
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

    /// There are a hundred thousand of them.
    #[test]
    fn a_tcp_transport_is_no_larger_than_its_socket() {
        assert_eq!(size_of::<Transport>(), size_of::<TcpStream>());
    }

    #[tokio::test]
    async fn a_unix_socket_is_read_and_its_end_noticed_as_that_of_tcp() {
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
