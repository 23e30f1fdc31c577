//! Record of the numbered messages of one client, with their acknowledgements, arrivals and latencies.

use std::time::{Duration, Instant};

use rantai_load::latencies::Latencies;

/// Maximum number of unacknowledged messages, below the Receive Maximum that the broker grants.
const WINDOW: usize = 1_000;
/// Number of packet ids in use. Many more than the window, so that a message that is never acknowledged delays no
/// other.
const PACKET_IDS: usize = 60_000;

/// State of one message.
#[derive(Clone, Copy, Debug, Default)]
struct LedgerEntry {
    acknowledged: bool,
    refused: bool,
    arrived: bool,
}

/// Messages of one client, numbered from 0. Each is due at a fixed time, regardless of the others.
#[derive(Debug)]
pub(crate) struct Ledger {
    began: Instant,
    period: Duration,
    entries: Vec<LedgerEntry>,
    in_flight: usize,
    /// Time from which on latencies of messages are recorded.
    counted_from: Option<Instant>,
    latencies: Latencies,
    repeated: u64,
    reordered: u64,
    last_arrived: usize,
}

/// Result of a [`Ledger`].
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Times from when a message was due until its arrival. For a message that never arrived, until the end.
    pub(crate) latencies: Latencies,
    /// Number of messages that were acknowledged and never arrived.
    pub(crate) lost: u64,
    /// Number of messages that were neither acknowledged nor arrived.
    pub(crate) unanswered: u64,
    /// Number of messages that were acknowledged with an error code (0x80 or above).
    pub(crate) refused: u64,
    /// Number of messages that arrived again.
    pub(crate) repeated: u64,
    /// Number of messages that arrived after a later one.
    pub(crate) reordered: u64,
}

impl Ledger {
    /// Creates a ledger with one message per `period`, the first of them due now.
    pub(crate) fn new(period: Duration) -> Self {
        Self {
            began: Instant::now(),
            period,
            entries: Vec::new(),
            in_flight: 0,
            counted_from: None,
            latencies: Latencies::new(),
            repeated: 0,
            reordered: 0,
            last_arrived: 0,
        }
    }

    fn due(&self, number: usize) -> Instant {
        self.began + self.period * number as u32
    }

    /// Returns the time of the next message; `None` if it has to wait for the window.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        (self.in_flight < WINDOW).then(|| self.due(self.entries.len()))
    }

    /// Records the latencies of all messages that are due from now on.
    pub(crate) fn count_from(&mut self, from: Instant) {
        self.counted_from.get_or_insert(from);
    }

    /// Records the next message as sent. Returns its number and packet id.
    pub(crate) fn send(&mut self) -> (u64, u16) {
        let number = self.entries.len();
        self.entries.push(LedgerEntry::default());
        self.in_flight += 1;
        (number as u64, (number % PACKET_IDS) as u16 + 1)
    }

    /// Records an acknowledgement.
    pub(crate) fn acknowledge(&mut self, packet_id: u16, reason: u8) {
        // Packet ids repeat: the latest message with this one.
        let place = usize::from(packet_id.saturating_sub(1));
        let Some(laps) = self.entries.len().checked_sub(place + 1) else { return };
        let entry = &mut self.entries[place + laps / PACKET_IDS * PACKET_IDS];
        if !entry.acknowledged {
            entry.acknowledged = true;
            entry.refused = reason >= 0x80;
            self.in_flight -= 1;
        }
    }

    /// Records the arrival of a message at its receiver, or of the reply to it.
    pub(crate) fn arrive(&mut self, number: u64, now: Instant) {
        let number = number as usize;
        let due = self.due(number);
        let Some(entry) = self.entries.get_mut(number) else { return };
        if entry.arrived {
            self.repeated += 1;
            return;
        }
        entry.arrived = true;
        if number < self.last_arrived {
            self.reordered += 1;
        }
        self.last_arrived = self.last_arrived.max(number);
        self.record(due, now);
    }

    fn record(&mut self, due: Instant, now: Instant) {
        if self.counted_from.is_some_and(|from| due >= from) {
            self.latencies.record(now.saturating_duration_since(due));
        }
    }

    /// Returns whether every message that was due until the end was acknowledged and has arrived.
    pub(crate) fn is_settled(&self, end: Instant) -> bool {
        self.due(self.entries.len()) > end
            && self.entries.iter().all(|entry| entry.acknowledged && (entry.arrived || entry.refused))
    }

    /// Returns the result, with messages that are open now counted as open.
    pub(crate) fn close(mut self) -> Account {
        let now = Instant::now();
        let open: Vec<_> = (0..self.entries.len()).filter(|&number| !self.entries[number].arrived).collect();
        for &number in &open {
            self.record(self.due(number), now);
        }
        let count =
            |which: fn(&LedgerEntry) -> bool| self.entries.iter().filter(|entry| which(entry)).count() as u64;
        Account {
            lost: count(|entry| entry.acknowledged && !entry.refused && !entry.arrived),
            unanswered: count(|entry| !entry.acknowledged && !entry.arrived),
            refused: count(|entry| entry.refused),
            repeated: self.repeated,
            reordered: self.reordered,
            latencies: self.latencies,
        }
    }
}
