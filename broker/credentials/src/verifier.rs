//! Verifier of passwords with its own threads.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread;

use futures_channel::oneshot::{Receiver, Sender, channel};
use parking_lot::RwLock;
use rantai_access::MAX_USER_CHARS;

use crate::priority::lower_priority;
use crate::queue::FairQueue;
use crate::record::{MAX_PASSWORD_BYTES, Record};
use crate::records::{KnownRecord, MemoryKey, Records};
use crate::secret::Secret;

/// Maximum length of a user name, in bytes.
const MAX_USER_BYTES: usize = 4 * MAX_USER_CHARS;

/// Resource limits of password checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifierLimits {
    /// Threads that compute hashes. Each needs the memory of one hash.
    pub threads: usize,
    /// Maximum number of passwords that wait for a thread. Each takes at most [`MAX_PASSWORD_BYTES`].
    pub waiting: usize,
}

/// Verifier of users' passwords. Cheap to clone; its threads end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Verifier(Arc<VerifierHandle>);

#[derive(Debug)]
struct VerifierHandle(Arc<VerifierPool>);

#[derive(Debug)]
struct VerifierPool {
    records: RwLock<Records>,
    queue: FairQueue<IpAddr, PasswordCheck>,
    counts: AtomicCounts,
}

#[derive(Debug, Default)]
struct AtomicCounts {
    hashed: AtomicU64,
    remembered: AtomicU64,
    busy: AtomicU64,
}

/// Counters of password checks since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifierCounts {
    /// Hashes computed.
    pub hashed: u64,
    /// Passwords found in the cache of verified passwords, without computing a hash.
    pub remembered: u64,
    /// Checks refused because the queue was full.
    pub busy: u64,
}

/// Password check that waits for a thread.
#[derive(Debug)]
struct PasswordCheck {
    known: Arc<KnownRecord>,
    key: Arc<MemoryKey>,
    password: Secret,
    /// Whether the user does not exist: the record is that of another user, and no password is accepted.
    decoy: bool,
    answer: Sender<Result<bool, Busy>>,
}

/// Error of a check that was not carried out: too many passwords wait, there was no memory for the hash, or the verifier
/// was dropped. The password may be right or wrong; the client may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be checked")]
pub struct Busy;

/// Future of a password check. Dropping it cancels the check unless a thread has already begun it.
#[derive(Debug)]
#[must_use = "a check that is dropped is withdrawn"]
pub struct Verification(VerificationState);

#[derive(Debug)]
enum VerificationState {
    KnownRecord(Result<bool, Busy>),
    Waiting(Receiver<Result<bool, Busy>>),
}

impl Default for VerifierLimits {
    /// Half of the cores, at least one and at most four threads, so that the other half is left to connected clients; and
    /// 4,096 places, which is about 5 MiB of the longest passwords.
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { threads: (cores / 2).clamp(1, 4), waiting: 4096 }
    }
}

impl Verifier {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// The system has no random bytes, or a thread cannot be started.
    pub fn start(records: HashMap<String, Record>, limits: VerifierLimits) -> std::io::Result<Self> {
        let key = MemoryKey::random().map_err(std::io::Error::other)?;
        let pool = Arc::new(VerifierPool {
            records: RwLock::new(Records::new(records, Arc::new(key))),
            queue: FairQueue::new(limits.waiting),
            counts: AtomicCounts::default(),
        });
        // Dropping the handle closes the queue if a later thread cannot be started.
        let handle = VerifierHandle(pool);
        for number in 0..limits.threads.max(1) {
            let pool = handle.0.clone();
            thread::Builder::new().name(format!("rantai-hash-{number}")).spawn(move || {
                lower_priority();
                while let Some(job) = pool.queue.pop() {
                    job.run(&pool.counts);
                }
            })?;
        }
        Ok(Self(Arc::new(handle)))
    }

    /// Checks the password of a user. Resolves to `false` for a wrong password and for an unknown user, after the same time.
    ///
    /// A password that was verified before is accepted at once, as long as the user's record stays the same. Others wait
    /// for a thread, in turns by `source`: the address of the client, or of its network for IPv6, so that the attempts of
    /// one host delay only its own passwords. Does not block, and does not depend on a particular runtime.
    ///
    /// # Errors
    ///
    /// The future fails with [`Busy`] if too many passwords wait, in total or of this source, if there is no memory for
    /// the hash, and if the last clone of the verifier is dropped.
    pub fn verify(&self, user: &str, password: &[u8], source: IpAddr) -> Verification {
        let pool = &self.0.0;
        if user.len() > MAX_USER_BYTES || password.len() > MAX_PASSWORD_BYTES {
            return Verification::known(Ok(false));
        }
        let records = pool.records.read();
        let key = records.key().clone();
        let (known, decoy) = match records.find(user) {
            Some(known) => (known, false),
            None => match records.decoy(user) {
                Some(known) => (known, true),
                None => return Verification::known(Ok(false)),
            },
        };
        drop(records);
        // Also computed for a decoy, so that both cases take the same time.
        if known.remembers(password, &key) && !decoy {
            count(&pool.counts.remembered);
            return Verification::known(Ok(true));
        }
        let (answer, receiver) = channel();
        let job = PasswordCheck { known, key, password: Secret::new(password), decoy, answer };
        if pool.queue.push(source, job).is_err() {
            count(&pool.counts.busy);
            return Verification::known(Err(Busy));
        }
        Verification(VerificationState::Waiting(receiver))
    }

    /// Replaces the records of all users. The cache keeps passwords of records that have not changed; passwords that wait
    /// are checked with the records at the time of their request. Returns the users whose earlier passwords are no longer
    /// valid, because they have another record now, or none.
    pub fn replace_records(&self, records: HashMap<String, Record>) -> HashSet<String> {
        let mut current = self.0.0.records.write();
        let replaced = current.replaced_by(records);
        let changed = current.changed_in(&replaced);
        *current = replaced;
        changed
    }

    /// Returns the counters of password checks.
    pub fn counts(&self) -> VerifierCounts {
        let AtomicCounts { hashed, remembered, busy } = &self.0.0.counts;
        VerifierCounts {
            hashed: hashed.load(Ordering::Relaxed),
            remembered: remembered.load(Ordering::Relaxed),
            busy: busy.load(Ordering::Relaxed),
        }
    }
}

impl Drop for VerifierHandle {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

impl PasswordCheck {
    fn run(self, counts: &AtomicCounts) {
        let Self { known, key, password, decoy, answer } = self;
        // The client is gone: its password need not be hashed.
        if answer.is_canceled() {
            return;
        }
        // Another client of the same user may have verified the same password in the meantime.
        if !decoy && known.remembers(password.bytes(), &key) {
            count(&counts.remembered);
            let _ = answer.send(Ok(true));
            return;
        }
        count(&counts.hashed);
        let Ok(right) = known.record().verify(password.bytes()) else {
            let _ = answer.send(Err(Busy));
            return;
        };
        let right = right && !decoy;
        if right {
            known.remember(password.bytes(), &key);
        }
        // Fails if the future was dropped.
        let _ = answer.send(Ok(right));
    }
}

impl Verification {
    fn known(result: Result<bool, Busy>) -> Self {
        Self(VerificationState::KnownRecord(result))
    }
}

impl Future for Verification {
    type Output = Result<bool, Busy>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            VerificationState::KnownRecord(result) => Poll::Ready(*result),
            // The sender is dropped when the queue is closed.
            VerificationState::Waiting(receiver) => {
                Pin::new(receiver).poll(context).map(|result| result.unwrap_or(Err(Busy)))
            }
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
