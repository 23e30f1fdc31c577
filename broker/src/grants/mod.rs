//! Reply grants: only a client that received a request may publish its reply.
//!
//! A grant is given when a request is sent to a client, for exactly its Response Topic and Correlation Data. It ends
//! with the reply, or when the request expires. It belongs to a user and client id, and outlives the connection. It
//! also records the asker: a client that passes a request on acts for that user.

mod asker;
mod key;

#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytestring::ByteString;
use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::Mutex;

use crate::holdings::may_hold_another;
use crate::owner::Owner;

pub(crate) use asker::Asker;
use asker::Askers;
use key::Key;
pub(crate) use key::Wanted;

/// Time for which a request without an expiry may be replied to, in milliseconds.
const DEFAULT_GRANT_MS: u64 = 30_000;
/// Maximum time for which a request may be replied to, in milliseconds.
const MAX_GRANT_MS: u64 = 3_600_000;
/// Number of shards of the table, each with its own lock.
const SHARDS: usize = 64;
/// Number of shards that one turn sweeps for expired grants.
const SHARDS_PER_SWEEP: usize = 8;
/// Maximum length of a chain of passed-on requests whose grants are used up together with the last one.
const MAX_CHAIN_LENGTH: usize = 16;

/// Asker of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Asker whose share the grants count against, if any.
    pub(crate) asker: Option<Arc<Asker>>,
    /// User of the first call of the chain.
    pub(crate) caller: Option<ByteString>,
    /// Grant under which the request was passed on.
    pub(crate) passed_on: Option<Arc<Key>>,
}

/// Result of giving a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// One more reply is allowed.
    Added,
    /// A reply that was already allowed is allowed for longer.
    Renewed,
    /// The asker exceeds its share, or no object on the bus would send this reply.
    Refused,
}

/// All grants.
#[derive(Debug)]
pub(crate) struct Grants {
    hasher: DefaultHashBuilder,
    shards: Box<[Mutex<HashTable<Grant>>]>,
    askers: Askers,
    count: AtomicUsize,
    limit: usize,
    /// Shard that is swept next.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Grant {
    key: Key,
    asked: Arc<Asked>,
    /// Expiry of the request, in milliseconds on the broker's clock.
    until: u64,
    /// Number of replies allowed; more than one if several requests have the same topic and correlation.
    replies: usize,
}

impl Grants {
    /// Creates a table for at most `limit` grants.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            askers: Askers::default(),
            count: AtomicUsize::new(0),
            limit,
            next: AtomicUsize::new(0),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the asker that counts all requests of `owner`. The caller keeps it for as long as the owner sends
    /// requests.
    pub(crate) fn asker(&self, owner: &Arc<Owner>) -> Arc<Asker> {
        self.askers.of(owner)
    }

    /// Returns whether an asker may send another request: the number of its grants is within its share.
    pub(crate) fn may_ask(&self, asker: Option<&Arc<Asker>>) -> bool {
        self.admits(asker, self.count())
    }

    /// Returns whether there may be another grant in addition to `count`.
    fn admits(&self, asker: Option<&Arc<Asker>>, count: usize) -> bool {
        // While a third of the limit is free, no asker can exceed its share.
        count < self.limit
            && (may_hold_another(count, count, self.limit)
                || asker.is_none_or(|asker| may_hold_another(asker.grants(), count, self.limit)))
    }

