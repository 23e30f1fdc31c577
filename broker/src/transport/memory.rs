//! A byte stream in memory.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// One end of a stream.
#[derive(Debug)]
pub(crate) struct End {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
}

/// One direction of a stream.
#[derive(Debug)]
struct Pipe {
    capacity: usize,
    state: Mutex<PipeState>,
    readable: Notify,
    writable: Notify,
}

#[derive(Debug, Default)]
struct PipeState {
    bytes: BytesMut,
    closed: bool,
}

/// Two ends, each of which takes `capacity` bytes before writes would block.
pub(super) fn pair(capacity: usize) -> (End, End) {
    let pipe = || {
        let state = Mutex::default();
        Arc::new(Pipe { capacity, state, readable: Notify::new(), writable: Notify::new() })
    };
    let (one, other) = (pipe(), pipe());
    (End { incoming: one.clone(), outgoing: other.clone() }, End { incoming: other, outgoing: one })
}

impl Pipe {
    fn close(&self) {
        self.state.lock().closed = true;
        self.readable.notify_one();
        self.writable.notify_one();
    }
}

impl End {
    pub(super) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        let mut state = self.incoming.state.lock();
        if state.bytes.is_empty() {
            return if state.closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = state.bytes.len().min(buffer.remaining_mut());
        buffer.put_slice(&state.bytes[..count]);
        state.bytes.advance(count);
        self.incoming.writable.notify_one();
        Ok(count)
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.outgoing.state.lock();
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.outgoing.capacity - state.bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.bytes.extend_from_slice(&bytes[..count]);
        self.outgoing.readable.notify_one();
        Ok(count)
    }

    pub(super) async fn readable(&self) {
        loop {
            {
                let state = self.incoming.state.lock();
                if state.closed || !state.bytes.is_empty() {
                    return;
                }
            }
            self.incoming.readable.notified().await;
        }
    }

    pub(super) async fn writable(&self) {
        loop {
            {
                let state = self.outgoing.state.lock();
                if state.closed || state.bytes.len() < self.outgoing.capacity {
                    return;
                }
            }
            self.outgoing.writable.notified().await;
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Read {
            self.outgoing.close();
        }
        if how != Shutdown::Write {
            self.incoming.close();
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown(Shutdown::Both);
    }
}
