//! One connection: bytes on their way in both directions, and its two ends.

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

/// Bytes on their way in one direction, in order.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    chunks: VecDeque<(u64, Vec<u8>)>,
    pub(super) bytes: usize,
    last_at: u64,
    /// Nothing arrives before this time.
    pub(super) stalled_until: u64,
    /// What is sent arrives nowhere.
    pub(super) is_lost: bool,
}

impl Pipe {
    /// Sends bytes that arrive at `at`, or later where others are before them. Returns when.
    pub(super) fn push(&mut self, at: u64, bytes: &[u8]) -> u64 {
        self.last_at = self.last_at.max(at).max(self.stalled_until);
        self.bytes += bytes.len();
        self.chunks.push_back((self.last_at, bytes.to_vec()));
        self.last_at
    }

    /// Takes what has arrived.
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

    /// Takes the first bytes of what is on its way; the others are lost, as all that comes.
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

/// How reads of the client end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) number: u64,
    /// Which broker it leads to.
    pub(super) broker: usize,
    pub(super) to_broker: Pipe,
    pub(super) to_client: Pipe,
    pub(super) capacity: usize,
    pub(super) opened_at: u64,
    /// Bytes were lost or stalled on it.
    pub(super) is_disturbed: bool,

    /// What the client can read.
    pub(super) readable: Vec<u8>,
    /// What the client reads behind that.
    pub(super) end: Option<End>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// The client has closed it.
    pub(super) is_dropped: bool,
    pub(super) edge: Edge,

    /// The broker's end; `None` once the broker has closed it, or knows that the client has.
    pub(super) served: Option<Served>,
    /// It ends for the client as soon as everything has arrived.
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

    /// Lets the client read these bytes.
    pub(super) fn deliver(&mut self, bytes: &[u8]) {
        self.readable.extend(bytes);
        if !bytes.is_empty()
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
    }

    /// Ends it for the client, behind what it can read.
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

    /// How many bytes of `size` may be written now.
    pub(super) fn room(&self, size: usize) -> io::Result<usize> {
        match self.end {
            Some(End::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
            _ if self.to_broker.is_lost => Ok(size),
            _ => Ok(size.min(self.capacity.saturating_sub(self.to_broker.bytes))),
        }
    }
}