    /// Gives a grant for a request that is sent to a client, valid until `expires`. With `again` the request is
    /// retransmitted, and adds no further reply.
    pub(crate) fn give(
        &self,
        wanted: &Wanted<'_>,
        asked: impl FnOnce() -> Arc<Asked>,
        (expires, again): (Option<u64>, bool),
        now: u64,
    ) -> Given {
        if !wanted.is_of_the_bus() {
            return Given::Refused;
        }
        let until = expires.unwrap_or(now + DEFAULT_GRANT_MS).min(now + MAX_GRANT_MS);
        let hash = self.hasher.hash_one(wanted);
        let mut shard = self.shard(hash).lock();
        if let Some(grant) = shard.find_mut(hash, |grant| grant.key.is(wanted)) {
            if grant.until > now {
                grant.until = grant.until.max(until);
                if again {
                    return Given::Renewed;
                }
                // Two callers with equal requests cannot be distinguished, so the request is passed on for neither.
                if grant.asked.caller != asked().caller {
                    let owner = grant.asked.asker.clone();
                    grant.asked = Arc::new(Asked { asker: owner, ..Asked::default() });
                }
                grant.replies += 1;
                return Given::Added;
            }
            let entry = shard.find_entry(hash, |grant| grant.key.is(wanted));
            let (old, _) = entry.expect("found just before").remove();
            self.forget(&old);
        }
        let asked = asked();
        // Incremented before the check, so that concurrent requests cannot exceed the limit.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        if !self.admits(asked.asker.as_ref(), count) {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Given::Refused;
        }
        if let Some(asker) = &asked.asker {
            asker.add();
        }
        let grant = Grant { key: Key::from(wanted), asked, until, replies: 1 };
        shard.insert_unique(hash, grant, |grant| self.hasher.hash_one(grant.key.borrowed()));
        Given::Added
    }

    /// Checks whether a client may publish this reply.
    pub(crate) fn allow(&self, wanted: &Wanted<'_>, now: u64) -> bool {
        self.find(wanted, now, |_| ()).is_some()
    }

    /// Returns the asker of this reply, for a request that the client passes on.
    pub(crate) fn passed_on(&self, wanted: &Wanted<'_>, now: u64) -> Option<Arc<Asked>> {
        self.find(wanted, now, |grant| {
            let Asked { asker, caller, .. } = &*grant.asked;
            let passed_on = Some(Arc::new(grant.key.clone()));
            Arc::new(Asked { asker: asker.clone(), caller: caller.clone(), passed_on })
        })
    }

    /// Uses up the grant of a client that has published its last reply to a request, and the grants of the clients
    /// that passed the request on to it.
    pub(crate) fn use_up(&self, wanted: &Wanted<'_>) {
        let mut passed_on = self.use_one(wanted);
        for _ in 0..MAX_CHAIN_LENGTH {
            let Some(key) = passed_on else { return };
            passed_on = self.use_one(&key.borrowed());
        }
    }

    /// Withdraws the grant of a request that was not sent.
    pub(crate) fn take_back(&self, wanted: &Wanted<'_>) {
        self.use_one(wanted);
    }

    /// Uses up one reply of a grant. Returns the grant by which the request was passed on.
    fn use_one(&self, wanted: &Wanted<'_>) -> Option<Arc<Key>> {
        let hash = self.hasher.hash_one(wanted);
        let mut shard = self.shard(hash).lock();
        let mut entry = shard.find_entry(hash, |grant| grant.key.is(wanted)).ok()?;
        let grant = entry.get_mut();
        if grant.replies > 1 {
            grant.replies -= 1;
            return grant.asked.passed_on.clone();
        }
        let (grant, _) = entry.remove();
        self.forget(&grant);
        grant.asked.passed_on.clone()
    }

    /// Removes expired grants from some shards.
    pub(crate) fn sweep(&self, now: u64) {
        let first = self.next.fetch_add(SHARDS_PER_SWEEP, Ordering::Relaxed);
        for number in first..first + SHARDS_PER_SWEEP {
            let mut shard = self.shards[number % SHARDS].lock();
            shard.retain(|grant| {
                let stays = grant.until > now;
                if !stays {
                    self.forget(grant);
                }
                stays
            });
            // Frees the capacity after a burst of requests.
            if shard.is_empty() && shard.capacity() > 0 {
                *shard = HashTable::new();
            }
        }
        if first.is_multiple_of(SHARDS) {
            self.askers.forget_unused();
        }
    }

    fn find<T>(&self, wanted: &Wanted<'_>, now: u64, then: impl FnOnce(&Grant) -> T) -> Option<T> {
        let hash = self.hasher.hash_one(wanted);
        let shard = self.shard(hash).lock();
        shard.find(hash, |grant| grant.key.is(wanted)).filter(|grant| grant.until > now).map(then)
    }

    fn shard(&self, hash: u64) -> &Mutex<HashTable<Grant>> {
        // The hash table itself uses the lower bits.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    fn forget(&self, grant: &Grant) {
        if let Some(asker) = &grant.asked.asker {
            asker.remove();
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
