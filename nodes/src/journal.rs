//! Journal of the calls of methods marked `once`: a call is recorded on disk before the method runs, and its result
//! before the caller gets it.
//!
//! A repeat after a crash gets the recorded result. If none was recorded, the call had begun and how far it came is
//! not known: the repeat fails with `outcome_unknown`, and is not carried out.

mod holders;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rantai_client::Environment;
use rantai_client::object::Answer;
use rantai_client::shares::{CallerKey, ShareLimits};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::request;
use redb::{ReadableDatabase as _, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use holders::{CALLERS, Changes, Holders};

use rantai_commit::{self as commit, Committer, DiskError, Format, Layout, Opener, Order};

/// Time for which a call and its result are kept.
const KEPT_TIME: Duration = Duration::from_hours(24);
/// Maximum number of calls in the journal, shared among callers; further calls are refused until old ones expire.
const MAX_CALLS: u64 = 1_000_000;
/// Maximum size of a recorded result, in bytes.
const MAX_RESULT_BYTES: usize = 64 << 10;
/// Maximum number of expired calls that are removed with each new one.
const MAX_REMOVED_AT_ONCE: usize = 16;
/// Maximum number of calls remembered of which it is not known whether their beginning is on disk.
const MAX_DOUBTFUL: usize = 10_000;
/// Time after which a call may be repeated whose result cannot be written to disk yet, in milliseconds.
const ENDING_MS: u64 = 500;

/// Identity of a call to its record: kind, print, second of the expiry, payload.
const CALLS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("calls");
/// Second of the expiry, and identity of the call.
const ENDS: TableDefinition<'static, (u64, &[u8]), ()> = TableDefinition::new("ends");

/// Tables of a journal's file.
pub const LAYOUT: Layout = Layout {
    file: "once.redb",
    order: Order::Journal,
    format: Format { current: 1, stored: None },
    tables: |tables| {
        tables.table(CALLS)?;
        tables.table(ENDS)?;
        tables.table(CALLERS)?;
        commit::common_tables(tables)
    },
};

/// Identity of a call: object, reply topic, correlation data and number of hops.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity(Vec<u8>);

impl Identity {
    pub(crate) fn new(object: &str, identity: &request::Identity<'_>) -> Self {
        let request::Identity { reply_to, id, hops } = identity;
        let topic = reply_to.as_str();
        let mut bytes = Vec::with_capacity(object.len() + topic.len() + id.len() + 10);
        // Neither object names nor topics can contain NUL.
        for part in [object.as_bytes(), topic.as_bytes()] {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
        bytes.extend_from_slice(&(*hops as u64).to_be_bytes());
        bytes.extend_from_slice(id);
        Self(bytes)
    }
}

/// 16-byte digest of a call's method and payload.
pub(crate) type Print = [u8; 16];

pub(crate) fn print(method: &str, payload: &[u8]) -> Print {
    let mut hasher = blake3::Hasher::new();
    hasher.update(method.as_bytes()).update(&[0]).update(payload);
    let mut print = Print::default();
    hasher.finalize_xof().fill(&mut print);
    print
}

/// Result of recording the beginning of a call.
#[derive(Debug, PartialEq)]
pub(crate) enum Begun {
    /// The call is recorded, and may be carried out.
    New,
    /// The call is a repeat: this is the result of the first.
    Before(Box<Result<Answer, Fault>>),
}

/// Journal of the calls of a node's methods that are marked `once`.
#[derive(Debug)]
pub(crate) struct Journal {
    committer: Committer,
    environment: Environment,
    holders: Arc<Holders>,
    /// Calls whose beginning may be on disk although the write was reported as failed: they were not carried out.
    doubtful: Mutex<HashSet<Identity>>,
    /// Calls that were carried out, and whose results are not on disk yet.
    ending: Mutex<HashSet<Identity>>,
}

impl Journal {
    /// Opens a journal in a file, which is created if it is missing.
    pub(crate) fn open(file: &Path, environment: Environment) -> Result<Self, DiskError> {
        let committer = Committer::open(commit::file(file), prepare)?.listed(file, &LAYOUT);
        Self::of(committer, environment, ShareLimits::new(MAX_CALLS))
    }

    /// Opens a journal in memory.
    pub(crate) fn in_memory(environment: Environment) -> Result<Self, DiskError> {
        Self::open_with(commit::memory(), environment)
    }

    fn open_with(opener: Opener, environment: Environment) -> Result<Self, DiskError> {
        Self::open_within(opener, environment, ShareLimits::new(MAX_CALLS))
    }

    fn open_within(opener: Opener, environment: Environment, limits: ShareLimits) -> Result<Self, DiskError> {
        Self::of(Committer::open(opener, prepare)?, environment, limits)
    }

    /// Creates a journal for a simulation, which decides when writes are committed.
    #[cfg(test)]
    pub(crate) fn simulated(
        opener: Opener,
        environment: Environment,
    ) -> Result<(Self, commit::Commits), DiskError> {
        let (committer, commits) = Committer::open_manual(opener, prepare)?;
        Ok((Self::of(committer, environment, ShareLimits::new(MAX_CALLS))?, commits))
    }

    fn of(committer: Committer, environment: Environment, limits: ShareLimits) -> Result<Self, DiskError> {
        let holders = Arc::new(Holders::new(limits));
        committer.read(|database| Ok(holders.count(&database.begin_read()?.open_table(CALLERS)?)?))?;
        Ok(Self { committer, environment, holders, doubtful: Mutex::default(), ending: Mutex::default() })
    }

    /// Records the beginning of a call, and returns the result if it was carried out before.
    pub(crate) async fn begin(
        &self,
        identity: &Identity,
        print: Print,
        caller: &CallerKey,
    ) -> Result<Begun, Fault> {
        if self.ending.lock().contains(identity) {
            return Err(Fault::busy(ENDING_MS));
        }
        let doubtful = self.doubtful.lock().contains(identity);
        let (new, now) = (identity.clone(), self.environment.now_ms() / 1_000);
        let (holders, counted, name) = (self.holders.clone(), self.holders.clone(), caller.to_string());
        let is_new = Arc::new(AtomicBool::new(false));
        let found_new = Arc::clone(&is_new);
        let job = move |transaction: &WriteTransaction| {
            let mut changes = Changes::default();
            if doubtful {
                forget_begun(transaction, &new, &mut changes)?;
            }
            let begun = begin(transaction, &new, print, now, &name, &holders, &mut changes)?;
            found_new.store(matches!(begun, Ok(Begun::New)), Ordering::Relaxed);
            Ok((begun, changes))
        };
        let after = move |result: &Result<(Result<Begun, JournalRefusal>, Changes), DiskError>| {
            if let Ok((_, changes)) = result {
                counted.committed(changes);
            }
        };
        match self.committer.write_and(job, after).await {
            Ok((begun, _)) => {
                if doubtful {
                    self.doubtful.lock().remove(identity);
                }
                begun.map_err(|refused| match refused {
                    JournalRefusal::Fault(fault) => *fault,
                    JournalRefusal::OverShare => {
                        self.holders.refused(caller);
                        let text = "this caller has its share of the calls that the node remembers; old ones make room in time";
                        Fault { message: text.to_owned(), ..Fault::busy(60_000) }
                    }
                })
            }
            Err(error) => {
                // An existing record belongs to a call that may have been executed.
                if let DiskError::Unknown(_) = error
                    && is_new.load(Ordering::Relaxed)
                {
                    let mut doubtful = self.doubtful.lock();
                    if doubtful.len() < MAX_DOUBTFUL {
                        doubtful.insert(identity.clone());
                    }
                }
                Err(unwritten(&error))
            }
        }
    }

    /// Records the result of a call; retries for as long as the disk fails temporarily. When cancelled, recording goes on in
    /// the background: the call was carried out, and a repeat has to get its result.
    pub(crate) async fn end(
        self: &Arc<Self>,
        identity: &Identity,
        result: &Result<Answer, Fault>,
    ) -> Result<(), Fault> {
        let Some((kind, payload)) = encode(result) else { return Ok(()) };
        let identity = identity.clone();
        let journal = Arc::downgrade(self);
        self.ending.lock().insert(identity.clone());
        let ended = tokio::spawn(async move {
            loop {
                let Some(journal) = journal.upgrade() else {
                    return Err(DiskError::from(redb::Error::DatabaseClosed));
                };
                let ended = journal.write_end(&identity, kind, payload.clone()).await;
                match ended {
                    // Released before waiting, so that dropping the journal closes its file.
                    Err(error) if error.is_retryable() => {
                        drop(journal);
                        tokio::time::sleep(error.retry_after()).await;
                    }
                    ended => {
                        journal.ending.lock().remove(&identity);
                        return ended;
                    }
                }
            }
        });
        match ended.await {
            Ok(ended) => ended.map_err(|error| unwritten(&error)),
            Err(error) => Err(Fault::new(Code::BROKEN_OBJECT, error.to_string())),
        }
    }

    async fn write_end(&self, identity: &Identity, kind: Kind, payload: Bytes) -> Result<(), DiskError> {
        let identity = identity.clone();
        let ended = self.committer.write(move |transaction| {
            let mut calls = transaction.open_table(CALLS)?;
            let begun = calls.get(&*identity.0)?.map(|record| record.value().to_vec());
            if let Some(mut record) = begun {
                record.truncate(HEAD_BYTES);
                record[0] = kind as u8;
                record.extend_from_slice(&payload);
                calls.insert(&*identity.0, &*record)?;
            }
            Ok(())
        });
        ended.await
    }
}

/// Length of the head of a record: kind, print, and second of the expiry.
const HEAD_BYTES: usize = 1 + 16 + 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Begun = 0,
    Value = 1,
    Binary = 2,
    Fault = 3,
    /// Executed, with a result that was too large to be recorded.
    Large = 4,
}

fn encode(result: &Result<Answer, Fault>) -> Option<(Kind, Bytes)> {
    let (kind, payload) = match result {
        Ok(Answer::Value(value)) => (Kind::Value, serde_json::to_vec(value).ok()?.into()),
        Ok(Answer::Binary(bytes)) => (Kind::Binary, bytes.clone()),
        Err(fault) => (Kind::Fault, serde_json::to_vec(fault).ok()?.into()),
        // Another object answers the call, or it has ended as a stream.
        Ok(Answer::Forward(_) | Answer::FinalPart { .. }) => return None,
    };
    Some(if payload.len() > MAX_RESULT_BYTES { (Kind::Large, Bytes::new()) } else { (kind, payload) })
}

fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(CALLS)?;
    transaction.open_table(ENDS)?;
    transaction.open_table(CALLERS)?;
    Ok(())
}

