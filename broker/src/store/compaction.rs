//! When the file is compacted. Nothing is committed meanwhile, which may take seconds: redb moves all pages in one call, so
//! that this cannot be done in parts.

use std::time::{Duration, Instant};

/// Between two compactions at least this, and this many times what the last one took.
const PAUSE: Duration = Duration::from_millis(500);
const SHARE: u32 = 3;
/// How long a compaction that is due waits for a moment in which no client waits for a commit.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Whether a compaction is due.
#[derive(Debug)]
pub(super) struct Compaction {
    /// Rows were removed since the last one.
    pub(super) removed: bool,
    /// When the next one may begin.
    next: Instant,
    /// When it became due.
    due: Option<Instant>,
}

impl Compaction {
    /// What was removed before the file was opened is not known.
    pub(super) fn new(now: Instant) -> Self {
        Self { removed: true, next: now, due: None }
    }

    /// Whether to compact at `now`, where room is wanted and nobody waits for a commit if `idle`.
    pub(super) fn is_due(&mut self, idle: bool, now: Instant) -> bool {
        if !self.removed || self.next > now {
            return false;
        }
        let due = *self.due.get_or_insert(now);
        idle || now.duration_since(due) >= LONGEST_DELAY
    }

    /// One that began at `start` has ended at `now`; whether the file is as short as it gets, if it did not fail.
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

    /// It once began with a group of clients waiting for their commit, who then waited for it, too.
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
