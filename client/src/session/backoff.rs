//! Delays between attempts to connect.

use std::time::Duration;

use crate::environment::Environment;

/// Maximum delay.
const MAX_DELAY: Duration = Duration::from_mins(1);
/// Maximum of the first delay: short, so that a broker that was restarted is found at once; not zero, so that a
/// thousand clients do not connect in the same millisecond.
const MAX_FIRST_DELAY: Duration = Duration::from_millis(125);

/// Random delays of 0 to 2^n s, 60 s at most ("full jitter"); n grows from -3 with every failure.
#[derive(Debug)]
pub(super) struct Backoff {
    limit: Duration,
    environment: Environment,
}

impl Backoff {
    pub(super) fn new(environment: Environment) -> Self {
        Self { limit: MAX_FIRST_DELAY, environment }
    }

    /// Starts with the first delay again, after a connection that lasted.
    pub(super) fn reset(&mut self) {
        self.limit = MAX_FIRST_DELAY;
    }

    /// Returns the next delay.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.limit.mul_f64(self.environment.random_fraction());
        self.limit = (self.limit * 2).min(MAX_DELAY);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::ManualClock;

    #[test]
    fn delays_are_random_and_grow_to_a_minute() {
        let environment = Environment::simulated(ManualClock::new(0), 11);
        let (mut waits, mut last) = (Vec::new(), Duration::ZERO);
        let mut backoff = Backoff::new(environment);
        for _ in 0..200 {
            backoff.reset();
            let mut limit = MAX_FIRST_DELAY;
            for _ in 0..12 {
                last = backoff.next();
                assert!(last <= limit, "{last:?} of {limit:?}");
                limit = (limit * 2).min(MAX_DELAY);
            }
            waits.push(last);
        }
        waits.sort();
        assert!(
            waits[20] < MAX_DELAY / 4 && waits[180] > MAX_DELAY / 4 * 3,
            "{:?} {:?}",
            waits[20],
            waits[180]
        );
    }
}
