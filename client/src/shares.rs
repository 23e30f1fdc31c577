//! Fair shares of a bounded table: no caller fills it alone.
//!
//! One rule applies to every table that callers fill (running calls of an object, uploads, streams, stored tasks): **a caller
//! gets a place only while it holds fewer than twice as many as are free.** Thus one caller holds at most two thirds of a
//! table, a second one two thirds of the rest, and callers that compete continuously come to hold about equal parts; a new
//! caller always finds a place. A table of fewer than 4 places is not shared, as its parts would be too small to be useful.

mod log;
mod report;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

pub use log::ShareLog;
pub use report::{ShareHolder, ShareReport};

use crate::wire::name::ClientId;
use crate::wire::user::User;

/// Minimum size of a table that is shared.
const MIN_SHARED_LIMIT: u64 = 4;

/// Caller that places are counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallerKey {
    /// User, as set by a broker that stamps `caller`.
    User(User),
    /// Client, as named by its reply topic.
    Client(ClientId),
    /// All callers whose requests contain neither.
    Unnamed,
}

impl std::fmt::Display for CallerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user:?}"),
            Self::Client(client) => write!(f, "client {client:?}"),
            Self::Unnamed => write!(f, "callers without a reply topic of their own"),
        }
    }
}

/// Size of a table, and the maximum for one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareLimits {
    /// Number of places of the table.
    pub limit: u64,
    /// Maximum for one caller; `None` for the rule of [this module](self).
    pub per_caller: Option<u64>,
}

impl ShareLimits {
    /// Creates limits for a table of this size, shared by the rule.
    pub fn new(limit: u64) -> Self {
        Self { limit, per_caller: None }
    }

    /// Returns whether a caller that holds `held` of the `taken` places may take `more`.
    pub fn admits(&self, taken: u64, held: u64, more: u64) -> bool {
        let free = self.limit.saturating_sub(taken);
        let holds = held.saturating_add(more);
        let share = match self.per_caller {
            Some(most) => most,
            None if self.limit < MIN_SHARED_LIMIT => self.limit,
            // Free places at the moment when the last of them is taken.
            None => free.saturating_sub(more.saturating_sub(1)).saturating_mul(2),
        };
        more <= free && holds <= share
    }

    /// Returns the maximum number of places that a caller may take that holds `held` of the `taken` places.
    pub fn room(&self, taken: u64, held: u64) -> u64 {
        let free = self.limit.saturating_sub(taken);
        let share = match self.per_caller {
            Some(most) => most.saturating_sub(held),
            None if self.limit < MIN_SHARED_LIMIT => self.limit.saturating_sub(held),
            // `held + more <= 2 * (free - more + 1)`, as above.
            None => free.saturating_add(1).saturating_mul(2).saturating_sub(held) / 3,
        };
        share.min(free)
    }
}

/// Table whose places are shared among callers.
#[derive(Debug)]
pub struct Shares<K: Eq + Hash> {
    limits: ShareLimits,
    taken: AtomicUsize,
    held: Mutex<HashMap<K, u64>>,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// Creates an empty table.
    pub fn new(limits: ShareLimits) -> Arc<Self> {
        Arc::new(Self { limits, taken: AtomicUsize::new(0), held: Mutex::default() })
    }

    /// Returns the number of places that are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Returns whether every caller may take a place, whatever it holds. Takes no lock.
    pub fn admits_anybody(&self) -> bool {
        let taken = self.taken() as u64;
        self.limits.admits(taken, taken, 1)
    }

    /// Returns whether this caller may take a place.
    pub fn admits(&self, caller: &K) -> bool {
        let held = self.held.lock();
        self.limits.admits(self.taken() as u64, held.get(caller).copied().unwrap_or_default(), 1)
    }

    /// Takes a place for a caller until the returned guard is dropped; `None` if the caller is over its share.
    pub fn take(self: &Arc<Self>, caller: &K) -> Option<HeldPlace<K>> {
        let mut held = self.held.lock();
        let holds = held.get(caller).copied().unwrap_or_default();
        if !self.limits.admits(self.taken() as u64, holds, 1) {
            return None;
        }
        held.insert(caller.clone(), holds + 1);
        self.taken.fetch_add(1, Ordering::AcqRel);
        drop(held);
        Some(HeldPlace { shares: self.clone(), caller: caller.clone() })
    }

