//! Blocking variant of [`Stream`](crate::Stream).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use crate::files::client_config;
use crate::frames::{Incoming, end_of_answer, framed, request};
use crate::place::{At, Place};

/// Timeout of the transport's handshakes.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Blocking connection to a broker, after the handshakes of its transport.
pub struct BlockingStream {
    /// Second handle of the socket, for timeouts and shutdown.
    socket: Socket,
    bytes: Box<dyn Bytes>,
    web: Option<Incoming>,
}

trait Bytes: Read + Write + Send {}

impl<T: Read + Write + Send> Bytes for T {}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Place {
    /// Connects. Blocks until the handshakes are complete.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or not with this transport.
    ///
    /// # Panics
    ///
    /// Panics if the certificates of [`server_files`](crate::server_files) cannot be used.
    pub fn open_blocking(&self) -> io::Result<BlockingStream> {
        let (socket, name) = match &self.at {
            At::Port(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                (Socket::Tcp(stream), ServerName::from(address.ip()))
            }
            At::Socket(path) => {
                (Socket::Unix(UnixStream::connect(path)?), "localhost".try_into().expect("a name"))
            }
        };
        let beneath = socket.try_clone()?;
        let bytes: Box<dyn Bytes> = if self.transport().uses_tls() {
            let connection = ClientConnection::new(client_config(), name).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(connection, beneath))
        } else {
            Box::new(beneath)
        };
        let mut stream = BlockingStream { socket, bytes, web: None };
        if self.transport().uses_web() {
            stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
            stream.upgrade(&self.address().to_string())?;
            stream.set_read_timeout(None)?;
        }
        Ok(stream)
    }
}

impl BlockingStream {
    fn upgrade(&mut self, host: &str) -> io::Result<()> {
        self.bytes.write_all(request(host).as_bytes())?;
        self.bytes.flush()?;
        let mut answer = Vec::new();
        let end = loop {
            if let Some(end) = end_of_answer(&answer).map_err(io::Error::other)? {
                break end;
            }
            let mut chunk = [0; 1 << 10];
            match self.bytes.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&chunk[..count]),
            }
        };
        let mut incoming = Incoming::default();
        incoming.feed(&answer[end..])?;
        self.web = Some(incoming);
        Ok(())
    }

    /// Sets the timeout of each read; `None` waits without limit.
    ///
    /// # Errors
    ///
    /// The timeout is zero.
    pub fn set_read_timeout(&self, wait: Option<Duration>) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(wait),
            Socket::Unix(stream) => stream.set_read_timeout(wait),
        }
    }

    /// Sets the timeout of each write; `None` waits without limit.
    ///
    /// # Errors
    ///
    /// The timeout is zero.
    pub fn set_write_timeout(&self, wait: Option<Duration>) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(stream) => stream.set_write_timeout(wait),
            Socket::Unix(stream) => stream.set_write_timeout(wait),
        }
    }

    /// Shuts the socket down below all layers: without a close frame of WebSocket, and without an alert of TLS.
    ///
    /// # Errors
    ///
    /// The socket is no longer connected.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        }
    }
}

impl Read for BlockingStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(incoming) = &mut self.web else { return self.bytes.read(buffer) };
        loop {
            let count = incoming.take(buffer);
            if count > 0 || incoming.is_at_end() {
                return Ok(count);
            }
            let mut chunk = [0; 8 << 10];
            let count = self.bytes.read(&mut chunk)?;
            if count == 0 {
                return Ok(0);
            }
            incoming.feed(&chunk[..count])?;
            let answers = std::mem::take(&mut incoming.answers);
            if !answers.is_empty() {
                // Fails if the other side has closed the connection, and will not read the answers.
                let _ = self.bytes.write_all(&answers).and_then(|()| self.bytes.flush());
            }
        }
    }
}

impl Write for BlockingStream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        if self.web.is_none() {
            let count = self.bytes.write(from)?;
            self.bytes.flush()?;
            return Ok(count);
        }
        let (frame, count) = framed(from);
        self.bytes.write_all(&frame)?;
        self.bytes.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bytes.flush()
    }
}

impl fmt::Debug for BlockingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Socket {
    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(from),
            Self::Unix(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
