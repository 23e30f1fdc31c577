//! Byte streams to clients, behind one set of non-blocking calls: reads and writes take or give what they can, and
//! [`Transport::poll_readable`] and [`Transport::poll_writable`] wake the one task that waits for more.

#[cfg(test)]
mod memory;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::BufMut;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Whether the kernel reports a socket once for everything that has arrived, so that a read which leaves room in its
/// buffer proves that nothing is left (epoll and kqueue as tokio uses them).
const EDGE_TRIGGERED: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
));

/// One client's byte stream.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    #[cfg(test)]
    Memory(memory::End),
}

impl Transport {
    /// Two ends of a stream in memory, each of which takes `capacity` bytes before writes would block.
    #[cfg(test)]
    pub(crate) fn pair(capacity: usize) -> (Self, Self) {
        let (one, other) = memory::pair(capacity);
        (Self::Memory(one), Self::Memory(other))
    }

    /// Reads what is there; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where nothing is there yet.
    pub(crate) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => read_tcp(stream, buffer),
            #[cfg(test)]
            Self::Memory(end) => end.try_read(buffer),
        }
    }

    /// Writes as much as there is room for.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where there is none.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            #[cfg(test)]
            Self::Memory(end) => end.try_write(bytes),
        }
    }

    /// [`try_write`](Self::try_write) of several pieces with one call.
    pub(crate) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(pieces),
            #[cfg(test)]
            Self::Memory(end) => end.try_write(pieces.first().map_or(&[][..], |piece| piece)),
        }
    }

    /// Ready when a read is worth trying, or the stream has failed. Wakes the last task that asked.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            #[cfg(test)]
            Self::Memory(end) => end.poll_readable(cx).map(Ok),
        }
    }

    /// Ready when a write is worth trying, or the stream has failed. Wakes the last task that asked.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            #[cfg(test)]
            Self::Memory(end) => end.poll_writable(cx).map(Ok),
        }
    }

    /// Waits for [`poll_readable`](Self::poll_readable).
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Waits for [`poll_writable`](Self::poll_writable).
    pub(crate) async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_writable(cx)).await
    }

    /// Whether the other side will send nothing more: it has closed the stream, or its end of it.
    pub(crate) fn is_read_closed(&self) -> bool {
        match self {
            Self::Tcp(stream) => {
                let mut cx = Context::from_waker(Waker::noop());
                let ready = pin!(stream.ready(Interest::READABLE)).poll(&mut cx);
                matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
            }
            #[cfg(test)]
            Self::Memory(end) => end.is_read_closed(),
        }
    }

    /// Has what was read acknowledged at once, where the stream below does that with a delay: TCP on Linux.
    pub(crate) fn acknowledge(&self) -> io::Result<()> {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Tcp(stream) => stream.set_quickack(true),
            // Other systems have no TCP_QUICKACK.
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Self::Tcp(_) => Ok(()),
            #[cfg(test)]
            Self::Memory(_) => Ok(()),
        }
    }

    /// Ends one direction or both; what is written already is still delivered.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        match self {
            Self::Tcp(stream) => {
                let _ = socket2::SockRef::from(stream).shutdown(how);
            }
            #[cfg(test)]
            Self::Memory(end) => end.shutdown(how),
        }
    }
}

/// Reads once. Where that has emptied the socket, its readiness is cleared, so that [`Transport::poll_readable`] waits for
/// new bytes instead of asking for a read that would block.
fn read_tcp(stream: &TcpStream, buffer: &mut impl BufMut) -> io::Result<usize> {
    let room = buffer.chunk_mut().len();
    let mut read = Err(io::ErrorKind::WouldBlock.into());
    // tokio clears the readiness that was seen before the call when the closure says `WouldBlock`, and no later one.
    let _ = stream.try_io(Interest::READABLE, || {
        read = stream.try_read_buf(buffer);
        match &read {
            Ok(count) if EDGE_TRIGGERED && 0 < *count && *count < room => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            _ => Ok(()),
        }
    });
    read
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
        let transport = Transport::Tcp(listener.accept().await.unwrap().0);
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
        let transport = Transport::Tcp(listener.accept().await.unwrap().0);

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
}
