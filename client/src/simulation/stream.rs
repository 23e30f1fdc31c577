//! The client's end of a connection, which the session reads and writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use super::link::End;
use super::world::World;

/// Address of a simulated broker.
#[derive(Clone)]
pub(crate) struct SimulatedPlace {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) broker: usize,
}

impl PartialEq for SimulatedPlace {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.world, &other.world) && self.broker == other.broker
    }
}

impl Eq for SimulatedPlace {}

/// Outcome of an attempt to connect.
#[derive(Debug)]
pub(super) enum Dialed {
    Connected { after_ms: u64 },
    Refused { after_ms: u64 },
    Silent,
}

impl SimulatedPlace {
    /// Returns the number of the broker.
    pub(crate) fn number(&self) -> usize {
        self.broker
    }

    pub(crate) async fn connect(&self) -> io::Result<SimulatedStream> {
        let dialed = self.world.lock().dial(self.broker);
        match dialed {
            Dialed::Connected { after_ms } => {
                sleep(Duration::from_millis(after_ms)).await;
                let link = self.world.lock().open(self.broker);
                Ok(SimulatedStream { world: self.world.clone(), link })
            }
            Dialed::Refused { after_ms } => {
                sleep(Duration::from_millis(after_ms)).await;
                Err(io::ErrorKind::ConnectionRefused.into())
            }
            Dialed::Silent => std::future::pending().await,
        }
    }
}

pub(crate) struct SimulatedStream {
    world: Arc<Mutex<World>>,
    link: u64,
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        self.world.lock().dropped(self.link);
    }
}

impl AsyncRead for SimulatedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let number = self.link;
        let mut world = self.world.lock();
        let read = world.with_link(number, |world, link| {
            if link.readable.is_empty() {
                return match link.end {
                    Some(End::Closed) => Poll::Ready(Ok(())),
                    Some(End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                    None => {
                        link.reader = Some(context.waker().clone());
                        Poll::Pending
                    }
                };
            }
            let size = world.slice(link.readable.len().min(buffer.remaining()));
            let bytes: Vec<u8> = link.readable.drain(..size).collect();
            buffer.put_slice(&bytes);
            world.edge_reads(link, &bytes);
            Poll::Ready(Ok(()))
        });
        read.expect("a link lives as long as its stream")
    }
}

impl AsyncWrite for SimulatedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let number = self.link;
        let mut world = self.world.lock();
        let written = world.with_link(number, |world, link| {
            let room = match link.room(bytes.len()) {
                Ok(0) => {
                    world.reach("write waits");
                    link.edge.is_blocked = true;
                    link.writer = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Ok(room) => room,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let size = world.slice(room);
            world.edge_writes(link, &bytes[..size]);
            world.transmit(link, super::link::Direction::ToBroker, &bytes[..size]);
            Poll::Ready(Ok(size))
        });
        written.expect("a link lives as long as its stream")
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
