//! Byte streams to clients, behind one set of non-blocking calls: the outbox is written under its owner's lock, so
//! nothing here waits but [`Transport::readable`] and [`Transport::writable`].

#[cfg(test)]
mod memory;

use std::io::{self, IoSlice};
use std::net::Shutdown;

use bytes::BufMut;
use tokio::net::TcpStream;

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
            Self::Tcp(stream) => stream.try_read_buf(buffer),
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

    /// Waits until a read is worth trying.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            #[cfg(test)]
            Self::Memory(end) => {
                end.readable().await;
                Ok(())
            }
        }
    }

    /// Waits until a write is worth trying.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            #[cfg(test)]
            Self::Memory(end) => {
                end.writable().await;
                Ok(())
            }
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
