//! Times in which the process did not run (SIGSTOP, a debugger, a suspended machine, a blocked thread), without I/O: what
//! came meanwhile lay unread, and cannot be told from what has just come.

use std::time::Duration;

/// The longest time between two signs of life that is no standstill.
const LIMIT: Duration = Duration::from_millis(500);
/// How often to call [`Standstill::look`].
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Notices standstills of one connection's task. The clock is the caller's: time since any fixed moment.
///
/// After a standstill a PINGREQ is due. Everything that is read before its PINGRESP may have been sent during the
/// standstill, as a broker writes both to the same byte stream; everything behind it was sent afterwards.
#[derive(Debug)]
pub(super) struct Standstill {
    /// Time of the last sign of life.
    ran: Duration,
    /// Time of the last sign of life before a standstill, while messages from then may still come.
    since: Option<Duration>,
    /// PINGREQs without a PINGRESP.
    unanswered: usize,
    /// How many of the PINGRESPs to come belong to PINGREQs up to the one after the standstill.
    before_fresh: usize,
}

impl Standstill {
    pub(super) fn new(now: Duration) -> Self {
        Self { ran: now, since: None, unanswered: 0, before_fresh: 0 }
    }

    /// Takes a sign of life. Returns true after a standstill: a PINGREQ is due.
    pub(super) fn look(&mut self, now: Duration) -> bool {
        let ran = std::mem::replace(&mut self.ran, now);
        if now.saturating_sub(ran) <= LIMIT {
            return false;
        }
        self.since.get_or_insert(ran);
        self.before_fresh = self.unanswered + 1;
        true
    }

    /// How long a message that is read at the last sign of life may have lain unread.
    pub(super) fn unread(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| self.ran.saturating_sub(since))
    }

    /// Notes that a PINGREQ is written, for whichever reason.
    pub(super) fn pinged(&mut self) {
        self.unanswered += 1;
    }

    /// Notes a PINGRESP.
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

/// A clock that goes on while the machine is suspended, where there is one.
#[cfg(target_os = "linux")]
pub(super) fn clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// A clock that goes on while the machine is suspended, where there is one.
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
    fn an_answer_to_an_earlier_ping_proves_nothing() {
        let mut standstill = Standstill::new(ms(0));
        standstill.pinged();
        assert!(standstill.look(ms(2_000)));
        standstill.pinged();
        standstill.answered();
        assert_eq!(standstill.unread(), ms(2_000));
        // Another standstill before the answer: from the first one on.
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
    fn the_clock_goes_on() {
        let before = clock();
        std::thread::sleep(ms(2));
        assert!(clock() >= before + ms(2));
    }
}
