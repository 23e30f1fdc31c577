//! Bytes in flight to all clients, connected or not. What is in flight is never dropped, so that only what is not sent yet
//! can be held back.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::tally::{Held, Tally, Total};

/// Bytes that each session may have in flight, whatever others have. A connected session is counted again when it has
/// changed by as much.
pub(crate) const IN_FLIGHT_ALWAYS: usize = 4 << 10;

/// What is in flight to all clients.
#[derive(Debug, Default)]
pub(crate) struct InFlightBudget {
    total: Total,
    /// A session without anything in flight waits until others have less.
    held_back: AtomicBool,
}

impl InFlightBudget {
    /// A session of the owner whose tally is `own` counted for `from` bytes, and counts for `to` now.
    pub(crate) fn change(&self, own: Option<&Tally>, from: usize, to: usize) {
        let held = |bytes| Held { messages: 0, bytes };
        self.total.change(own, held(from), held(to));
    }

    pub(crate) fn bytes(&self) -> usize {
        self.total.all().held().bytes
    }

    /// Whether no more may be sent, but for [`IN_FLIGHT_ALWAYS`], to sessions of the owner whose tally is `own`, or of nobody,
    /// where all may have `limit` bytes in flight.
    pub(crate) fn is_full_for(&self, own: Option<&Tally>, limit: usize) -> bool {
        let share = |own| self.total.share(own, Held { messages: usize::MAX, bytes: limit }).bytes;
        own.map_or_else(|| self.bytes() >= limit, |own| own.held().bytes >= share(own))
    }

    /// A session without anything in flight is held back.
    pub(crate) fn note_held_back(&self) {
        if !self.held_back.load(Ordering::Relaxed) {
            self.held_back.store(true, Ordering::Relaxed);
        }
    }

    /// Whether sessions without anything in flight have been held back since this was asked last.
    pub(crate) fn take_held_back(&self) -> bool {
        self.held_back.swap(false, Ordering::Relaxed)
    }
}
