//! Remaining time for which publishers may be delayed by the full queue of one session.

use std::time::Duration;

use crate::config::Limits;

/// Number of bytes in a unit of [`EARNED_PER_UNIT`]: each message counts as one unit, and one more for each full 64 KiB.
const UNIT_BYTES: usize = 64 << 10;
/// Time that publishers may be delayed for each unit that the session's client takes. Publishers wait without limit
/// for a client that takes a hundred messages, or 6 MB, per second; a client that takes one message per second delays
/// its publishers for a hundredth of the time.
const EARNED_PER_UNIT: Duration = Duration::from_millis(10);

/// Time in microseconds, because every session has one, and a [`Duration`] would be twice as large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WaitCredit(u64);

impl WaitCredit {
    /// Returns the credit of a new session: the maximum wait of one publish.
    pub(crate) fn full(limits: &Limits) -> Self {
        Self::of(limits.publish_wait)
    }

    /// Adds the credit for a client that takes a message of `bytes`.
    pub(super) fn earn(&mut self, bytes: usize, limits: &Limits) {
        let units = u32::try_from(1 + bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        let earned = Self::of(EARNED_PER_UNIT.saturating_mul(units));
        self.0 = self.0.saturating_add(earned.0).min(Self::full(limits).0);
    }

    /// Deducts `time`, by which a publisher was delayed.
    pub(super) fn spend(&mut self, time: Duration) {
        self.0 = self.0.saturating_sub(Self::of(time).0);
    }

    /// Returns the remaining time; `None` if nothing is left.
    pub(super) fn left(self) -> Option<Duration> {
        (self.0 > 0).then_some(Duration::from_micros(self.0))
    }

    fn of(time: Duration) -> Self {
        Self(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_earned_by_taking_messages_or_bytes() {
        let limits = Limits { publish_wait: Duration::from_millis(35), ..Limits::default() };
        let mut credit = WaitCredit::default();
        assert_eq!(credit.left(), None);
        credit.earn(100, &limits);
        assert_eq!(credit.left(), Some(Duration::from_millis(10)));
        credit.earn(64 << 10, &limits);
        assert_eq!(credit.left(), Some(Duration::from_millis(30)));
        credit.earn(100, &limits);
        assert_eq!(credit.left(), Some(limits.publish_wait), "never more than one publish may wait");
        credit.spend(Duration::from_millis(36));
        assert_eq!(credit.left(), None);
    }
}
