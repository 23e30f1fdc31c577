//! Clock by which everything expires.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Time in milliseconds since 1970: one reading of the wall clock, advanced by the clock of tokio's timers.
///
/// Never runs backwards, whatever happens to the wall clock; its readings can be stored and compared after a restart.
/// In tests with a paused runtime it is virtual time, like that of every timer.
///
/// The clock is read once at the beginning of each turn (a read batch, a refill, a round of housekeeping), and the
/// reading is passed on in [`Scratch`](crate::session::Scratch) or as an argument.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    /// Creates a clock that begins at the wall clock's time.
    pub(crate) fn system() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(wall.as_millis() as u64)
    }

    /// Creates a clock that begins at `ms`.
    pub(crate) fn starting_at(ms: u64) -> Self {
        Self { started: Instant::now(), started_ms: ms }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.started_ms + self.uptime().as_millis() as u64
    }

    /// Returns the time since this clock was created.
    pub(crate) fn uptime(&self) -> std::time::Duration {
        self.started.elapsed()
    }
}
