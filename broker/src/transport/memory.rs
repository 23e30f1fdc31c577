//! A byte stream in memory.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;

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
}

#[derive(Debug, Default)]
struct PipeState {
    bytes: BytesMut,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

/// Creates two connected ends, each of which takes `capacity` bytes before writes would block.
pub(super) fn pair(capacity: usize) -> (End, End) {
    let pipe = || {
        let state = Mutex::default();
        Arc::new(Pipe { capacity, state })
    };
    let (one, other) = (pipe(), pipe());
    (End { incoming: one.clone(), outgoing: other.clone() }, End { incoming: other, outgoing: one })
}

impl Pipe {
    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        wake(&mut state.reader);
        wake(&mut state.writer);
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
        wake(&mut state.writer);
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
        wake(&mut state.reader);
        Ok(count)
    }

    /// Returns how many bytes written to this end the other one has not read.
    pub(super) fn unread(&self) -> usize {
        self.outgoing.state.lock().bytes.len()
    }

    /// Loses what was written to this end and not read, but for the first `keep` bytes.
    pub(super) fn lose(&self, keep: usize) {
        self.outgoing.state.lock().bytes.truncate(keep);
    }

    pub(super) fn is_read_closed(&self) -> bool {
        self.incoming.state.lock().closed
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.incoming.state.lock();
        if state.closed || !state.bytes.is_empty() {
            return Poll::Ready(());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.outgoing.state.lock();
        if state.closed || state.bytes.len() < self.outgoing.capacity {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
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
