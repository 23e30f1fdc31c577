//! How fast an owner's retained messages may grow once they take much already: within its share an owner may fill gigabytes,
//! but not in an instant.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::owner::Owner;

/// An owner is paced once it holds this part of what all may.
const PACED_PART: usize = 4;
/// A publisher waits for no less: many small messages wait together.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Owners whose retained messages have grown faster than they may, and when, in microseconds on the broker's clock, they may
/// grow on. Those that may are taken out when another one comes in.
#[derive(Debug)]
pub(crate) struct Growth {
    /// Bytes a second; 0: no limit.
    rate: u64,
    /// Bytes of an owner that are not paced.
    free: usize,
    owners: Mutex<HashMap<Arc<Owner>, u64>>,
}

impl Growth {
    /// For `rate` bytes a second, where all may have `limit` bytes retained.
    pub(crate) fn new(rate: usize, limit: usize) -> Self {
        Self { rate: rate as u64, free: limit / PACED_PART, owners: Mutex::default() }
    }

    /// What `owner` has retained has grown by `bytes`, to `held`, at `now` in milliseconds. Returns how long who published
    /// them is to wait.
    pub(crate) fn add(&self, owner: &Arc<Owner>, held: usize, bytes: usize, now: u64) -> Option<Duration> {
        if self.rate == 0 || held <= self.free {
            return None;
        }
        let now = now * 1_000;
        let mut owners = self.owners.lock();
        if !owners.contains_key(owner) {
            owners.retain(|_, until| *until > now);
        }
        let until = owners.entry(owner.clone()).or_default();
        *until = (*until).max(now) + bytes as u64 * 1_000_000 / self.rate;
        Some(Duration::from_micros(*until - now)).filter(|wait| *wait >= SHORTEST_WAIT)
    }

    /// How long what `owner` has retained may not grow, from `now` on in milliseconds.
    pub(crate) fn wait(&self, owner: &Arc<Owner>, now: u64) -> Option<Duration> {
        let until = self.owners.lock().get(owner).copied()?;
        Some(Duration::from_micros(until.saturating_sub(now * 1_000))).filter(|wait| *wait >= SHORTEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_holds_much_grows_at_the_rate_and_others_do_not_wait() {
        let growth = Growth::new(1_000_000, 40_000);
        let [greedy, other] = ["a", "b"].map(|name| Arc::new(Owner::User(name.into())));
        assert_eq!(growth.add(&greedy, 10_000, 10_000, 5), None, "a quarter is free");
        let small: Vec<_> = (0..20).map(|_| growth.add(&greedy, 10_001, 1_000, 5)).collect();
        assert!(small[..9].iter().all(Option::is_none), "{small:?}");
        assert_eq!(small[19], Some(Duration::from_millis(20)));
        assert_eq!(growth.wait(&greedy, 10), Some(Duration::from_millis(15)));
        assert_eq!((growth.wait(&greedy, 16), growth.wait(&other, 5)), (None, None));
        assert_eq!(growth.add(&other, 10_001, 1_000, 30), None);
        assert_eq!(growth.owners.lock().len(), 1, "who may grow is forgotten");
        let unlimited = Growth::new(0, 40_000);
        assert_eq!(unlimited.add(&greedy, usize::MAX, usize::MAX, 5), None);
    }
}