/// Reason why a call is not begun.
#[derive(Debug, PartialEq)]
enum JournalRefusal {
    Fault(Box<Fault>),
    /// The caller has used up its share of the journal.
    OverShare,
}

/// Removes the record of a call that has begun; a record with a result is kept.
fn forget_begun(
    transaction: &WriteTransaction,
    identity: &Identity,
    changes: &mut Changes,
) -> Result<(), redb::Error> {
    let mut calls = transaction.open_table(CALLS)?;
    let begun = calls.get(&*identity.0)?.map(|record| record.value().to_vec());
    if let Some(record) = begun.filter(|record| record.first() == Some(&(Kind::Begun as u8))) {
        calls.remove(&*identity.0)?;
        holders::forget(transaction, &identity.0, changes)?;
        if let Some(end) = record.get(HEAD_BYTES - 8..HEAD_BYTES).and_then(|end| end.try_into().ok()) {
            transaction.open_table(ENDS)?.remove((u64::from_be_bytes(end), &*identity.0))?;
        }
    }
    Ok(())
}

fn begin(
    transaction: &WriteTransaction,
    identity: &Identity,
    print: Print,
    now: u64,
    caller: &str,
    holders: &Holders,
    changes: &mut Changes,
) -> Result<Result<Begun, JournalRefusal>, redb::Error> {
    let mut calls = transaction.open_table(CALLS)?;
    let mut ends = transaction.open_table(ENDS)?;
    for _ in 0..MAX_REMOVED_AT_ONCE {
        let old = match ends.first()? {
            Some((end, _)) if end.value().0 <= now => (end.value().0, end.value().1.to_vec()),
            _ => break,
        };
        ends.remove((old.0, &*old.1))?;
        calls.remove(&*old.1)?;
        holders::forget(transaction, &old.1, changes)?;
    }
    if let Some(record) = calls.get(&*identity.0)? {
        return Ok(met(record.value(), print).map_err(|fault| JournalRefusal::Fault(Box::new(fault))));
    }
    if !holders.admits(caller, calls.len()?) {
        return Ok(Err(JournalRefusal::OverShare));
    }
    let end = now + KEPT_TIME.as_secs();
    let mut record = vec![Kind::Begun as u8];
    record.extend_from_slice(&print);
    record.extend_from_slice(&end.to_be_bytes());
    calls.insert(&*identity.0, &*record)?;
    ends.insert((end, &*identity.0), ())?;
    transaction.open_table(CALLERS)?.insert(&*identity.0, caller)?;
    changes.added = Some(caller.to_owned());
    Ok(Ok(Begun::New))
}