    /// Takes a place without checking the limits: for a caller that was admitted before.
    pub fn hold(self: &Arc<Self>, caller: K) -> HeldPlace<K> {
        *self.held.lock().entry(caller.clone()).or_default() += 1;
        self.taken.fetch_add(1, Ordering::AcqRel);
        HeldPlace { shares: self.clone(), caller }
    }
}

impl<K: Eq + Hash> HeldPlace<K> {
    /// Returns the caller that holds the place.
    pub fn caller(&self) -> &K {
        &self.caller
    }
}

/// Place of a caller, released on drop.
#[derive(Debug)]
pub struct HeldPlace<K: Eq + Hash> {
    shares: Arc<Shares<K>>,
    caller: K,
}

impl<K: Eq + Hash> Drop for HeldPlace<K> {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock();
        if let Some(holds) = held.get_mut(&self.caller) {
            *holds -= 1;
            if *holds == 0 {
                held.remove(&self.caller);
            }
        }
        self.shares.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes places until it is refused.
    fn greedy(shares: &Arc<Shares<&'static str>>, caller: &'static str) -> Vec<HeldPlace<&'static str>> {
        std::iter::from_fn(|| shares.take(&caller)).collect()
    }

    #[test]
    fn one_caller_takes_two_thirds_and_each_further_one_two_thirds_of_the_rest() {
        let shares = Shares::new(ShareLimits::new(256));
        let held: Vec<_> = ["a", "b", "c", "d"].map(|caller| greedy(&shares, caller)).into();
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [171, 57, 19, 6]);
        assert!(shares.admits(&"new") && !shares.admits(&"a") && !shares.admits_anybody());
        drop(held);
        assert_eq!(shares.taken(), 0);
        assert!(shares.admits_anybody() && shares.held.lock().is_empty(), "all given back");
    }

    #[test]
    fn competing_callers_converge_to_equal_shares() {
        let shares = Shares::new(ShareLimits::new(64));
        let (mut first, mut second) = (greedy(&shares, "first"), greedy(&shares, "second"));
        assert_eq!((first.len(), second.len()), (43, 14));
        // Each releases a place in turn, and both try to take it.
        for _ in 0..100 {
            for held in [&mut first, &mut second] {
                held.pop();
            }
            first.extend(greedy(&shares, "first"));
            second.extend(greedy(&shares, "second"));
        }
        assert!(first.len().abs_diff(second.len()) <= 4, "{} and {}", first.len(), second.len());
        assert!(shares.admits(&"third"));
    }

    #[test]
    fn places_never_exceed_the_limit() {
        let shares = Shares::new(ShareLimits { limit: 8, per_caller: Some(8) });
        let all = greedy(&shares, "a");
        assert_eq!(all.len(), 8, "a set share is what it says");
        assert!(shares.take(&"b").is_none());
        let small = Shares::new(ShareLimits::new(3));
        assert_eq!(greedy(&small, "a").len(), 3, "a small table is not shared");
        assert_eq!(Shares::new(ShareLimits::new(0)).take(&"a").map(drop), None);
        let over = Shares::new(ShareLimits::new(4));
        let held: Vec<_> = (0..6).map(|_| over.hold("a")).collect();
        assert!(!over.admits(&"b") && over.taken() == 6, "above the limit nothing is free");
        drop(held);
        assert!(over.admits(&"b"));
    }

    #[test]
    fn amounts_are_shared_like_places() {
        let bytes = ShareLimits::new(1_000);
        assert!(bytes.admits(0, 0, 660) && !bytes.admits(0, 0, 680) && !bytes.admits(0, 0, 1_001));
        assert!(bytes.admits(500, 0, 300) && !bytes.admits(700, 700, 1));
        assert!(!bytes.admits(u64::MAX, 0, 1) && !bytes.admits(0, u64::MAX, u64::MAX));
    }

    #[test]
    fn room_is_the_maximum_that_admits_accepts() {
        for limit in [0, 1, 3, 4, 5, 64, 1_000] {
            for per_caller in [None, Some(0), Some(40), Some(9_999)] {
                let limits = ShareLimits { limit, per_caller };
                for taken in (0..=limit + 1).step_by(7) {
                    for held in (0..=taken).step_by(3) {
                        let room = limits.room(taken, held);
                        assert!(room == 0 || limits.admits(taken, held, room), "{limits:?} {taken} {held}");
                        assert!(!limits.admits(taken, held, room + 1), "{limits:?} {taken} {held} {room}");
                    }
                }
            }
        }
    }
}
