//! Sockets, TCP or Unix, or a stream in memory.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::BufMut;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

use super::memory::MemoryEnd;

/// Whether the system reports a socket once for everything that has arrived, so that a read that leaves room in its
/// buffer proves that nothing is left (epoll and kqueue as used by tokio).
const EDGE_TRIGGERED: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
));

/// Socket, or a stream in memory for connections within the process. Its functions are those of
/// [`Transport`](super::Transport).
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    /// Boxed, so that the enum is no larger than a TCP socket.
    Unix(Box<UnixStream>),
    Memory(MemoryEnd),
}

/// Socket that is registered with no runtime.
#[derive(Debug)]
pub(crate) enum UnregisteredSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Memory(MemoryEnd),
}

impl UnregisteredSocket {
    /// Registers the socket with the current runtime.
    pub(crate) fn register(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream) => Socket::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Socket::Unix(Box::new(UnixStream::from_std(stream)?)),
            Self::Memory(end) => Socket::Memory(end),
        })
    }
}

impl Socket {
    /// Deregisters the socket from its runtime.
    pub(crate) fn into_unregistered(self) -> io::Result<UnregisteredSocket> {
        Ok(match self {
            Self::Tcp(stream) => UnregisteredSocket::Tcp(stream.into_std()?),
            Self::Unix(stream) => UnregisteredSocket::Unix(stream.into_std()?),
            Self::Memory(end) => UnregisteredSocket::Memory(end),
        })
    }

    pub(super) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => read_once(stream, buffer),
            Self::Unix(stream) => read_once(&**stream, buffer),
            Self::Memory(end) => end.try_read(buffer),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Memory(end) => end.try_write(bytes),
        }
    }

    pub(super) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(pieces),
            Self::Unix(stream) => stream.try_write_vectored(pieces),
            Self::Memory(end) => end.try_write_vectored(pieces),
        }
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Memory(end) => end.poll_readable(cx).map(Ok),
        }
    }

    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
            Self::Memory(end) => end.poll_writable(cx).map(Ok),
        }
    }

    pub(super) fn is_read_closed(&self) -> bool {
        match self {
            Self::Tcp(stream) => is_closed_now(stream.ready(Interest::READABLE)),
            Self::Unix(stream) => is_closed_now(stream.ready(Interest::READABLE)),
            Self::Memory(end) => end.is_read_closed(),
        }
    }

    pub(super) fn acknowledge(&self) -> io::Result<()> {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Tcp(stream) => stream.set_quickack(true),
            // Other systems have no TCP_QUICKACK.
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Self::Tcp(_) => Ok(()),
            Self::Unix(_) => Ok(()),
            Self::Memory(_) => Ok(()),
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        match self {
            Self::Tcp(stream) => {
                let _ = socket2::SockRef::from(stream).shutdown(how);
            }
            Self::Unix(stream) => {
                let _ = socket2::SockRef::from(&**stream).shutdown(how);
            }
            Self::Memory(end) => end.shutdown(how),
        }
    }
}

/// Returns, without waiting, whether the other side is known to have closed its end.
fn is_closed_now(ready: impl Future<Output = io::Result<Ready>>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    matches!(pin!(ready).poll(&mut cx), Poll::Ready(Ok(ready)) if ready.is_read_closed())
}

/// Socket of tokio.
trait Readable {
    fn read(&self, buffer: &mut impl BufMut) -> io::Result<usize>;

    /// Runs `read`. If it returns `WouldBlock`, clears the readiness seen before, but not a later one.
    fn clearing(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()>;
}

impl Readable for TcpStream {
    fn read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        self.try_read_buf(buffer)
    }

    fn clearing(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.try_io(Interest::READABLE, read)
    }
}

impl Readable for UnixStream {
    fn read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        self.try_read_buf(buffer)
    }

    fn clearing(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.try_io(Interest::READABLE, read)
    }
}

/// Reads once. If that has emptied the socket, its readiness is cleared, so that
/// [`Transport::poll_readable`](super::Transport::poll_readable) waits for new bytes.
fn read_once(stream: &impl Readable, buffer: &mut impl BufMut) -> io::Result<usize> {
    let room = buffer.chunk_mut().len();
    let mut read = Err(io::ErrorKind::WouldBlock.into());
    let _ = stream.clearing(|| {
        read = stream.read(buffer);
        match &read {
            Ok(count) if EDGE_TRIGGERED && 0 < *count && *count < room => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            _ => Ok(()),
        }
    });
    read
}
