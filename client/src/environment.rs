//! Wall-clock time and randomness for code without I/O, which a simulation can set: the same start and the same seed give
//! the same times, ids and choices.
//!
//! Deadlines, intervals and waits use tokio's clock instead, which tests can pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use uuid::Uuid;

/// Bit of a version 7 UUID that is cleared in new ids, so that ids of one millisecond can be incremented.
const COUNTER_HEADROOM: u128 = 1 << 61;

/// Minimum difference between two ids.
const MIN_ID_STEP: u128 = 1 << 32;

/// Clock and source of randomness; by default the system's. Cheap to clone; clones share both.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    inner: Arc<EnvironmentState>,
}

#[derive(Debug, Default)]
struct EnvironmentState {
    /// `None` for the system's clock.
    clock: Option<ManualClock>,
    /// `None` for the system's randomness.
    generator: Option<Mutex<fastrand::Rng>>,
    last_id: Mutex<u128>,
}

/// Wall clock that stands still until it is set. Cheap to clone; clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    ms: Arc<AtomicU64>,
}

impl ManualClock {
    /// Creates a clock that shows `ms` milliseconds since 1970.
    pub fn new(ms: u64) -> Self {
        Self { ms: Arc::new(AtomicU64::new(ms)) }
    }

    /// Sets the time in milliseconds since 1970; may set it back.
    pub fn set(&self, ms: u64) {
        self.ms.store(ms, Ordering::SeqCst);
    }

    /// Returns the time in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.ms.load(Ordering::SeqCst)
    }
}

impl Environment {
    /// Creates an environment with the time of `clock`, whose choices and ids are determined by `clock` and `seed`. Its ids can
    /// be predicted: for tests only.
    pub fn simulated(clock: ManualClock, seed: u64) -> Self {
        let generator = Some(Mutex::new(fastrand::Rng::with_seed(seed)));
        Self {
            inner: Arc::new(EnvironmentState { clock: Some(clock), generator, last_id: Mutex::default() }),
        }
    }

    /// Returns the milliseconds since 1970; 0 before that.
    pub fn now_ms(&self) -> u64 {
        match &self.inner.clock {
            Some(clock) => clock.now_ms(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        }
    }

    /// Returns a random number; by default from a cryptographic generator.
    pub fn random(&self) -> u64 {
        if let Some(generator) = &self.inner.generator {
            return generator.lock().u64(..);
        }
        // Rotated, so that each of the six fixed bits of one half is combined with a random bit of the other.
        let (high, low) = Uuid::new_v4().as_u64_pair();
        high.rotate_left(32) ^ low
    }

    /// Returns a random number below `end`; 0 if `end` is 0.
    pub fn random_below(&self, end: u64) -> u64 {
        ((u128::from(self.random()) * u128::from(end)) >> 64) as u64
    }

    /// Returns a random number from 0 (inclusive) to 1 (exclusive).
    pub fn random_fraction(&self) -> f64 {
        // As many bits as the mantissa of an f64 has.
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a new id, a UUID of version 7. It exceeds all earlier ids of this environment by at least 2^32, even if the clock
    /// is set back.
    pub fn ordered_id(&self) -> Uuid {
        let random = u128::from(self.random()) << 64 | u128::from(self.random());
        let [bytes @ .., _, _, _, _, _, _] = random.to_be_bytes();
        let fresh = uuid::Builder::from_unix_timestamp_millis(self.now_ms(), &bytes).into_uuid().as_u128();
        let fresh = fresh & !COUNTER_HEADROOM;
        let mut last = self.inner.last_id.lock();
        // The step is random, so that ids cannot be predicted, and large, as the runs of a task are counted up from its id.
        let next = last.saturating_add(MIN_ID_STEP + (random & 0xFFFF_FFFF));
        *last = fresh.max(next);
        Uuid::from_u128(*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_the_same_ids_and_choices() {
        let drawn = |seed| {
            let environment = Environment::simulated(ManualClock::new(1_000), seed);
            let ids: Vec<Uuid> = (0..50).map(|_| environment.ordered_id()).collect();
            (ids, environment.random_below(1_000), environment.random_fraction().to_bits())
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn ids_grow_while_the_clock_stands_and_when_it_is_set_back() {
        let clock = ManualClock::new(5_000);
        for environment in [Environment::simulated(clock.clone(), 1), Environment::default()] {
            let mut last = environment.ordered_id();
            for round in 0..20_000 {
                if round % 1_000 == 999 {
                    clock.set(clock.now_ms() - 100);
                }
                let id = environment.ordered_id();
                assert!(id.as_u128() - last.as_u128() >= MIN_ID_STEP, "{id} after {last}");
                assert_eq!(id.get_version_num(), 7);
                assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
                last = id;
            }
        }
    }

    #[test]
    fn choices_cover_their_range_and_nothing_else() {
        for environment in [Environment::simulated(ManualClock::new(0), 3), Environment::default()] {
            let mut seen = [0_u32; 3];
            for _ in 0..300 {
                seen[environment.random_below(3) as usize] += 1;
                assert!((0.0..1.0).contains(&environment.random_fraction()));
            }
            assert!(seen.iter().all(|count| *count > 30), "{seen:?}");
            assert_eq!(environment.random_below(0), 0);
            // No bit is the same in all numbers.
            let (all, any) = (0..200)
                .map(|_| environment.random())
                .fold((u64::MAX, 0), |(all, any), n| (all & n, any | n));
            assert_eq!((all, any), (0, u64::MAX));
        }
    }
}
