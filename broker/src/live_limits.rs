//! Limits that a reload replaces while the broker runs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Limits;

/// Maximum number of different sets of limits during one run of a broker. Each set is kept until the end, so that
/// reading the current one needs neither a lock nor a reference count: limits are read several times for each message.
const MAX_LIMIT_SETS: usize = 1_024;

/// The limits in effect.
#[derive(Debug)]
pub(crate) struct LiveLimits {
    sets: Box<[OnceLock<Limits>]>,
    /// Index of the set in effect.
    current: AtomicUsize,
}

/// Error: the broker has had the maximum number of sets of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManySets;

impl LiveLimits {
    pub(crate) fn new(limits: Limits) -> Self {
        let sets: Box<[OnceLock<Limits>]> = (0..MAX_LIMIT_SETS).map(|_| OnceLock::new()).collect();
        sets[0].set(limits).expect("an empty place");
        Self { sets, current: AtomicUsize::new(0) }
    }

    /// Returns the limits in effect.
    pub(crate) fn get(&self) -> &Limits {
        self.sets[self.current.load(Ordering::Acquire)].get().expect("the current set is there")
    }

    /// Replaces the limits. Callers must not run concurrently.
    ///
    /// # Errors
    ///
    /// There is no place for another set; nothing was changed.
    pub(crate) fn replace(&self, limits: &Limits) -> Result<(), TooManySets> {
        for (index, set) in self.sets.iter().enumerate() {
            if set.get_or_init(|| limits.clone()) == limits {
                self.current.store(index, Ordering::Release);
                return Ok(());
            }
        }
        Err(TooManySets)
    }
}

/// Keys of `[limits]` that only a restart applies, because memory is reserved or threads are started by them.
pub(crate) const RESTART_KEYS: [&str; 11] = [
    "disk_stall_s",
    "free_space_bytes",
    "grants",
    "guess_delay_ms",
    "memory_bytes",
    "password_queue",
    "password_threads",
    "retained_bytes",
    "retained_bytes_per_s",
    "total_in_flight_bytes",
    "total_subscription_bytes",
];

/// Returns the limits after a reload: those of the file, except for those that only a restart applies.
pub(crate) fn reloaded(read: &Limits, running: &Limits) -> Limits {
    Limits {
        disk_stall: running.disk_stall,
        free_space_bytes: running.free_space_bytes,
        grants: running.grants,
        guess_delay: running.guess_delay,
        memory_bytes: running.memory_bytes,
        password_queue: running.password_queue,
        password_threads: running.password_threads,
        retained_bytes: running.retained_bytes,
        retained_bytes_per_s: running.retained_bytes_per_s,
        total_in_flight_bytes: running.total_in_flight_bytes,
        total_subscription_bytes: running.total_subscription_bytes,
        ..read.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_limits_reuse_their_place() {
        let (one, other) = (Limits::default(), Limits { connections: 7, ..Limits::default() });
        let live = LiveLimits::new(one.clone());
        for _ in 0..MAX_LIMIT_SETS {
            live.replace(&other).expect("a place");
            assert_eq!(live.get().connections, 7);
            live.replace(&one).expect("the place that it has");
            assert_eq!(*live.get(), one);
        }
        for number in 0..MAX_LIMIT_SETS - 2 {
            live.replace(&Limits { connections: 100 + number, ..Limits::default() }).expect("a place");
        }
        let last = live.get().clone();
        assert_eq!(live.replace(&Limits { connections: 8, ..Limits::default() }), Err(TooManySets));
        assert_eq!(*live.get(), last);
        live.replace(&one).expect("the place that it has");
        assert_eq!(*live.get(), one);
    }

    #[test]
    fn limits_of_memory_and_threads_are_kept_until_a_restart() {
        let running = Limits::default();
        let read = Limits { connections: 1, memory_bytes: 5, grants: 6, ..Limits::default() };
        let reloaded = reloaded(&read, &running);
        assert_eq!(reloaded, Limits { connections: 1, ..running });
    }
}
