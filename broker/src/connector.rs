//! Connections from the broker's own process, without a socket.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;

use crate::config::Listener;
use crate::counters::Counters;
use crate::hub::Hub;
use crate::listener_rules::ListenerRules;
use crate::transport::{MemoryEnd, Socket, Transport, memory_pair};
use crate::workers::Workers;

/// Maximum number of bytes that each end of a connection may write before the other one reads them, like the buffers
/// of a socket.
const CHANNEL_BYTES: usize = 256 << 10;
/// Maximum number of successful reads in a row before the reading task yields.
const READS_PER_TURN: u8 = 32;

/// Opens connections to a broker from its own process. Cheap to clone; does not keep the broker alive.
///
/// The connections are like any other: they carry MQTT, and limits and access rules apply. Only clients with [local
/// credentials](crate::Broker::local_credentials) can log in.
#[derive(Clone, Debug)]
pub struct Connector {
    hub: Weak<Hub>,
    runtime: Handle,
    rules: Arc<ListenerRules>,
}

impl Connector {
    pub(crate) fn new(hub: &Arc<Hub>, workers: &Workers) -> Self {
        let nobody =
            Listener { anonymous: Some(false), users: Some(Vec::new()), ..Listener::tcp(LOCAL_ADDRESS) };
        let rules = ListenerRules::of(&nobody).expect("it has no TLS files");
        Self { hub: Arc::downgrade(hub), runtime: workers.own().clone(), rules: Arc::new(rules) }
    }

    /// Opens a connection. Does not block.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if the broker has stopped.
    pub fn connect(&self) -> io::Result<LocalStream> {
        let hub = self.hub.upgrade().filter(|hub| !*hub.shared.stopping.borrow());
        let hub =
            hub.ok_or_else(|| io::Error::new(io::ErrorKind::ConnectionRefused, "the broker has stopped"))?;
        Counters::add(&hub.shared.counters.connections, 1);
        let (ours, theirs) = memory_pair(CHANNEL_BYTES);
        let transport = Transport::Plain(Socket::Memory(ours));
        self.runtime.spawn(crate::handshake::accept(hub, transport, LOCAL_ADDRESS, self.rules.clone()));
        Ok(LocalStream { end: theirs, reads: 0 })
    }
}

/// Address of these connections in logs. No other connection has this address, so none can use up its places.
const LOCAL_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Stream of bytes of a connection that a [`Connector`] has opened. Dropping it closes the connection.
#[derive(Debug)]
pub struct LocalStream {
    end: MemoryEnd,
    /// Number of successful reads in a row.
    reads: u8,
}

impl AsyncRead for LocalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.reads >= READS_PER_TURN {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.end.poll_read(cx, buffer) {
            Poll::Ready(read) => {
                self.reads += 1;
                Poll::Ready(read.map(drop))
            }
            Poll::Pending => {
                self.reads = 0;
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.end.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.end.poll_writable(cx));
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end.shutdown(Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
