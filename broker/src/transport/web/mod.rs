//! MQTT over WebSocket (RFC 6455; MQTT 5, 6): the stream is the payload of binary frames, regardless of their
//! boundaries.
//!
//! No frame is buffered in either direction. Received bytes are unmasked and passed on as they arrive. Each write
//! becomes a frame of its own; if the socket accepts only a part of it, the next writes continue that frame.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod any_bytes;
mod frames;
mod outgoing;
mod request;

use std::cell::Cell;
use std::io;
use std::net::Shutdown;

use bytes::BufMut;
use parking_lot::Mutex;

use super::discard;
use super::stream::Stream;
use frames::{FrameReader, Violation};
use outgoing::Outgoing;

pub(crate) use request::{HttpRefusal, answer};

/// Status code of the broker's close frame (RFC 6455, 7.4.1, and the registry of IANA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum CloseCode {
    GoingAway = 1001,
    Protocol = 1002,
    Malformed = 1007,
    Policy = 1008,
    TooLarge = 1009,
    TryAgainLater = 1013,
}

/// Number of bytes read from the socket at once.
const READ_BYTES: usize = 16 << 10;
/// Status code of a normal close (RFC 6455, 7.4.1).
const NORMAL: u16 = 1000;

thread_local! {
    /// Buffer of this thread in which received bytes are unmasked.
    static MASKED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// WebSocket of one client, on the server's side. Until its request was answered ([`Web::begin`]), bytes are read and
/// written unchanged: those of HTTP.
#[derive(Debug)]
pub(crate) struct Web {
    below: Stream,
    incoming: Mutex<Incoming>,
    outgoing: Mutex<Outgoing>,
}

#[derive(Debug, Default)]
struct Incoming {
    /// Whether frames are read, rather than HTTP.
    begun: bool,
    frames: FrameReader,
    /// Whether the last read has filled its buffer.
    is_more_likely: bool,
    /// Protocol violation by which the stream has failed.
    violation: Option<Violation>,
    /// Number of bytes discarded so far.
    discarded: usize,
}

impl Web {
    pub(super) fn new(below: Stream) -> Self {
        Self { below, incoming: Mutex::default(), outgoing: Mutex::default() }
    }

    /// Switches to reading and writing frames.
    pub(crate) fn begin(&self) {
        self.incoming.lock().begun = true;
        self.outgoing.lock().begin();
    }

    pub(super) fn below(&self) -> &Stream {
        &self.below
    }

    /// Reads once; returns 0 after the client has closed the WebSocket or the socket.
    pub(super) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        let mut incoming = self.incoming.lock();
        if !incoming.begun {
            return self.below.try_read(buffer);
        }
        if incoming.frames.is_closed() {
            return Ok(0);
        }
        if incoming.violation.is_some() {
            return if self.outgoing.lock().is_ending() {
                discard(&mut incoming.discarded, |buffer| self.below.try_read(&mut &mut buffer[..]))
            } else {
                Err(io::ErrorKind::InvalidData.into())
            };
        }
        let mut masked = MASKED.take();
        masked.resize(READ_BYTES, 0);
        let result = self.read_into(&mut masked, &mut incoming, buffer);
        MASKED.set(masked);
        result
    }

    fn read_into(
        &self,
        masked: &mut [u8],
        incoming: &mut Incoming,
        buffer: &mut impl BufMut,
    ) -> io::Result<usize> {
        let room = buffer.remaining_mut().min(masked.len());
        let count = self.below.try_read(&mut &mut masked[..room]);
        incoming.is_more_likely = count.as_ref().is_ok_and(|count| *count == room);
        let count = count?;
        if count == 0 {
            return Ok(0);
        }
        let payload = match incoming.frames.decode(&mut masked[..count], buffer) {
            Ok(payload) => payload,
            Err(violation) => {
                incoming.violation = Some(violation);
                self.outgoing.lock().set_close_code(violation.code);
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        let pong = incoming.frames.take_ping();
        if pong.is_some() || incoming.frames.is_closed() {
            let mut outgoing = self.outgoing.lock();
            outgoing.answer_ping(pong);
            if incoming.frames.is_closed() {
                outgoing.close(incoming.frames.close_code().unwrap_or(NORMAL));
            }
            // Bytes that the socket does not accept are sent later.
            outgoing.flush(&self.below)?;
        }
        match payload {
            0 if incoming.frames.is_closed() => Ok(0),
            // The frames had no payload: tried again after other ready tasks.
            0 => Err(io::ErrorKind::WouldBlock.into()),
            payload => Ok(payload),
        }
    }

    pub(super) fn may_have_more(&self) -> bool {
        self.incoming.lock().is_more_likely || self.below.may_have_more()
    }

    pub(super) fn try_write(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.outgoing.lock().write(&self.below, pieces)
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.outgoing.lock().has_unsent() || self.below.has_unsent()
    }

    pub(super) fn try_flush(&self) -> io::Result<bool> {
        Ok(self.outgoing.lock().flush(&self.below)? && self.below.try_flush()?)
    }

    pub(super) fn violation(&self) -> Option<&'static str> {
        let violation = self.incoming.lock().violation.map(|violation| violation.text);
        violation.or_else(|| self.below.violation())
    }

    /// Sets the code of the close frame, unless it is already set.
    pub(super) fn set_close_code(&self, code: CloseCode) {
        self.outgoing.lock().set_close_code(code as u16);
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        if how == Shutdown::Write {
            let mut outgoing = self.outgoing.lock();
            outgoing.close(NORMAL);
            outgoing.end_when_sent();
            if outgoing.flush(&self.below).is_ok() {
                return;
            }
        }
        self.below.shutdown(how);
    }
}

#[cfg(test)]
mod tests;
