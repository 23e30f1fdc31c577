//! Stream that records the first bytes that are read, so that an error can tell which protocol the peer speaks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Number of recorded bytes: enough to recognize a protocol.
const RECORDED_BYTES: usize = 8;

/// First bytes that were read. Outlives the stream, which a failed handshake drops.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstBytes(Arc<Mutex<Vec<u8>>>);

impl FirstBytes {
    pub(super) fn read(&self) -> Vec<u8> {
        self.0.lock().clone()
    }
}

/// Stream whose first bytes are recorded.
pub(super) struct Heard<S> {
    inner: S,
    first: FirstBytes,
    /// Whether [`RECORDED_BYTES`] bytes are recorded.
    is_done: bool,
}

impl<S> Heard<S> {
    pub(super) fn new(inner: S, first: FirstBytes) -> Self {
        Self { inner, first, is_done: false }
    }

    pub(super) fn below(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let heard = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut heard.inner).poll_read(context, buffer))?;
        if !heard.is_done {
            let mut first = heard.first.0.lock();
            let left = RECORDED_BYTES - first.len();
            first.extend(buffer.filled()[before..].iter().take(left));
            heard.is_done = first.len() == RECORDED_BYTES;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}
