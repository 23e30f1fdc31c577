//! Reply grants: who was sent a request may publish its reply, and nobody else may.
//!
//! A grant is given when a request is sent to a client, for exactly its Response Topic and Correlation Data, and ends with
//! the reply or the request. It belongs to user and client id, so that it outlives a connection. It also says who asked:
//! whoever passes a request on does so for that user.

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

/// How long a request without an expiry may be replied to, in milliseconds.
const DEFAULT_MS: u64 = 30_000;
/// How long any request may be replied to, in milliseconds.
const LONGEST_MS: u64 = 3_600_000;
/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 64;
/// Parts that are looked through at once for what has expired.
const SWEPT_AT_ONCE: usize = 8;
/// Links of a chain whose grants are used up together with that of the last.
const LONGEST_CHAIN: usize = 16;

/// Who asked for a reply.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Who the grants for it count for, if for anyone.
    pub(crate) asker: Option<Arc<Asker>>,
    /// The user who called.
    pub(crate) caller: Option<ByteString>,
    /// The grant under which the request was passed on.
    pub(crate) passed_on: Option<Arc<Key>>,
}

/// What became of a grant that was to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// One more reply is allowed.
    Added,
    /// The reply that was allowed before still is, for longer.
    Renewed,
    /// Whoever asked has asked for more than its share, or for a reply that nobody on the bus would give.
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
    /// The part that is swept next.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Grant {
    key: Key,
    asked: Arc<Asked>,
    /// When the request expires, in milliseconds on the broker's clock.
    until: u64,
    /// Requests that are not replied to: more than one where they look alike.
    replies: usize,
}

impl Grants {
    /// For `limit` grants at the same time.
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

    /// The one that all requests of `owner` count for, to be kept while it sends any.
    pub(crate) fn asker(&self, owner: &Arc<Owner>) -> Arc<Asker> {
        self.askers.of(owner)
    }

    /// Whether another request may be sent: the grants that its asker has asked for are no more than its share.
    pub(crate) fn may_ask(&self, asker: Option<&Arc<Asker>>) -> bool {
        self.admits(asker, self.count())
    }

    /// Whether there may be another grant beside `count`.
    fn admits(&self, asker: Option<&Arc<Asker>>, count: usize) -> bool {
        // While a third is free, nobody can hold more than its share.
        count < self.limit
            && (may_hold_another(count, count, self.limit)
                || asker.is_none_or(|asker| may_hold_another(asker.grants(), count, self.limit)))
    }

    /// A request is sent to a client that may reply to it until `expires`, or sent `again`, which is no further request.
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
        let until = expires.unwrap_or(now + DEFAULT_MS).min(now + LONGEST_MS);
        let hash = self.hasher.hash_one(wanted);
        let mut shard = self.shard(hash).lock();
        if let Some(grant) = shard.find_mut(hash, |grant| grant.key.is(wanted)) {
            if grant.until > now {
                grant.until = grant.until.max(until);
                if again {
                    return Given::Renewed;
                }
                // Requests of different callers that look alike are passed on for none of them.
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
        // Counted before it is looked at, so that all together never hold more than the limit.
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

    /// Whether a client may publish this reply.
    pub(crate) fn allow(&self, wanted: &Wanted<'_>, now: u64) -> bool {
        self.find(wanted, now, |_| ()).is_some()
    }

    /// Who has asked a client for this reply, for a request that it passes on.
    pub(crate) fn passed_on(&self, wanted: &Wanted<'_>, now: u64) -> Option<Arc<Asked>> {
        self.find(wanted, now, |grant| {
            let Asked { asker, caller, .. } = &*grant.asked;
            let passed_on = Some(Arc::new(grant.key.clone()));
            Arc::new(Asked { asker: asker.clone(), caller: caller.clone(), passed_on })
        })
    }

    /// A client has published its last reply to a request: nothing is left of its grant, nor of those by which the request
    /// was passed on to it.
    pub(crate) fn use_up(&self, wanted: &Wanted<'_>) {
        let mut passed_on = self.use_one(wanted);
        for _ in 0..LONGEST_CHAIN {
            let Some(key) = passed_on else { return };
            passed_on = self.use_one(&key.borrowed());
        }
    }

    /// A request was not sent after all.
    pub(crate) fn take_back(&self, wanted: &Wanted<'_>) {
        self.use_one(wanted);
    }

    /// The grant by which the request was passed on.
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

    /// Takes away what has expired in a part of the table.
    pub(crate) fn sweep(&self, now: u64) {
        let first = self.next.fetch_add(SWEPT_AT_ONCE, Ordering::Relaxed);
        for number in first..first + SWEPT_AT_ONCE {
            let mut shard = self.shards[number % SHARDS].lock();
            shard.retain(|grant| {
                let stays = grant.until > now;
                if !stays {
                    self.forget(grant);
                }
                stays
            });
            // What a burst has taken is given back.
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
        // The table itself goes by the other bits.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    fn forget(&self, grant: &Grant) {
        if let Some(asker) = &grant.asked.asker {
            asker.remove();
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
