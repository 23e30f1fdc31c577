//! TLS and WebSocket over a blocking socket, with minimal cost.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rantai_load::connection::Layer;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// TLS client, whose first write or read performs the handshake.
#[derive(Debug)]
pub(crate) struct Tls(ClientConnection);

impl Tls {
    pub(crate) fn new(config: Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        Self(ClientConnection::new(config, name).expect("a client"))
    }
}

impl Layer for Tls {
    fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.0, socket).read(buffer)
    }

    fn write_all(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        let mut stream = rustls::Stream::new(&mut self.0, socket);
        stream.write_all(bytes)?;
        stream.flush()
    }
}

/// WebSocket client, optionally over TLS, whose first write sends the request. Its mask is zero, which costs nothing.
#[derive(Debug)]
pub(crate) struct Web {
    below: Option<Box<dyn Layer>>,
    begun: bool,
    frame: Vec<u8>,
    /// Bytes read and not returned yet: the beginning of a header, or the bytes after a frame.
    read: Vec<u8>,
    /// Number of payload bytes of the current frame that were not read yet.
    left: usize,
}

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
const READ_BYTES: usize = 16 << 10;

impl Web {
    pub(crate) fn new(below: Option<Box<dyn Layer>>) -> Self {
        Self { below, begun: false, frame: Vec::new(), read: Vec::new(), left: 0 }
    }

    fn read_below(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.below {
            None => socket.read(buffer),
            Some(layer) => layer.read(socket, buffer),
        }
    }

    fn write_below(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        match &mut self.below {
            None => socket.write_all(bytes),
            Some(layer) => layer.write_all(socket, bytes),
        }
    }

    /// Reads more bytes into `read`.
    fn fill(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        let before = self.read.len();
        self.read.resize(before + READ_BYTES, 0);
        let mut read = std::mem::take(&mut self.read);
        let count = self.read_below(socket, &mut read[before..]);
        read.truncate(before + *count.as_ref().unwrap_or(&0));
        self.read = read;
        if count? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn begin(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        self.write_below(socket, REQUEST)?;
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                if !self.read.starts_with(b"HTTP/1.1 101 ") {
                    return Err(io::Error::other("no WebSocket"));
                }
                self.read.drain(..end + 4);
                self.begun = true;
                return Ok(());
            }
            self.fill(socket)?;
        }
    }

    /// Returns the lengths of the header at the beginning of `read` and of its payload; `None` if it is incomplete.
    fn header(&self) -> Option<(usize, usize)> {
        match *self.read {
            [_, length @ ..=125, ..] => Some((2, length.into())),
            [_, 126, high, low, ..] => Some((4, u16::from_be_bytes([high, low]).into())),
            [_, 127, ref rest @ ..] => {
                let length = u64::from_be_bytes(*rest.first_chunk()?);
                usize::try_from(length).ok().map(|length| (10, length))
            }
            _ => None,
        }
    }
}

impl Layer for Web {
    fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            match self.header() {
                // Data frame, complete or a fragment; the broker has no reason to send other frames.
                Some((header, length)) if self.read[0] & 0x0F <= 2 => {
                    self.read.drain(..header);
                    self.left = length;
                }
                Some(_) => return Err(io::Error::other("a frame that is no data")),
                None => self.fill(socket)?,
            }
        }
        if self.read.is_empty() {
            let most = self.left.min(buffer.len());
            let count = self.read_below(socket, &mut buffer[..most])?;
            self.left -= count;
            return Ok(count);
        }
        let count = self.left.min(buffer.len()).min(self.read.len());
        buffer[..count].copy_from_slice(&self.read[..count]);
        self.read.drain(..count);
        self.left -= count;
        Ok(count)
    }

    fn write_all(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        if !self.begun {
            self.begin(socket)?;
        }
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.push(0x82);
        match u16::try_from(bytes.len()) {
            Ok(length @ ..126) => frame.push(0x80 | length as u8),
            Ok(length) => {
                frame.push(0x80 | 0x7E);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(bytes);
        let written = self.write_below(socket, &frame);
        self.frame = frame;
        written
    }
}
