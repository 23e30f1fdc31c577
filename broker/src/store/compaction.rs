//! Schedule of compactions. Nothing is committed during a compaction, which may take seconds: redb moves all pages in
//! one call, so that it cannot be split.

use std::time::{Duration, Instant};

/// Minimum time between two compactions: this, and a multiple of the duration of the last one.
const MIN_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_FACTOR: u32 = 3;
/// Maximum time that a due compaction waits for a moment without a client that waits for a commit.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// State that decides whether a compaction is due.
#[derive(Debug)]
pub(super) struct Compaction {
    /// Whether rows were deleted since the last compaction.
    pub(super) removed: bool,
    /// Earliest time of the next compaction.
    next: Instant,
    /// Time at which the next compaction became due.
    due: Option<Instant>,
}

impl Compaction {
    /// Creates the state at `now`. A compaction is due, because deletions before the file was opened are unknown.
    pub(super) fn new(now: Instant) -> Self {
        Self { removed: true, next: now, due: None }
    }

    /// Returns whether to compact at `now`, if space is needed. `idle` is whether no client waits for a commit.
    pub(super) fn is_due(&mut self, idle: bool, now: Instant) -> bool {
        if !self.removed || self.next > now {
            return false;
        }
        let due = *self.due.get_or_insert(now);
        idle || now.duration_since(due) >= MAX_DELAY
    }

    /// Records the end of a compaction from `start` to `now`. `done` is whether the file is now as short as possible;
    /// `None` if the compaction failed.
    pub(super) fn ended(&mut self, done: Option<bool>, start: Instant, now: Instant) {
        if let Some(done) = done {
            self.removed = !done;
        }
        self.due = None;
        self.next = now + MIN_PAUSE.max(now.duration_since(start) * PAUSE_FACTOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once, a compaction began while a group of clients waited for their commit, which then also waited for the
    /// compaction.
    #[test]
    fn a_due_compaction_waits_for_commits_up_to_the_maximum_delay() {
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
