//! Byte stream in memory.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;

/// Capacity above which the buffer of a direction is released when it has been read completely.
const KEPT_BYTES: usize = 16 << 10;

/// One end of a stream.
#[derive(Debug)]
pub(crate) struct MemoryEnd {
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

/// Wakes a task after the lock was released, so that the task does not wait for the lock.
fn wake(waiting: Option<Waker>) {
    if let Some(waker) = waiting {
        waker.wake();
    }
}

/// Sets the waker, without a clone if the same task waits already.
fn wait(waiting: &mut Option<Waker>, cx: &Context<'_>) {
    match waiting {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waiting = Some(cx.waker().clone()),
    }
}

/// Creates two connected ends, each of which accepts `capacity` bytes before writes would block.
pub(crate) fn memory_pair(capacity: usize) -> (MemoryEnd, MemoryEnd) {
    let pipe = || {
        let state = Mutex::default();
        Arc::new(Pipe { capacity, state })
    };
    let (one, other) = (pipe(), pipe());
    let first = MemoryEnd { incoming: one.clone(), outgoing: other.clone() };
    (first, MemoryEnd { incoming: other, outgoing: one })
}

impl Pipe {
    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waiting = [state.reader.take(), state.writer.take()];
        drop(state);
        waiting.into_iter().for_each(wake);
    }

    fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        let mut state = self.state.lock();
        if state.bytes.is_empty() {
            return if state.closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = state.bytes.len().min(buffer.remaining_mut());
        buffer.put_slice(&state.bytes[..count]);
        if count < state.bytes.len() {
            state.bytes.advance(count);
        } else if state.bytes.capacity() > KEPT_BYTES {
            state.bytes = BytesMut::new();
        } else {
            state.bytes.clear();
        }
        let writer = state.writer.take();
        drop(state);
        wake(writer);
        Ok(count)
    }
}

impl MemoryEnd {
    pub(crate) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        self.incoming.try_read(buffer)
    }

    /// Reads, or registers the task to be woken when something can be read.
    pub(crate) fn poll_read(&self, cx: &Context<'_>, buffer: &mut impl BufMut) -> Poll<io::Result<usize>> {
        loop {
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.poll_readable(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                read => return Poll::Ready(read),
            }
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    pub(crate) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.outgoing.state.lock();
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut written = 0;
        for piece in pieces {
            let count = piece.len().min(self.outgoing.capacity - state.bytes.len());
            state.bytes.extend_from_slice(&piece[..count]);
            written += count;
        }
        if written == 0 && pieces.iter().any(|piece| !piece.is_empty()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let reader = state.reader.take();
        drop(state);
        wake(reader);
        Ok(written)
    }

    /// Returns the number of bytes written to this end that the other one has not read.
    #[cfg(test)]
    pub(super) fn unread(&self) -> usize {
        self.outgoing.state.lock().bytes.len()
    }

    /// Discards the bytes that were written to this end and not read, except for the first `keep`.
    #[cfg(test)]
    pub(super) fn lose(&self, keep: usize) {
        self.outgoing.state.lock().bytes.truncate(keep);
    }

    pub(super) fn is_read_closed(&self) -> bool {
        self.incoming.state.lock().closed
    }

    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.incoming.state.lock();
        if state.closed || !state.bytes.is_empty() {
            return Poll::Ready(());
        }
        wait(&mut state.reader, cx);
        Poll::Pending
    }

    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.outgoing.state.lock();
        if state.closed || state.bytes.len() < self.outgoing.capacity {
            return Poll::Ready(());
        }
        wait(&mut state.writer, cx);
        Poll::Pending
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Read {
            self.outgoing.close();
        }
        if how != Shutdown::Write {
            self.incoming.close();
        }
    }
}

impl Drop for MemoryEnd {
    fn drop(&mut self) {
        self.shutdown(Shutdown::Both);
    }
}
