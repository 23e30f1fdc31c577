//! Limits that a client has reached, so that each is logged once per client and not once per event.

/// A limit that a client can reach repeatedly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Met {
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
pub(crate) struct Logged(u16);

impl Logged {
    /// Returns whether a line about `met` is still to be written and allowed now; `may_log` is only called if it is to
    /// be written. A line that is not allowed now is written at a later event.
    pub(crate) fn admit(&mut self, met: Met, may_log: impl FnOnce() -> bool) -> bool {
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
        let mut logged = Logged::default();
        let mut admit = |met| logged.admit(met, || true);
        assert!(admit(Met::Retained) && admit(Met::Subscriptions));
        assert!(!admit(Met::Retained) && !admit(Met::Subscriptions));
    }

    /// A client that reached a limit while others filled the log was once never logged, however often it reached the
    /// limit again.
    #[test]
    fn a_line_that_could_not_be_written_is_written_the_next_time() {
        let mut logged = Logged::default();
        assert!(!logged.admit(Met::Retained, || false));
        assert!(logged.admit(Met::Retained, || true));
        assert!(!logged.admit(Met::Retained, || unreachable!("a line of others would be used up")));
    }
}
