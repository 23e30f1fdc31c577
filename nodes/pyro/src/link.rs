//! Frames on a connection, with time limits.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use ring::hmac;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use crate::frame::{Frame, FrameError, FrameLimits};

/// Number of bytes for which room is made before each read.
const READ: usize = 8 << 10;
/// Capacity above which an empty buffer is given back.
const KEPT: usize = 64 << 10;

/// Connection that frames are read from and written to.
pub(crate) struct Link<S> {
    pub(crate) stream: S,
    buffer: BytesMut,
    limits: FrameLimits,
    key: Option<hmac::Key>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(crate) fn new(stream: S, limits: FrameLimits, key: Option<hmac::Key>) -> Self {
        Self { stream, buffer: BytesMut::new(), limits, key }
    }

    /// Reads the next frame. Its first byte has to arrive within `idle`, `None` for no limit, and the rest of it within
    /// `arrival`. Cancelling loses nothing.
    ///
    /// # Errors
    ///
    /// What arrives is no frame or too late, or the connection has ended.
    pub(crate) async fn read(
        &mut self,
        idle: Option<Duration>,
        arrival: Duration,
    ) -> Result<Frame, FrameError> {
        let first = idle.map(|idle| Instant::now() + idle);
        let mut deadline = if self.buffer.is_empty() { first } else { Some(Instant::now() + arrival) };
        loop {
            if let Some((frame, size)) = Frame::read(&self.buffer, self.limits, self.key.as_ref())? {
                self.buffer.advance(size);
                if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
                    self.buffer = BytesMut::new();
                }
                return Ok(frame);
            }
            let was_empty = self.buffer.is_empty();
            self.buffer.reserve(READ);
            let reading = self.stream.read_buf(&mut self.buffer);
            let read = match deadline {
                Some(deadline) => timeout_at(deadline, reading).await.map_err(|_| FrameError::TimedOut)?,
                None => reading.await,
            };
            if read? == 0 {
                return Err(FrameError::Closed);
            }
            if was_empty {
                deadline = Some(Instant::now() + arrival);
            }
        }
    }

    /// Writes a frame within a time limit.
    ///
    /// # Errors
    ///
    /// The peer does not read in time, or the connection has ended.
    pub(crate) async fn write(&mut self, frame: &Frame, limit: Duration) -> Result<(), FrameError> {
        let bytes = frame.write(self.key.as_ref());
        let written = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        timeout(limit, written).await.map_err(|_| FrameError::TimedOut)??;
        Ok(())
    }

    /// Waits until the peer has closed the connection. What it sends meanwhile is kept, up to the size of one frame. Cancel safe.
    pub(crate) async fn closed(&mut self) {
        while self.buffer.len() <= self.limits.bytes {
            self.buffer.reserve(READ);
            if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Flags, Kind, Version};

    const LIMITS: FrameLimits = FrameLimits { bytes: 1_000 };
    const SECOND: Duration = Duration::from_secs(1);

    fn frame(version: Version, data: &[u8]) -> Frame {
        Frame {
            version,
            kind: Kind::Ping,
            serializer: 1,
            flags: Flags::default(),
            sequence: 3,
            correlation: None,
            annotations: Vec::new(),
            data: data.to_vec().into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_arrive_in_pieces_and_together() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut link = Link::new(near, LIMITS, None);
        let sent: Vec<Frame> =
            [Version::Five, Version::Four].map(|version| frame(version, &[7; 500])).into_iter().collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|frame| frame.write(None)).collect();
        let writing = tokio::spawn(async move {
            far.write_all(&bytes).await.expect("written");
            far
        });
        for expected in &sent {
            assert_eq!(link.read(None, SECOND).await.expect("a frame"), *expected);
        }
        drop(writing.await.expect("no panic"));
        assert!(matches!(link.read(None, SECOND).await, Err(FrameError::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_stops_in_the_middle_times_out_and_an_idle_connection_does_not() {
        let (near, mut far) = tokio::io::duplex(1_000);
        let mut link = Link::new(near, LIMITS, None);
        assert!(timeout(Duration::from_hours(1), link.read(None, SECOND)).await.is_err(), "idle for an hour");
        assert!(matches!(link.read(Some(SECOND), SECOND).await, Err(FrameError::TimedOut)));
        far.write_all(b"PYRO").await.expect("written");
        assert!(matches!(link.read(None, SECOND).await, Err(FrameError::TimedOut)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_times_out() {
        let (near, _far) = tokio::io::duplex(100);
        let mut link = Link::new(near, LIMITS, None);
        let written = link.write(&frame(Version::Five, &[0; 500]), SECOND).await;
        assert!(matches!(written, Err(FrameError::TimedOut)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_while_the_end_is_awaited_is_read_later() {
        let (near, mut far) = tokio::io::duplex(1_000);
        let mut link = Link::new(near, LIMITS, None);
        far.write_all(&frame(Version::Five, b"x").write(None)).await.expect("written");
        assert!(timeout(SECOND, link.closed()).await.is_err());
        assert_eq!(link.read(None, SECOND).await.expect("a frame").data, b"x"[..]);
        drop(far);
        timeout(SECOND, link.closed()).await.expect("closed");
    }
}
