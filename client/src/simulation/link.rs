//! Connection: bytes in transit in both directions, and its two ends.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use super::broker::Served;
use super::edge::Edge;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToBroker,
    ToClient,
}

/// Bytes in transit in one direction, in order.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    chunks: VecDeque<(u64, Vec<u8>)>,
    pub(super) bytes: usize,
    last_at: u64,
    /// Time before which nothing arrives.
    pub(super) stalled_until: u64,
    /// Whether sent bytes are lost.
    pub(super) is_lost: bool,
}

impl Pipe {
    /// Sends bytes that arrive at `at`, or later if others are before them. Returns the time of arrival.
    pub(super) fn push(&mut self, at: u64, bytes: &[u8]) -> u64 {
        self.last_at = self.last_at.max(at).max(self.stalled_until);
        self.bytes += bytes.len();
        self.chunks.push_back((self.last_at, bytes.to_vec()));
        self.last_at
    }

    /// Removes and returns the bytes that have arrived.
    pub(super) fn arrived(&mut self, now: u64) -> Vec<u8> {
        let mut found = Vec::new();
        while now >= self.stalled_until
            && let Some((_, bytes)) = self.chunks.pop_front_if(|(at, _)| *at <= now)
        {
            found.extend(bytes);
        }
        self.bytes -= found.len();
        found
    }

    /// Removes and returns the first bytes in transit; the remaining and all later ones are lost.
    pub(super) fn lose(&mut self, kept: usize) -> Vec<u8> {
        let mut all: Vec<u8> = self.chunks.drain(..).flat_map(|(_, bytes)| bytes).collect();
        all.truncate(kept);
        (self.bytes, self.is_lost) = (0, true);
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// Way in which the client's reads end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) number: u64,
    /// Number of the broker that it leads to.
    pub(super) broker: usize,
    pub(super) to_broker: Pipe,
    pub(super) to_client: Pipe,
    pub(super) capacity: usize,
    pub(super) opened_at: u64,
    /// Whether bytes were lost or stalled on it.
    pub(super) is_disturbed: bool,

    /// Bytes that the client can read.
    pub(super) readable: Vec<u8>,
    /// End that the client reads after those bytes.
    pub(super) end: Option<End>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Whether the client has closed it.
    pub(super) is_dropped: bool,
    pub(super) edge: Edge,

    /// The broker's end; `None` once the broker has closed it, or knows that the client has.
    pub(super) served: Option<Served>,
    /// Whether it ends for the client as soon as everything has arrived.
    pub(super) is_closing: bool,
}

impl Link {
    pub(super) fn new(number: u64, broker: usize, capacity: usize, now: u64) -> Self {
        Self {
            number,
            broker,
            to_broker: Pipe::default(),
            to_client: Pipe::default(),
            capacity,
            opened_at: now,
            is_disturbed: false,
            readable: Vec::new(),
            end: None,
            reader: None,
            writer: None,
            is_dropped: false,
            edge: Edge::new(now),
            served: Some(Served::new(now)),
            is_closing: false,
        }
    }

    pub(super) fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::ToBroker => &mut self.to_broker,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// Adds bytes for the client to read.
    pub(super) fn deliver(&mut self, bytes: &[u8]) {
        self.readable.extend(bytes);
        if !bytes.is_empty()
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
    }

    /// Ends it for the client, after the bytes that it can read.
    pub(super) fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Ends it for the client as soon as everything has arrived.
    pub(super) fn close_when_empty(&mut self) {
        if self.is_closing && self.to_client.is_empty() && !self.to_client.is_lost {
            self.end(End::Closed);
        }
    }

    /// Returns how many of `size` bytes may be written now.
    pub(super) fn room(&self, size: usize) -> io::Result<usize> {
        match self.end {
            Some(End::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
            _ if self.to_broker.is_lost => Ok(size),
            _ => Ok(size.min(self.capacity.saturating_sub(self.to_broker.bytes))),
        }
    }
}
