//! Limit on the growth of an owner's retained messages when they take much memory: an owner may fill its share, which
//! may be gigabytes, but not instantly.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::owner::Owner;

/// Part (1/n) of the limit of all retained messages from which an owner is slowed down.
const PACED_PART: usize = 4;
/// Minimum wait of a publisher: shorter waits for small messages are accumulated.
const MIN_WAIT: Duration = Duration::from_millis(10);

/// Owners whose retained messages have grown faster than allowed, with the time at which they may grow again, in
/// microseconds on the broker's clock. Past entries are removed when another owner is added.
#[derive(Debug)]
pub(crate) struct Growth {
    /// Allowed growth in bytes per second; 0 means no limit.
    rate: u64,
    /// Number of bytes up to which an owner is not slowed down.
    free: usize,
    owners: Mutex<HashMap<Arc<Owner>, u64>>,
}

impl Growth {
    /// Creates a limit of `rate` bytes per second. `limit` is the limit of all retained messages, in bytes.
    pub(crate) fn new(rate: usize, limit: usize) -> Self {
        Self { rate: rate as u64, free: limit / PACED_PART, owners: Mutex::default() }
    }

    /// Records that the retained messages of `owner` have grown by `bytes`, to `held`, at `now` in milliseconds.
    /// Returns how long their publisher has to wait.
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
        Some(Duration::from_micros(*until - now)).filter(|wait| *wait >= MIN_WAIT)
    }

    /// Returns how long the retained messages of `owner` must not grow, counted from `now` in milliseconds; `None` if
    /// they may grow at once.
    pub(crate) fn wait(&self, owner: &Arc<Owner>, now: u64) -> Option<Duration> {
        let until = self.owners.lock().get(owner).copied()?;
        Some(Duration::from_micros(until.saturating_sub(now * 1_000))).filter(|wait| *wait >= MIN_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_owner_that_holds_much_is_slowed_to_the_rate() {
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
