//! Which limits a client has met, so that the log names it once for each and not once for each event.

/// A limit that a client can meet again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Met {
    Subscriptions = 1,
    ShareGroups = 1 << 1,
    Retained = 1 << 2,
    UserProperties = 1 << 3,
    Disk = 1 << 4,
    Access = 1 << 5,
    Filters = 1 << 6,
    Grants = 1 << 7,
}

/// The limits that were logged for one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Logged(u8);

impl Logged {
    /// True for the first time.
    pub(crate) fn first(&mut self, met: Met) -> bool {
        let first = self.0 & met as u8 == 0;
        self.0 |= met as u8;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_logged_once() {
        let mut logged = Logged::default();
        assert!(logged.first(Met::Retained) && logged.first(Met::Subscriptions));
        assert!(!logged.first(Met::Retained) && !logged.first(Met::Subscriptions));
    }
}
