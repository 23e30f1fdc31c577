//! How long to wait before the next try to connect.

use std::time::Duration;

/// The longest wait.
const LONGEST: Duration = Duration::from_mins(1);
/// The first try is made within this time: a broker that was only started anew is found again at once, and a
/// thousand clients still do not come in the same millisecond.
const FIRST: Duration = Duration::from_millis(125);

/// Random times of 0 to 2^n s and at most 60 s ("full jitter"), n growing from -3 with every failure.
#[derive(Debug)]
pub(super) struct Backoff {
    most: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { most: FIRST }
    }

    pub(super) fn next(&mut self) -> Duration {
        let wait = self.most.mul_f64(fastrand::f64());
        self.most = (self.most * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_are_random() {
        let (mut waits, mut last) = (Vec::new(), Duration::ZERO);
        for _ in 0..200 {
            let mut backoff = Backoff::new();
            let mut most = FIRST;
            for _ in 0..12 {
                last = backoff.next();
                assert!(last <= most, "{last:?} of {most:?}");
                most = (most * 2).min(LONGEST);
            }
            waits.push(last);
        }
        waits.sort();
        assert!(waits[20] < LONGEST / 4 && waits[180] > LONGEST / 4 * 3, "{:?} {:?}", waits[20], waits[180]);
    }
}
