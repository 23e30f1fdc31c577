//! Detection of a stalled disk: the thread that waits for the disk cannot report it, but others can.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Start of the disk operation that a thread is running.
#[derive(Debug, Default)]
pub struct Operation(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    since: Option<Instant>,
    /// Whether the stall of this operation has been reported.
    told: bool,
}

/// Guard that ends the operation on drop, including after a panic.
struct End<'a>(&'a Mutex<Running>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.lock() = Running::default();
    }
}

impl Operation {
    /// Runs `job`, which uses the disk. Must not be called by several threads at the same time.
    pub fn run<T>(&self, job: impl FnOnce() -> T) -> T {
        self.0.lock().since = Some(Instant::now());
        let _end = End(&self.0);
        job()
    }

    /// Returns whether an operation has been running for at least `longest`; always false if `longest` is zero.
    pub fn is_stalled(&self, longest: Duration) -> bool {
        self.0.lock().is_stalled(longest)
    }

    /// Calls `tell` if an operation has been running for at least `longest`: once per operation, and before the operation ends.
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
    fn a_stalled_operation_is_reported_once_and_not_after_its_end() {
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
    fn a_panic_ends_the_operation() {
        let operation = Operation::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            operation.run(|| panic!("it panics, as the test asked"));
        }));
        assert!(panicked.is_err() && !operation.is_stalled(Duration::from_nanos(1)));
    }
}
