//! Non-blocking socket of a client, for a thread with many of them.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rantai_load::packet::{Frame, Framing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

/// Timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of bytes requested by one `recv`.
const READ_BYTES: usize = 64 << 10;
/// Maximum size of a received packet, in bytes.
const MAX_PACKET_BYTES: usize = 4 << 20;

/// Connected socket with buffers of unsent and unread bytes.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    unsent: Vec<u8>,
    written: usize,
    unread: Vec<u8>,
    taken: usize,
}

impl Wire {
    /// Connects from the loopback address `from`. `receive_buffer` is the approximate size of the socket's receive
    /// buffer, in bytes.
    pub(crate) fn open(from: Ipv4Addr, to: SocketAddr, receive_buffer: Option<usize>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        // On systems other than Linux, 127.0.0.1 is the only loopback address.
        if cfg!(target_os = "linux") {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        socket.connect_timeout(&to.into(), CONNECT_TIMEOUT)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, unsent: Vec::new(), written: 0, unread: Vec::new(), taken: 0 })
    }

    /// Returns the buffer to append to.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// Returns the number of bytes that the socket has not accepted yet.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent.len() - self.written
    }

    /// Writes as many bytes as the socket accepts.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.written < self.unsent.len() {
            match self.stream.write(&self.unsent[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads at most `most` available bytes, and returns their number. Fails if the broker has closed the connection.
    pub(crate) fn fill(&mut self, most: usize) -> io::Result<usize> {
        self.unread.drain(..self.taken);
        self.taken = 0;
        if self.unread.len() > MAX_PACKET_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, "a packet larger than any that is due"));
        }
        let before = self.unread.len();
        self.unread.resize(before + most.min(READ_BYTES), 0);
        let read = loop {
            match self.stream.read(&mut self.unread[before..]) {
                Ok(0) => break Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => break Ok(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.unread.truncate(before + read.as_ref().copied().unwrap_or(0));
        read
    }

    /// Returns the next complete packet among the bytes read.
    pub(crate) fn next_frame(&mut self) -> Option<Frame<'_>> {
        let (header, length) = Framing::Mqtt.measure(&self.unread[self.taken..])?;
        let range = self.taken..self.taken + length;
        if range.end > self.unread.len() {
            return None;
        }
        self.taken = range.end;
        Some(Frame { framing: Framing::Mqtt, header, bytes: &self.unread[range] })
    }

    /// Discards the bytes read.
    pub(crate) fn forget(&mut self) {
        self.unread.clear();
        self.taken = 0;
    }

    /// Ends the connection with RST, like a host after a restart.
    pub(crate) fn reset(self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }
}

/// Waits until one of `wires` is readable, or is writable and has bytes to write, at most until the given time.
pub(crate) fn wait(wires: &[&Wire], until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    let mut fds: Vec<PollFd<'_>> = wires
        .iter()
        .map(|wire| {
            let writable = if wire.unsent() > 0 { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::new(&wire.stream, PollFlags::IN | writable)
        })
        .collect();
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
