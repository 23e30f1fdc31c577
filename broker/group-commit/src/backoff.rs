//! Pauses between attempts at a disk that fails.

use std::time::Duration;

/// The first pause: to open a large file again takes time.
const FIRST: Duration = Duration::from_millis(50);

/// A pause that doubles with each failure, from 50 ms up to a longest one.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Starts with a pause of 50 ms.
    pub const fn new(longest: Duration) -> Self {
        Self { next: FIRST, longest }
    }

    /// How long to leave the disk alone after another failure.
    pub fn failed(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// The disk works: the next pause is the first one again.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(150));
        let pauses = [(); 4].map(|()| backoff.failed().as_millis());
        assert_eq!(pauses, [50, 100, 150, 150]);
        backoff.reset();
        assert_eq!(backoff.failed(), FIRST);
    }
}
