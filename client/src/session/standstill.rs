//! Detects times in which the process did not run (SIGSTOP, a debugger, a suspended machine, a blocked thread), without
//! I/O. Messages that arrived in such a time were waiting to be read, and cannot be distinguished from those that have
//! just arrived.

use std::time::Duration;

/// Maximum time between two signs of life that is not a standstill.
const MAX_GAP: Duration = Duration::from_millis(500);
/// Interval at which to call [`Standstill::look`].
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Detects standstills of one connection's task. The caller passes the clock: the time since any fixed moment.
///
/// After a standstill a PINGREQ is due. Everything that is read before its PINGRESP may have been sent during the
/// standstill, as a broker writes both to the same byte stream; everything after it was sent later.
#[derive(Debug)]
pub(super) struct Standstill {
    /// Time of the last sign of life.
    ran: Duration,
    /// Time of the last sign of life before a standstill, while messages from the standstill may still arrive.
    since: Option<Duration>,
    /// Number of PINGREQs without a PINGRESP.
    unanswered: usize,
    /// Number of expected PINGRESPs that answer PINGREQs up to the one after the standstill.
    before_fresh: usize,
}

impl Standstill {
    pub(super) fn new(now: Duration) -> Self {
        Self { ran: now, since: None, unanswered: 0, before_fresh: 0 }
    }

    /// Records a sign of life. Returns true after a standstill: a PINGREQ is due.
    pub(super) fn look(&mut self, now: Duration) -> bool {
        let ran = std::mem::replace(&mut self.ran, now);
        if now.saturating_sub(ran) <= MAX_GAP {
            return false;
        }
        self.since.get_or_insert(ran);
        self.before_fresh = self.unanswered + 1;
        true
    }

    /// Returns how long a message that is read now may have been waiting to be read.
    pub(super) fn unread(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| self.ran.saturating_sub(since))
    }

    /// Records that a PINGREQ was written, for any reason.
    pub(super) fn pinged(&mut self) {
        self.unanswered += 1;
    }

    /// Records a PINGRESP.
    pub(super) fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.before_fresh > 0 {
            self.before_fresh -= 1;
            if self.before_fresh == 0 {
                self.since = None;
            }
        }
    }
}

/// Returns the time of a clock that continues while the machine is suspended.
#[cfg(target_os = "linux")]
pub(super) fn clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// Returns the time of a clock; on this system it may stop while the machine is suspended.
#[cfg(not(target_os = "linux"))]
pub(super) fn clock() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn messages_count_from_the_last_sign_of_life_until_the_ping_is_answered() {
        let mut standstill = Standstill::new(ms(1_000));
        assert!(!standstill.look(ms(1_250)) && !standstill.look(ms(1_750)), "late, as on a busy machine");
        assert_eq!(standstill.unread(), ms(0));
        assert!(standstill.look(ms(6_750)));
        standstill.pinged();
        assert_eq!(standstill.unread(), ms(5_000));
        assert!(!standstill.look(ms(6_800)), "asked for one ping only");
        assert_eq!(standstill.unread(), ms(5_050));
        standstill.answered();
        assert_eq!(standstill.unread(), ms(0));
    }

    #[test]
    fn answer_to_an_earlier_ping_does_not_end_the_standstill() {
        let mut standstill = Standstill::new(ms(0));
        standstill.pinged();
        assert!(standstill.look(ms(2_000)));
        standstill.pinged();
        standstill.answered();
        assert_eq!(standstill.unread(), ms(2_000));
        // Another standstill before the answer: the time is counted from the first one.
        assert!(standstill.look(ms(4_000)));
        standstill.pinged();
        standstill.answered();
        assert_eq!(standstill.unread(), ms(4_000));
        standstill.answered();
        assert_eq!(standstill.unread(), ms(0));
        standstill.answered();
        assert!(standstill.look(ms(5_000)));
        assert_eq!(standstill.unread(), ms(1_000));
    }

    #[test]
    fn standstill_clock_advances() {
        let before = clock();
        std::thread::sleep(ms(2));
        assert!(clock() >= before + ms(2));
    }
}
