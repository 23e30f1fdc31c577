//! A disk that neither works nor fails: the thread that waits for it cannot say so, others can.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Since when a thread has been in an operation of the disk.
#[derive(Debug, Default)]
pub struct Operation(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    since: Option<Instant>,
    /// Somebody was told that it takes too long.
    told: bool,
}

/// Ends the operation, also where it panics.
struct End<'a>(&'a Mutex<Running>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.lock() = Running::default();
    }
}

impl Operation {
    /// Does `job`, which uses the disk. One thread alone may do so.
    pub fn run<T>(&self, job: impl FnOnce() -> T) -> T {
        self.0.lock().since = Some(Instant::now());
        let _end = End(&self.0);
        job()
    }

    /// Whether an operation has been running for `longest`; never where that is zero.
    pub fn is_stalled(&self, longest: Duration) -> bool {
        self.0.lock().is_stalled(longest)
    }

    /// Calls `tell` once for an operation that has been running for `longest`, before that operation ends.
    pub fn tell_stalled(&self, longest: Duration, tell: impl FnOnce()) {
        let mut running = self.0.lock();
        if running.is_stalled(longest) && !running.told {
            running.told = true;
            tell();
        }
    }
}

impl Running {
    fn is_stalled(&self, longest: Duration) -> bool {
        !longest.is_zero() && self.since.is_some_and(|since| since.elapsed() >= longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_that_takes_too_long_is_told_once_and_is_over_at_its_end() {
        let (operation, told) = (Operation::default(), Mutex::new(0));
        let longest = Duration::from_nanos(1);
        let look = |longest| operation.tell_stalled(longest, || *told.lock() += 1);
        look(longest);
        assert_eq!(*told.lock(), 0, "nothing runs");
        operation.run(|| {
            while !operation.is_stalled(longest) {}
            look(Duration::from_hours(1));
            look(Duration::ZERO);
            assert_eq!(*told.lock(), 0);
            look(longest);
            look(longest);
            assert_eq!(*told.lock(), 1);
        });
        assert!(!operation.is_stalled(longest));
        operation.run(|| {
            while !operation.is_stalled(longest) {}
            look(longest);
        });
        assert_eq!(*told.lock(), 2, "once for each");
    }

    #[test]
    fn an_operation_that_panics_is_over() {
        let operation = Operation::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            operation.run(|| panic!("it panics, as the test asked"));
        }));
        assert!(panicked.is_err() && !operation.is_stalled(Duration::from_nanos(1)));
    }
}
