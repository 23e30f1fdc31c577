//! Blocking client socket. Threads block in `recv`, which costs less per message than any poller and needs the fewest
//! wake-ups for a single request.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::failure::Failure;
use crate::packet::{self, CONNACK, DISCONNECTED, Frame, Framing, SUBACK};

/// Timeout of each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
const MIN_BUFFER_BYTES: usize = 1 << 10;
const MAX_BUFFER_BYTES: usize = 512 << 10;

/// Layer between the connection and its socket, such as TLS. Reads and writes block.
pub trait Layer: std::fmt::Debug + Send {
    /// Reads once; returns 0 at the end of the stream.
    fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes.
    fn write_all(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()>;
}

/// Connected client.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    layer: Option<Box<dyn Layer>>,
    framing: Framing,
    deadline: Instant,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    /// Connects the socket, without sending CONNECT.
    pub fn open(address: SocketAddr, framing: Framing, deadline: Instant) -> Result<Self, Failure> {
        Self::over(TcpStream::connect_timeout(&address, IO_TIMEOUT)?, framing, deadline)
    }

    /// Connects from one of many loopback addresses: a closed connection blocks its pair of ports for a minute, and a
    /// single source address has only about 28,000 ports.
    pub fn open_numbered(address: SocketAddr, number: usize, deadline: Instant) -> Result<Self, Failure> {
        if !cfg!(target_os = "linux") {
            return Self::open(address, Framing::Mqtt, deadline);
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let source = Ipv4Addr::new(127, 0, 1, 1 + (number % 250) as u8);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect_timeout(&address.into(), IO_TIMEOUT)?;
        Self::over(socket.into(), Framing::Mqtt, deadline)
    }

    fn over(stream: TcpStream, framing: Framing, deadline: Instant) -> Result<Self, Failure> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        Ok(Self { stream, layer: None, framing, deadline, buffer: Vec::new(), start: 0, end: 0 })
    }

    /// Sets the layer above the socket. The layer must not have sent anything yet.
    #[must_use]
    pub fn with_layer(self, layer: Option<Box<dyn Layer>>) -> Self {
        Self { layer, ..self }
    }

    /// Sends CONNECT and waits for the CONNACK.
    pub fn log_in(&mut self, client_id: &str) -> Result<(), Failure> {
        self.send(&packet::connect(client_id))?;
        self.connected()
    }

    /// Connects, sends CONNECT and waits for the CONNACK.
    pub fn mqtt(address: SocketAddr, client_id: &str, deadline: Instant) -> Result<Self, Failure> {
        let mut connection = Self::open(address, Framing::Mqtt, deadline)?;
        connection.log_in(client_id)?;
        Ok(connection)
    }

    /// Waits for the CONNACK of a CONNECT that was sent before.
    pub fn connected(&mut self) -> Result<(), Failure> {
        match self.wait_for(CONNACK)?.reason() {
            0 => Ok(()),
            reason => Err(Failure::new(format!("CONNECT was refused with {reason:#04x}"))),
        }
    }

    /// Sends SUBSCRIBE and waits for the SUBACK.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> Result<(), Failure> {
        self.send(&packet::subscribe(1, &[filter], qos))?;
        packet::granted(self.wait_for(SUBACK)?.body(), 1)
    }

    /// Returns the next frame of this type; drops frames of other types before it.
    pub fn wait_for(&mut self, kind: u8) -> Result<Frame<'_>, Failure> {
        loop {
            while let Some((header, range)) = self.next_range() {
                let frame = Frame { framing: self.framing, header, bytes: &self.buffer[range.clone()] };
                let found = frame.kind();
                if found == kind {
                    // Borrowed again, because the borrow checker cannot see that the loop ends here.
                    return Ok(Frame { framing: self.framing, header, bytes: &self.buffer[range] });
                }
                refuse_disconnect(frame)?;
            }
            self.fill()?;
        }
    }

    /// Writes all bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.layer {
            None => Ok(self.stream.write_all(bytes)?),
            Some(layer) => Ok(layer.write_all(&mut self.stream, bytes)?),
        }
    }

    /// Writes the contents of `out` and clears it; does nothing if it is empty.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        if !out.is_empty() {
            self.send(out)?;
            out.clear();
        }
        Ok(())
    }

    /// Calls `recv` once. Fails after the deadline, after a timeout, and if the peer has closed the connection.
    pub fn fill(&mut self) -> Result<(), Failure> {
        if Instant::now() > self.deadline {
            return Err(Failure::new("the time for this measurement is over"));
        }
        self.make_room();
        let read = loop {
            let room = &mut self.buffer[self.end..];
            let read = match &mut self.layer {
                None => self.stream.read(room),
                Some(layer) => layer.read(&mut self.stream, room),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if read == 0 {
            return Err(Failure::new("the broker closed the connection"));
        }
        self.end += read;
        Ok(())
    }

    /// Makes room in the buffer. The buffer grows only after a read that filled it, so that an idle client stays small
    /// and a busy one receives many frames per call.
    fn make_room(&mut self) {
        if self.start == self.end {
            let was_full = self.end == self.buffer.len();
            self.start = 0;
            self.end = 0;
            if was_full {
                self.grow();
            }
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.end * 2 > self.buffer.len() || self.buffer.len() < MAX_BUFFER_BYTES {
                self.grow();
            }
        }
    }

    fn grow(&mut self) {
        let larger = (self.buffer.len() * 4).clamp(MIN_BUFFER_BYTES, MAX_BUFFER_BYTES);
        // A frame that is larger than `MAX_BUFFER_BYTES` still has to fit.
        let larger = if self.end == larger { larger * 2 } else { larger };
        self.buffer.resize(larger.max(self.buffer.len()), 0);
    }

    /// Returns the next complete frame that is already in the buffer.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Failure> {
        let Some((header, range)) = self.next_range() else {
            return Ok(None);
        };
        let frame = Frame { framing: self.framing, header, bytes: &self.buffer[range] };
        refuse_disconnect(frame)?;
        Ok(Some(frame))
    }

    fn next_range(&mut self) -> Option<(usize, std::ops::Range<usize>)> {
        let (header, length) = self.framing.measure(&self.buffer[self.start..self.end])?;
        let range = self.start..self.start + length;
        if range.end > self.end {
            return None;
        }
        self.start = range.end;
        Some((header, range))
    }

    /// Returns a handle that closes this connection from another thread.
    pub fn closer(&self) -> Result<Closer, Failure> {
        Ok(Closer(self.stream.try_clone()?))
    }

    /// Returns the socket and drops the buffer, for thousands of idle clients.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

fn refuse_disconnect(frame: Frame<'_>) -> Result<(), Failure> {
    if frame.kind() == DISCONNECTED {
        return Err(Failure::new(format!("the broker sent DISCONNECT {:#04x}", frame.reason())));
    }
    Ok(())
}

/// Handle that closes a connection on drop, even if its owner is blocked in a read.
#[derive(Debug)]
pub struct Closer(TcpStream);

impl Drop for Closer {
    fn drop(&mut self) {
        // Fails only if the peer has closed the connection first.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
