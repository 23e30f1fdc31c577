//! Limits that a client has reached, so that each limit is logged once per client and not once per event.

/// A limit that a client can reach repeatedly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum ReachedLimit {
    Subscriptions = 1,
    ShareGroups = 1 << 1,
    Retained = 1 << 2,
    UserProperties = 1 << 3,
    Disk = 1 << 4,
    InFlight = 1 << 5,
    RetainedGrowth = 1 << 6,
    Access = 1 << 7,
    Filters = 1 << 8,
    Grants = 1 << 9,
}

/// Limits that were logged for one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoggedLimits(u16);

impl LoggedLimits {
    /// Returns whether a line about `met` is to be written now. `may_log` is only called if the line was not written
    /// before; a line that it does not allow is written at a later event.
    pub(crate) fn admit(&mut self, met: ReachedLimit, may_log: impl FnOnce() -> bool) -> bool {
        let admitted = self.0 & met as u16 == 0 && may_log();
        if admitted {
            self.0 |= met as u16;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_logged_once() {
        let mut logged = LoggedLimits::default();
        let mut admit = |met| logged.admit(met, || true);
        assert!(admit(ReachedLimit::Retained) && admit(ReachedLimit::Subscriptions));
        assert!(!admit(ReachedLimit::Retained) && !admit(ReachedLimit::Subscriptions));
    }

    /// Once, a client that reached a limit while other clients filled the log was never logged, however often it
    /// reached the limit again.
    #[test]
    fn a_line_above_the_rate_limit_is_written_at_the_next_event() {
        let mut logged = LoggedLimits::default();
        assert!(!logged.admit(ReachedLimit::Retained, || false));
        assert!(logged.admit(ReachedLimit::Retained, || true));
        assert!(!logged.admit(ReachedLimit::Retained, || unreachable!("a line of others would be used up")));
    }
}
