//! A client's socket that never blocks, for one thread that has many of them.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rantai_load::packet::{Frame, Framing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

/// How long connecting may take before the broker counts as not answering.
const CONNECTING: Duration = Duration::from_secs(5);
/// Bytes that one `recv` asks for.
const CHUNK: usize = 64 << 10;
/// Bytes of a packet that is received, at most.
const LARGEST_PACKET: usize = 4 << 20;

/// A connected socket with what has not been written and not been taken yet.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    unsent: Vec<u8>,
    written: usize,
    unread: Vec<u8>,
    taken: usize,
}

impl Wire {
    /// Connects from the loopback address `from`. With `receive_buffer` the kernel holds no more than about so many
    /// bytes of what is not read.
    pub(crate) fn open(from: Ipv4Addr, to: SocketAddr, receive_buffer: Option<usize>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        // Elsewhere than on Linux 127.0.0.1 is the only address of the loopback.
        if cfg!(target_os = "linux") {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        socket.connect_timeout(&to.into(), CONNECTING)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, unsent: Vec::new(), written: 0, unread: Vec::new(), taken: 0 })
    }

    /// Where to append what is to be written.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent.len() - self.written
    }

    /// Writes as much as the socket takes.
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

    /// Reads what has come, at most `most` bytes, and returns how many these were. Fails where the broker has closed.
    pub(crate) fn fill(&mut self, most: usize) -> io::Result<usize> {
        self.unread.drain(..self.taken);
        self.taken = 0;
        if self.unread.len() > LARGEST_PACKET {
            return Err(io::Error::new(ErrorKind::InvalidData, "a packet larger than any that is due"));
        }
        let before = self.unread.len();
        self.unread.resize(before + most.min(CHUNK), 0);
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

    /// The next whole packet of what was read.
    pub(crate) fn next_frame(&mut self) -> Option<Frame<'_>> {
        let (header, length) = Framing::Mqtt.measure(&self.unread[self.taken..])?;
        let range = self.taken..self.taken + length;
        if range.end > self.unread.len() {
            return None;
        }
        self.taken = range.end;
        Some(Frame { framing: Framing::Mqtt, header, bytes: &self.unread[range] })
    }

    /// Throws away what was read.
    pub(crate) fn forget(&mut self) {
        self.unread.clear();
        self.taken = 0;
    }

    /// Ends the connection with RST, as a host that was restarted does.
    pub(crate) fn reset(self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }
}

/// Waits until one of `wires` can be read, or can be written where it has something to write; no longer than until a
/// time.
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
