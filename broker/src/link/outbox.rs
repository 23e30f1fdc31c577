//! Outbox: bytes to be written to a client, and the number of answers among them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;

use super::aliases::SentAliases;
use super::flushing::FLUSH_BYTES;
use crate::pool::{SHARED_PAYLOAD_BYTES, take_buffer};
use crate::store::Ticket;
use crate::transport::Transport;

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own; all combinations occur")]
pub(super) struct Outbox {
    /// Payloads that are not copied, with the bytes before and between them. Boxed, as few outboxes have any.
    pub(super) chunks: Option<Box<Chunks>>,
    /// Bytes after `chunks`.
    pub(super) tail: Vec<u8>,
    /// Number of bytes in `chunks` and `tail`.
    pub(super) buffered: usize,
    /// Number of bytes taken out for writing and not written yet.
    pub(super) writing: usize,
    /// Number of unwritten bytes of answers to packets that the client has sent.
    pub(super) answers: u32,
    /// Whether a task is writing, or waiting until it can write.
    pub(super) busy: bool,
    /// Whether the link is in a list of links to flush.
    pub(super) listed: bool,
    /// Whether the session has more messages that did not fit.
    pub(super) more: bool,
    /// Whether the connection is ending: nothing may be appended, and the socket is shut down after everything was
    /// written.
    pub(super) closing: bool,
    /// Ticket that has to be on disk before anything is written, beginning with CONNACK; 0 if nothing is held back.
    pub(super) held: Ticket,
    /// Topics that the client knows by an alias.
    pub(super) aliases: Option<Box<SentAliases>>,
}

/// Bytes to be written, in order.
#[derive(Debug, Default)]
pub(super) struct Chunks(VecDeque<Bytes>);

impl Outbox {
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = take_buffer();
        }
        &mut self.tail
    }

    pub(super) fn append_payload(&mut self, payload: &Bytes) {
        self.buffered += payload.len();
        if payload.len() < SHARED_PAYLOAD_BYTES {
            self.tail().extend_from_slice(payload);
        } else {
            let Chunks(chunks) = &mut **self.chunks.get_or_insert_default();
            if !self.tail.is_empty() {
                chunks.push_back(Bytes::from(std::mem::take(&mut self.tail)));
            }
            chunks.push_back(payload.clone());
        }
    }

    /// Records that a batch was written or discarded.
    pub(super) fn written(&mut self, batch: &Batch) {
        self.writing = 0;
        self.answers = self.answers.saturating_sub(batch.answers);
    }

    pub(super) fn take(&mut self) -> Batch {
        self.writing = std::mem::take(&mut self.buffered);
        Batch {
            chunks: self.chunks.take().map_or_else(VecDeque::new, |chunks| chunks.0),
            tail: std::mem::take(&mut self.tail),
            written: 0,
            answers: self.answers,
        }
    }
}

/// Number of bytes written to one socket before other tasks run: a fraction of a millisecond.
const BYTES_PER_WRITE: usize = FLUSH_BYTES;

/// Bytes taken out of the outbox to be written to the socket.
#[derive(Debug)]
pub(super) struct Batch {
    chunks: VecDeque<Bytes>,
    pub(super) tail: Vec<u8>,
    /// Number of bytes of the first chunk, or of the tail, that are already written.
    written: usize,
    /// Number of bytes of answers in the batch.
    answers: u32,
}

impl Batch {
    /// Writes as much as the socket accepts, at most [`BYTES_PER_WRITE`]. Returns whether everything was written.
    pub(super) fn write(&mut self, transport: &Transport) -> io::Result<bool> {
        let mut left = BYTES_PER_WRITE;
        loop {
            if self.chunks.is_empty() && self.written == self.tail.len() {
                return Ok(true);
            }
            if left == 0 {
                return Ok(false);
            }
            let result = if self.chunks.is_empty() {
                let rest = &self.tail[self.written..];
                transport.try_write(&rest[..rest.len().min(left)])
            } else {
                let mut slices = [IoSlice::new(&[]); 16];
                let (mut used, mut room) = (0, left);
                let whole = self.chunks.iter().map(|c| &c[..]).chain([&self.tail[..]]);
                for (slice, bytes) in slices.iter_mut().zip(whole) {
                    let bytes = if used == 0 { &bytes[self.written..] } else { bytes };
                    let some = &bytes[..bytes.len().min(room)];
                    (*slice, used, room) = (IoSlice::new(some), used + 1, room - some.len());
                    if room == 0 {
                        break;
                    }
                }
                transport.try_write_vectored(&slices[..used])
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    left -= count.min(left);
                    self.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.chunks.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.chunks.pop_front();
        }
    }
}
