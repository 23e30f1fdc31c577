//! MQTT over WebSocket (RFC 6455; MQTT 5, 6): the bytes of binary frames, whatever the frames, are the stream.
//!
//! No frame is held in memory, either way. What is read is unmasked and handed on as it comes; what is written is a frame as
//! long as the bytes of one call, and the next calls go on with a frame that the socket has taken in part.

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

/// Why a WebSocket ends: the status code of its close frame (RFC 6455, 7.4.1, and the registry of IANA).
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

/// Read from the socket at a time.
const READ_BYTES: usize = 16 << 10;
/// The status code of a close that is no error (RFC 6455, 7.4.1).
const NORMAL: u16 = 1000;

thread_local! {
    /// What a read of this thread is unmasked in.
    static MASKED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// One client's WebSocket: the server's side. Until its request has been answered ([`Web::begin`]), bytes are read and written
/// as they are: those of HTTP.
#[derive(Debug)]
pub(crate) struct Web {
    below: Stream,
    incoming: Mutex<Incoming>,
    outgoing: Mutex<Outgoing>,
}

#[derive(Debug, Default)]
struct Incoming {
    /// Frames are read.
    begun: bool,
    frames: FrameReader,
    /// The last read has taken as much as it could.
    is_more_likely: bool,
    /// Why the stream has failed.
    violation: Option<Violation>,
    /// Bytes read that were of no use any more.
    discarded: usize,
}

impl Web {
    pub(super) fn new(below: Stream) -> Self {
        Self { below, incoming: Mutex::default(), outgoing: Mutex::default() }
    }

    /// Has frames read and written from now on.
    pub(crate) fn begin(&self) {
        self.incoming.lock().begun = true;
        self.outgoing.lock().begin();
    }

    pub(super) fn below(&self) -> &Stream {
        &self.below
    }

    /// Reads once; 0 once the client has closed the WebSocket or the socket.
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
            // What the socket does not take is sent when it does.
            outgoing.flush(&self.below)?;
        }
        match payload {
            0 if incoming.frames.is_closed() => Ok(0),
            // Frames without payload: to be tried again, after others that are ready.
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

    /// Has the close frame say this, unless that is decided already.
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
