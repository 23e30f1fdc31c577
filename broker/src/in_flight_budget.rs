//! Budget of bytes in flight to all clients, connected or not. Messages in flight are never dropped; only messages
//! that were not sent yet can be held back.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::tally::{Held, Tally, Total};

/// Number of bytes that each session may always have in flight. The count of a connected session is updated after a
/// change of this size.
pub(crate) const MIN_IN_FLIGHT_BYTES: usize = 4 << 10;

/// Bytes in flight to all clients.
#[derive(Debug, Default)]
pub(crate) struct InFlightBudget {
    total: Total,
    /// Whether a session without anything in flight is held back by the budget.
    held_back: AtomicBool,
}

impl InFlightBudget {
    /// Records that a session of the owner whose tally is `own` had `from` bytes in flight before and has `to` bytes
    /// now.
    pub(crate) fn change(&self, own: Option<&Tally>, from: usize, to: usize) {
        let held = |bytes| Held { messages: 0, bytes };
        self.total.change(own, held(from), held(to));
    }

    pub(crate) fn bytes(&self) -> usize {
        self.total.all().held().bytes
    }

    /// Returns whether each session of the owner whose tally is `own`, or of no owner, may have only
    /// [`MIN_IN_FLIGHT_BYTES`] bytes in flight. `limit` is the maximum for all sessions together, in bytes.
    pub(crate) fn is_full_for(&self, own: Option<&Tally>, limit: usize) -> bool {
        let share = |own| self.total.share(own, Held { messages: usize::MAX, bytes: limit }).bytes;
        own.map_or_else(|| self.bytes() >= limit, |own| own.held().bytes >= share(own))
    }

    /// Records that a session without anything in flight is held back.
    pub(crate) fn note_held_back(&self) {
        if !self.held_back.load(Ordering::Relaxed) {
            self.held_back.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether sessions without anything in flight have been held back since the last call.
    pub(crate) fn take_held_back(&self) -> bool {
        self.held_back.swap(false, Ordering::Relaxed)
    }
}
