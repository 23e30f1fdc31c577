//! Delays between attempts to use a failing disk.

use std::time::Duration;

/// First delay: opening a large file again takes time.
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// Delay that doubles with each failure, from 50 ms up to a maximum.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Starts with a delay of 50 ms.
    pub const fn new(longest: Duration) -> Self {
        Self { next: FIRST_DELAY, longest }
    }

    /// Returns the delay before the next attempt, after another failure.
    pub fn failed(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// Resets the next delay to 50 ms, because the disk works.
    pub fn reset(&mut self) {
        self.next = FIRST_DELAY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_restart_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(150));
        let pauses = [(); 4].map(|()| backoff.failed().as_millis());
        assert_eq!(pauses, [50, 100, 150, 150]);
        backoff.reset();
        assert_eq!(backoff.failed(), FIRST_DELAY);
    }
}
