//! What becomes of each numbered message of a client that keeps its accounts.

use std::time::{Duration, Instant};

use rantai_load::latencies::Latencies;

/// Messages that may be unacknowledged at a time: below the Receive Maximum that the broker grants.
const WINDOW: usize = 1_000;
/// Packet ids in use. Many more than the window, so that one that is never acknowledged delays nothing.
const PACKET_IDS: usize = 60_000;

/// One message, by what is known of it.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    acknowledged: bool,
    refused: bool,
    arrived: bool,
}

/// The messages of one client, numbered from 0, which are due at fixed times whatever becomes of the others.
#[derive(Debug)]
pub(crate) struct Ledger {
    began: Instant,
    period: Duration,
    entries: Vec<Entry>,
    in_flight: usize,
    /// Of messages that were due from here on the time is taken.
    counted_from: Option<Instant>,
    latencies: Latencies,
    repeated: u64,
    reordered: u64,
    last_arrived: usize,
}

/// The sums of a [`Ledger`].
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// From when each was due until it arrived; one that never did counts as having taken until the end.
    pub(crate) latencies: Latencies,
    /// Messages that were acknowledged, and never arrived.
    pub(crate) lost: u64,
    /// Messages that were neither acknowledged nor arrived.
    pub(crate) unanswered: u64,
    /// Messages that were acknowledged with a reason code from 0x80 on.
    pub(crate) refused: u64,
    /// Messages that arrived once more.
    pub(crate) repeated: u64,
    /// Messages that arrived after a later one.
    pub(crate) reordered: u64,
}

impl Ledger {
    /// One message each `period`, the first of them now.
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

    /// When the next message can be sent, if it is not the window that it waits for.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        (self.in_flight < WINDOW).then(|| self.due(self.entries.len()))
    }

    /// Takes the time of all messages that are due from now on.
    pub(crate) fn count_from(&mut self, from: Instant) {
        self.counted_from.get_or_insert(from);
    }

    /// Enters the next message: its number and packet id.
    pub(crate) fn send(&mut self) -> (u64, u16) {
        let number = self.entries.len();
        self.entries.push(Entry::default());
        self.in_flight += 1;
        (number as u64, (number % PACKET_IDS) as u16 + 1)
    }

    /// Enters an acknowledgement.
    pub(crate) fn acknowledge(&mut self, packet_id: u16, reason: u8) {
        // The latest message with this packet id.
        let place = usize::from(packet_id.saturating_sub(1));
        let Some(laps) = self.entries.len().checked_sub(place + 1) else { return };
        let entry = &mut self.entries[place + laps / PACKET_IDS * PACKET_IDS];
        if !entry.acknowledged {
            entry.acknowledged = true;
            entry.refused = reason >= 0x80;
            self.in_flight -= 1;
        }
    }

    /// Enters the arrival of a message at its receiver, or of the reply to it.
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

    /// Whether each message that was due until the end has come to its own.
    pub(crate) fn is_settled(&self, end: Instant) -> bool {
        self.due(self.entries.len()) > end
            && self.entries.iter().all(|entry| entry.acknowledged && (entry.arrived || entry.refused))
    }

    /// The sums, with what is open now left open.
    pub(crate) fn close(mut self) -> Account {
        let now = Instant::now();
        let open: Vec<_> = (0..self.entries.len()).filter(|&number| !self.entries[number].arrived).collect();
        for &number in &open {
            self.record(self.due(number), now);
        }
        let count =
            |which: fn(&Entry) -> bool| self.entries.iter().filter(|entry| which(entry)).count() as u64;
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
