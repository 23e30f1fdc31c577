//! Blocking connection that sends bytes and receives packets.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::incoming::{Packet, length_of_first, read_packet};
use crate::reader::Malformed;
use crate::version::Version;

/// Timeout of a write while the other side does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Error after which a connection cannot be used any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The other side closed or reset the connection.
    #[error("the connection is closed")]
    Closed(#[source] io::Error),
    /// The server sent something that the standard forbids.
    #[error("the server sent a malformed packet")]
    Malformed(#[source] Malformed),
}

/// Stream of bytes below the packets.
trait Connection: Read + Write + Send + fmt::Debug {
    fn set_read_timeout(&self, wait: Option<Duration>) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn set_read_timeout(&self, wait: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(wait)
    }
}

#[cfg(feature = "tunnels")]
impl Connection for crate::BlockingStream {
    fn set_read_timeout(&self, wait: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(wait)
    }
}

/// Connection without any session state.
#[derive(Debug)]
pub struct Socket {
    stream: Box<dyn Connection>,
    version: Version,
    unread: Vec<u8>,
}

impl Socket {
    /// Connects without sending anything. Packets are parsed as those of `version`.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub fn open(address: SocketAddr, version: Version) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { stream: Box::new(stream), version, unread: Vec::new() })
    }

    /// Same as [`open`](Self::open), with the transport of a place.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or not with that transport.
    #[cfg(feature = "tunnels")]
    pub fn at(place: &crate::Place, version: Version) -> io::Result<Self> {
        let stream = place.open_blocking()?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { stream: Box::new(stream), version, unread: Vec::new() })
    }

    /// Returns the version as which packets are parsed.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Writes bytes unchanged.
    ///
    /// # Errors
    ///
    /// The connection is closed, or the other side has not read for 30 s.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), SocketError> {
        self.stream.write_all(bytes).map_err(SocketError::Closed)
    }

    /// Returns the next packet; `None` if none is complete within `wait`.
    ///
    /// # Errors
    ///
    /// The connection is closed, or the bytes are not a packet that a server may send.
    pub fn receive(&mut self, wait: Duration) -> Result<Option<Packet>, SocketError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(packet) = self.take_packet().map_err(SocketError::Malformed)? {
                return Ok(Some(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(100));
            self.stream.set_read_timeout(Some(left)).map_err(SocketError::Closed)?;
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(SocketError::Closed(ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.unread.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(SocketError::Closed(error)),
            }
        }
    }

    fn take_packet(&mut self) -> Result<Option<Packet>, Malformed> {
        let Some(length) = length_of_first(&self.unread)?.filter(|length| *length <= self.unread.len())
        else {
            return Ok(None);
        };
        let bytes: Vec<u8> = self.unread.drain(..length).collect();
        read_packet(self.version, &bytes).map(Some)
    }
}
