//! Waits between attempts to connect.

use std::time::Duration;

use crate::environment::Environment;

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Limit of the first wait: a broker that was restarted is found again at once, and a thousand clients still do not
/// connect in the same millisecond.
const FIRST_LIMIT: Duration = Duration::from_millis(125);

/// Random waits of 0 to 2^n s, 60 s at most ("full jitter"); n grows from -3 with every failure.
#[derive(Debug)]
pub(super) struct Backoff {
    limit: Duration,
    environment: Environment,
}

impl Backoff {
    pub(super) fn new(environment: Environment) -> Self {
        Self { limit: FIRST_LIMIT, environment }
    }

    /// Begins anew after a connection that lasted.
    pub(super) fn reset(&mut self) {
        self.limit = FIRST_LIMIT;
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.limit.mul_f64(self.environment.random_fraction());
        self.limit = (self.limit * 2).min(LONGEST_WAIT);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::ManualClock;

    #[test]
    fn waits_grow_to_a_minute_and_are_random() {
        let environment = Environment::simulated(ManualClock::new(0), 11);
        let (mut waits, mut last) = (Vec::new(), Duration::ZERO);
        let mut backoff = Backoff::new(environment);
        for _ in 0..200 {
            backoff.reset();
            let mut limit = FIRST_LIMIT;
            for _ in 0..12 {
                last = backoff.next();
                assert!(last <= limit, "{last:?} of {limit:?}");
                limit = (limit * 2).min(LONGEST_WAIT);
            }
            waits.push(last);
        }
        waits.sort();
        assert!(
            waits[20] < LONGEST_WAIT / 4 && waits[180] > LONGEST_WAIT / 4 * 3,
            "{:?} {:?}",
            waits[20],
            waits[180]
        );
    }
}
