//! Encoding of frames to a client.

use std::io::{self, IoSlice};
use std::net::Shutdown;

use super::super::stream::Stream;

/// Maximum length of an unmasked frame's header.
const HEADER_BYTES: usize = 10;
/// Maximum number of slices per write.
const MAX_SLICES: usize = 16;

/// Opcodes with the FIN bit (RFC 6455, 5.2).
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8A;

/// Encoder state: the unfinished frame, and the control frames that follow it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Whether frames are written, rather than HTTP.
    begun: bool,
    /// Bytes of headers and control frames that the socket has not accepted.
    unsent: Vec<u8>,
    /// Number of bytes missing from the unfinished frame.
    frame_left: usize,
    /// Payload of a pong to be sent between two frames.
    pong: Option<Vec<u8>>,
    /// Status code of a close frame to be sent between two frames.
    close: Option<u16>,
    /// Status code that replaces the close frame's own.
    close_code: Option<u16>,
    /// Whether the close frame was sent, or is in `unsent`, so that nothing may follow it.
    closed: bool,
    /// Whether to shut down the socket for writing when everything is sent.
    ends: bool,
}

impl Outgoing {
    /// Switches to writing frames.
    pub(super) fn begin(&mut self) {
        self.begun = true;
    }

    /// Sends the bytes in one frame, or as the rest of the unfinished one. Returns the number of accepted bytes.
    pub(super) fn write(&mut self, below: &Stream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.begun {
            return below.try_write_vectored(pieces);
        }
        if !self.flush(below)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let pieces = &pieces[..pieces.len().min(MAX_SLICES)];
        let offered = pieces.iter().map(|piece| piece.len()).sum();
        if offered == 0 {
            return Ok(0);
        }
        let mut header = [0; HEADER_BYTES];
        let mut header_length = 0;
        let mut length: usize = self.frame_left;
        if length == 0 {
            length = offered;
            header_length = write_header(BINARY, length, &mut header);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES + 1];
        slices[0] = IoSlice::new(&header[..header_length]);
        let mut left = length;
        for (slice, piece) in slices[1..].iter_mut().zip(pieces) {
            let part = &piece[..piece.len().min(left)];
            left -= part.len();
            *slice = IoSlice::new(part);
        }
        let first = usize::from(header_length == 0);
        let written = below.try_write_vectored(&slices[first..=pieces.len()])?;
        let Some(taken) = written.checked_sub(header_length) else {
            self.unsent.extend_from_slice(&header[written..header_length]);
            self.frame_left = length;
            return Err(io::ErrorKind::WouldBlock.into());
        };
        self.frame_left = length - taken;
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Answers a ping with this payload, replacing an earlier one that was not answered yet.
    pub(super) fn answer_ping(&mut self, payload: Option<Vec<u8>>) {
        if payload.is_some() {
            self.pong = payload;
        }
    }

    /// Sends a close frame, the last frame.
    pub(super) fn close(&mut self, code: u16) {
        if self.begun && !self.closed && self.close.is_none() {
            self.close = Some(self.close_code.unwrap_or(code));
        }
    }

    /// Sets the status code of the close frame, whenever that is sent. Only the first code is kept.
    pub(super) fn set_close_code(&mut self, code: u16) {
        self.close_code.get_or_insert(code);
    }

    /// Shuts down the socket for writing when everything is sent.
    pub(super) fn end_when_sent(&mut self) {
        self.ends = true;
    }

    /// Checks whether [`end_when_sent`](Self::end_when_sent) was called.
    pub(super) fn is_ending(&self) -> bool {
        self.ends
    }

    /// Returns whether bytes have to be sent before the caller's next ones.
    pub(super) fn has_unsent(&self) -> bool {
        let waiting = self.pong.is_some() || self.close.is_some();
        !self.unsent.is_empty() || waiting && self.frame_left == 0
    }

    /// Sends unsent bytes and control frames. Returns whether none are left.
    pub(super) fn flush(&mut self, below: &Stream) -> io::Result<bool> {
        self.encode_control_frames();
        while !self.unsent.is_empty() {
            match below.try_write(&self.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Idle connections have no buffer.
        self.unsent = Vec::new();
        if self.ends {
            below.shutdown(Shutdown::Write);
        }
        Ok(true)
    }

    /// Encodes waiting control frames, unless a frame is unfinished.
    fn encode_control_frames(&mut self) {
        if self.frame_left > 0 {
            return;
        }
        if let Some(payload) = self.pong.take()
            && !self.closed
        {
            self.append(PONG, &payload);
        }
        if let Some(code) = self.close.take() {
            self.closed = true;
            self.append(CLOSE, &code.to_be_bytes());
        }
    }

    fn append(&mut self, first: u8, payload: &[u8]) {
        let mut header = [0; HEADER_BYTES];
        let length = write_header(first, payload.len(), &mut header);
        self.unsent.extend_from_slice(&header[..length]);
        self.unsent.extend_from_slice(payload);
    }
}

/// Writes the header of a frame. Returns its length.
fn write_header(first: u8, length: usize, header: &mut [u8; HEADER_BYTES]) -> usize {
    header[0] = first;
    if length < 126 {
        header[1] = length as u8;
        return 2;
    }
    if let Ok(length) = u16::try_from(length) {
        header[1] = 126;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        return 4;
    }
    header[1] = 127;
    header[2..].copy_from_slice(&(length as u64).to_be_bytes());
    HEADER_BYTES
}
