//! Wall-clock time and randomness of code without I/O, which a simulation sets: the same start and the same seed give
//! the same times, ids and choices.
//!
//! Deadlines, intervals and waits go by tokio's clock instead, which tests can pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use uuid::Uuid;

/// Bit of a version 7 UUID that new ids leave clear, so that ids of one millisecond can be counted up.
const COUNTER_HEADROOM: u128 = 1 << 61;

/// Smallest difference between two ids.
const SMALLEST_STEP: u128 = 1 << 32;

/// A clock and a source of randomness, the system's by default; cheap to clone. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// `None` for the system's clock.
    clock: Option<ManualClock>,
    /// `None` for the system's randomness.
    generator: Option<Mutex<fastrand::Rng>>,
    last_id: Mutex<u128>,
}

/// A wall clock that stands still until it is set; cheap to clone.
#[derive(Clone, Debug)]
pub struct ManualClock {
    ms: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that shows `ms` milliseconds since 1970.
    pub fn new(ms: u64) -> Self {
        Self { ms: Arc::new(AtomicU64::new(ms)) }
    }

    /// Sets it, also back.
    pub fn set(&self, ms: u64) {
        self.ms.store(ms, Ordering::SeqCst);
    }

    /// The time it shows, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.ms.load(Ordering::SeqCst)
    }
}

impl Environment {
    /// An environment in which time is that of `clock`, and every choice and id follows from it and from `seed`. Its
    /// ids can be predicted: for tests only.
    pub fn simulated(clock: ManualClock, seed: u64) -> Self {
        let generator = Some(Mutex::new(fastrand::Rng::with_seed(seed)));
        Self { inner: Arc::new(Inner { clock: Some(clock), generator, last_id: Mutex::default() }) }
    }

    /// Milliseconds since 1970; 0 before that.
    pub fn now_ms(&self) -> u64 {
        match &self.inner.clock {
            Some(clock) => clock.now_ms(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        }
    }

    /// A random number; by default from a cryptographic generator.
    pub fn random(&self) -> u64 {
        if let Some(generator) = &self.inner.generator {
            return generator.lock().u64(..);
        }
        // Each of the six fixed bits of one half meets a random bit of the other.
        let (high, low) = Uuid::new_v4().as_u64_pair();
        high.rotate_left(32) ^ low
    }

    /// A random number below `end`; 0 when that is 0.
    pub fn random_below(&self, end: u64) -> u64 {
        ((u128::from(self.random()) * u128::from(end)) >> 64) as u64
    }

    /// A random number from 0 up to 1.
    pub fn random_fraction(&self) -> f64 {
        // As many bits as an f64 has.
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A new id, a UUID of version 7: greater by at least 2^32 than all ids before it in this environment, also when
    /// the clock is set back.
    pub fn ordered_id(&self) -> Uuid {
        let random = u128::from(self.random()) << 64 | u128::from(self.random());
        let [bytes @ .., _, _, _, _, _, _] = random.to_be_bytes();
        let fresh = uuid::Builder::from_unix_timestamp_millis(self.now_ms(), &bytes).into_uuid().as_u128();
        let fresh = fresh & !COUNTER_HEADROOM;
        let mut last = self.inner.last_id.lock();
        // The step is random, so that one id does not tell the next, and large: the runs of a task count from its id.
        let next = last.saturating_add(SMALLEST_STEP + (random & 0xFFFF_FFFF));
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
                assert!(id.as_u128() - last.as_u128() >= SMALLEST_STEP, "{id} after {last}");
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
