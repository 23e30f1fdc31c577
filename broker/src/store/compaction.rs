//! Scheduling of compactions. Nothing is committed during a compaction, which may take seconds: redb moves all pages in
//! one call, so that it cannot be done in parts.

use std::time::{Duration, Instant};

/// Minimum time between two compactions, and minimum multiple of the last one's duration.
const PAUSE: Duration = Duration::from_millis(500);
const SHARE: u32 = 3;
/// Maximum time that a due compaction waits for a moment in which no client waits for a commit.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// State that decides whether a compaction is due.
#[derive(Debug)]
pub(super) struct Compaction {
    /// Whether rows were deleted since the last compaction.
    pub(super) removed: bool,
    /// Earliest time of the next compaction.
    next: Instant,
    /// Time when the next compaction became due.
    due: Option<Instant>,
}

impl Compaction {
    /// Creates the state at `now`. Deletions before the file was opened are unknown, so that a compaction is due.
    pub(super) fn new(now: Instant) -> Self {
        Self { removed: true, next: now, due: None }
    }

    /// Checks whether to compact at `now`, if space is needed; `idle` tells that no client waits for a commit.
    pub(super) fn is_due(&mut self, idle: bool, now: Instant) -> bool {
        if !self.removed || self.next > now {
            return false;
        }
        let due = *self.due.get_or_insert(now);
        idle || now.duration_since(due) >= LONGEST_DELAY
    }

    /// Notes the end of a compaction from `start` to `now`. `done` tells whether the file is as short as possible;
    /// `None` if the compaction failed.
    pub(super) fn ended(&mut self, done: Option<bool>, start: Instant, now: Instant) {
        if let Some(done) = done {
            self.removed = !done;
        }
        self.due = None;
        self.next = now + PAUSE.max(now.duration_since(start) * SHARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compaction once began while a group of clients waited for their commit, which then waited for the compaction,
    /// too.
    #[test]
    fn clients_that_wait_for_a_commit_come_before_a_compaction_for_a_while() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut compaction = Compaction::new(start);
        assert!(!compaction.is_due(false, at(0)) && !compaction.is_due(false, at(29_999)));
        assert!(compaction.is_due(true, at(29_999)), "nobody waits");
        assert!(compaction.is_due(false, at(30_000)), "it has waited for long enough");
        compaction.ended(Some(false), at(30_000), at(31_000));
        assert!(!compaction.is_due(true, at(33_999)));
        assert!(!compaction.is_due(false, at(34_000)) && compaction.is_due(true, at(34_000)));
        compaction.ended(Some(true), at(34_000), at(34_000));
        assert!(!compaction.is_due(true, at(99_000)), "nothing was removed");
        compaction.removed = true;
        compaction.ended(None, at(99_000), at(99_000));
        assert!(compaction.is_due(true, at(99_500)), "it failed");
    }
}