/// Returns the outcome of a call that is in the journal already.
fn met(record: &[u8], print: Print) -> Result<Begun, Fault> {
    let reused = |text: &str| Err(Fault::new(Code::IDENTITY_REUSED, text));
    if record.len() < HEAD_BYTES || record[1..17] != print {
        return reused("this identity was used for another request");
    }
    let payload = &record[HEAD_BYTES..];
    let read = match record[0] {
        kind if kind == Kind::Value as u8 => {
            serde_json::from_slice(payload).ok().map(|v| Ok(Answer::Value(v)))
        }
        kind if kind == Kind::Binary as u8 => Some(Ok(Answer::Binary(Bytes::copy_from_slice(payload)))),
        kind if kind == Kind::Fault as u8 => serde_json::from_slice(payload).ok().map(Err),
        kind if kind == Kind::Large as u8 => {
            return reused("it was carried out, and its reply was too large to be kept");
        }
        _ => None,
    };
    let unknown = || {
        let text = "it had begun when the node ended; whether it was carried out is not known";
        Err(Fault::failed("outcome_unknown", text))
    };
    Ok(Begun::Before(Box::new(read.unwrap_or_else(unknown))))
}

fn unwritten(error: &DiskError) -> Fault {
    error.fault("the journal of what is carried out once")
}
