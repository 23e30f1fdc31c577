//! Methods marked `once`: what was asked for is on disk before it is begun, and what came of it before anybody
//! is told.
//!
//! A repeat after a crash gets the answer that was kept. Where there is none, the first had begun and nobody
//! knows how far it came: the repeat is told so, and is not carried out.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::Environment;
use rantai_client::object::Answer;
use rantai_client::wire::fault::{Code, Fault};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use rantai_commit::{self as commit, Committer, DiskError, Opener};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_hours(24);
/// Calls that are remembered; beyond it nothing new is begun until one may be forgotten.
const MOST: u64 = 1_000_000;
/// The largest answer kept, in bytes.
const LARGEST: usize = 64 << 10;
/// Old calls forgotten with each new one.
const FORGOTTEN: usize = 16;
/// Calls remembered of which it is not known whether their beginning is on disk.
const MOST_DOUBTFUL: usize = 10_000;
/// When a repeat may come of a call whose result the disk does not take yet.
const ENDING_MS: u64 = 500;

/// Identity to record.
const CALLS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("calls");
/// Second of the end, and identity.
const ENDS: TableDefinition<'static, (u64, &[u8]), ()> = TableDefinition::new("ends");

/// What tells a call from every other: object, reply topic, correlation and number of hops.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity(Vec<u8>);

impl Identity {
    pub(crate) fn new(object: &str, (topic, id, hops): &(String, Vec<u8>, usize)) -> Self {
        let mut bytes = Vec::with_capacity(object.len() + topic.len() + id.len() + 10);
        // Neither of the first two can have NUL in it.
        for part in [object.as_bytes(), topic.as_bytes()] {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
        bytes.extend_from_slice(&(*hops as u64).to_be_bytes());
        bytes.extend_from_slice(id);
        Self(bytes)
    }
}

/// What a call asks for: method and payload, as 16 bytes of their digest.
pub(crate) type Print = [u8; 16];

pub(crate) fn print(method: &str, payload: &[u8]) -> Print {
    let mut hasher = blake3::Hasher::new();
    hasher.update(method.as_bytes()).update(&[0]).update(payload);
    let mut print = Print::default();
    hasher.finalize_xof().fill(&mut print);
    print
}

/// What a call is to the journal.
#[derive(Debug, PartialEq)]
pub(crate) enum Begun {
    /// It is written down, and may be carried out.
    New,
    /// It was carried out before, and this came of it.
    Before(Box<Result<Answer, Fault>>),
}

/// The calls of a node's methods that are marked `once`.
#[derive(Debug)]
pub(crate) struct Journal {
    committer: Committer,
    environment: Environment,
    /// Calls whose beginning may be on disk although their callers were told that it is not: they have not begun.
    doubtful: Mutex<HashSet<Identity>>,
    /// Calls that were carried out, and whose results the disk does not take yet.
    ending: Mutex<HashSet<Identity>>,
}

impl Journal {
    /// In a file, which is made where it is missing.
    pub(crate) fn open(file: &Path, environment: Environment) -> Result<Self, DiskError> {
        Self::open_with(commit::file(file), environment)
    }

    /// For as long as the process runs.
    pub(crate) fn in_memory(environment: Environment) -> Result<Self, DiskError> {
        Self::open_with(commit::memory(), environment)
    }

    fn open_with(opener: Opener, environment: Environment) -> Result<Self, DiskError> {
        let committer = Committer::open(opener, prepare)?;
        Ok(Self { committer, environment, doubtful: Mutex::default(), ending: Mutex::default() })
    }

    /// Writes down that a call is about to be carried out, unless it was before.
    pub(crate) async fn begin(&self, identity: &Identity, print: Print) -> Result<Begun, Fault> {
        if self.ending.lock().contains(identity) {
            return Err(Fault::busy(ENDING_MS));
        }
        let doubtful = self.doubtful.lock().contains(identity);
        let (new, now) = (identity.clone(), self.environment.now_ms() / 1_000);
        let begun = self.committer.write(move |transaction| {
            if doubtful {
                forget_begun(transaction, &new)?;
            }
            begin(transaction, &new, print, now)
        });
        match begun.await {
            Ok(begun) => {
                if doubtful {
                    self.doubtful.lock().remove(identity);
                }
                begun
            }
            Err(error) => {
                if let DiskError::Unknown(_) = error {
                    let mut doubtful = self.doubtful.lock();
                    if doubtful.len() < MOST_DOUBTFUL {
                        doubtful.insert(identity.clone());
                    }
                }
                Err(unwritten(&error))
            }
        }
    }

    /// Writes down what came of it; waits for as long as the disk does not work. Cancelled, it goes on by itself: the
    /// call was carried out, and a repeat has to get its answer.
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
                    // The file goes with the journal, and not with this.
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

    async fn write_end(&self, identity: &Identity, kind: Kind, payload: Vec<u8>) -> Result<(), DiskError> {
        let identity = identity.clone();
        let ended = self.committer.write(move |transaction| {
            let mut calls = transaction.open_table(CALLS)?;
            let begun = calls.get(&*identity.0)?.map(|record| record.value().to_vec());
            if let Some(mut record) = begun {
                record.truncate(HEAD);
                record[0] = kind as u8;
                record.extend_from_slice(&payload);
                calls.insert(&*identity.0, &*record)?;
            }
            Ok(())
        });
        ended.await
    }
}

/// How a record begins: its kind, the print, and the second of its end.
const HEAD: usize = 1 + 16 + 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Begun = 0,
    Value = 1,
    Binary = 2,
    Fault = 3,
    /// Carried out, with an answer that was too large to be kept.
    Large = 4,
}

fn encode(result: &Result<Answer, Fault>) -> Option<(Kind, Vec<u8>)> {
    let (kind, payload) = match result {
        Ok(Answer::Value(value)) => (Kind::Value, serde_json::to_vec(value).ok()?),
        Ok(Answer::Binary(bytes)) => (Kind::Binary, bytes.clone()),
        Err(fault) => (Kind::Fault, serde_json::to_vec(fault).ok()?),
        // Somebody else goes on with it.
        Ok(Answer::Forward(_)) => return None,
    };
    Some(if payload.len() > LARGEST { (Kind::Large, Vec::new()) } else { (kind, payload) })
}

fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(CALLS)?;
    transaction.open_table(ENDS)?;
    Ok(())
}

/// Forgets that a call had begun; one that has ended stays.
fn forget_begun(transaction: &WriteTransaction, identity: &Identity) -> Result<(), redb::Error> {
    let mut calls = transaction.open_table(CALLS)?;
    let begun = calls.get(&*identity.0)?.map(|record| record.value().to_vec());
    if let Some(record) = begun.filter(|record| record.first() == Some(&(Kind::Begun as u8))) {
        calls.remove(&*identity.0)?;
        if let Some(end) = record.get(HEAD - 8..HEAD).and_then(|end| end.try_into().ok()) {
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
) -> Result<Result<Begun, Fault>, redb::Error> {
    let mut calls = transaction.open_table(CALLS)?;
    let mut ends = transaction.open_table(ENDS)?;
    for _ in 0..FORGOTTEN {
        let old = match ends.first()? {
            Some((end, _)) if end.value().0 <= now => (end.value().0, end.value().1.to_vec()),
            _ => break,
        };
        ends.remove((old.0, &*old.1))?;
        calls.remove(&*old.1)?;
    }
    if let Some(record) = calls.get(&*identity.0)? {
        return Ok(met(record.value(), print));
    }
    if calls.len()? >= MOST {
        return Ok(Err(Fault::busy(60_000)));
    }
    let end = now + KEPT.as_secs();
    let mut record = vec![Kind::Begun as u8];
    record.extend_from_slice(&print);
    record.extend_from_slice(&end.to_be_bytes());
    calls.insert(&*identity.0, &*record)?;
    ends.insert((end, &*identity.0), ())?;
    Ok(Ok(Begun::New))
}

/// What is to be said to a call that was met before.
fn met(record: &[u8], print: Print) -> Result<Begun, Fault> {
    let reused = |text: &str| Err(Fault::new(Code::IDENTITY_REUSED, text));
    if record.len() < HEAD || record[1..17] != print {
        return reused("this identity was used for another request");
    }
    let payload = &record[HEAD..];
    let read = match record[0] {
        kind if kind == Kind::Value as u8 => {
            serde_json::from_slice(payload).ok().map(|v| Ok(Answer::Value(v)))
        }
        kind if kind == Kind::Binary as u8 => Some(Ok(Answer::Binary(payload.to_vec()))),
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use rantai_commit::faulty;
    use serde_json::json;

    fn identity(id: u8) -> Identity {
        Identity::new("ledger", &("rantai/reply/ledger/me".to_owned(), vec![id; 16], 0))
    }

    async fn begun(journal: &Journal, id: u8, now: u64) -> Result<Begun, Fault> {
        let identity = identity(id);
        let job = move |transaction: &WriteTransaction| begin(transaction, &identity, [7; 16], now);
        journal.committer.write(job).await.expect("written")
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_its_time_and_then_forgotten() {
        let journal = Arc::new(Journal::in_memory(Environment::default()).expect("a journal"));
        assert_eq!(begun(&journal, 1, 1_000).await, Ok(Begun::New));
        journal.end(&identity(1), &Ok(Answer::Value(json!(5)))).await.expect("written");
        let kept = Begun::Before(Box::new(Ok(Answer::Value(json!(5)))));
        let last = 1_000 + KEPT.as_secs() - 1;
        assert_eq!(begun(&journal, 1, last).await, Ok(kept));
        assert_eq!(begun(&journal, 1, last + 1).await, Ok(Begun::New));
    }

    #[tokio::test]
    async fn every_kind_of_end_is_told_again() {
        let journal = Arc::new(Journal::in_memory(Environment::default()).expect("a journal"));
        let ends = [
            Ok(Answer::Value(json!({"a": [1, null]}))),
            Ok(Answer::Binary(vec![0, 255])),
            Err(Fault::failed("no_book", "which?")),
        ];
        for (id, end) in ends.into_iter().enumerate() {
            let id = id as u8;
            assert_eq!(begun(&journal, id, 0).await, Ok(Begun::New));
            journal.end(&identity(id), &end).await.expect("written");
            assert_eq!(begun(&journal, id, 1).await, Ok(Begun::Before(Box::new(end))));
        }
        assert_eq!(begun(&journal, 100, 0).await, Ok(Begun::New));
        journal.end(&identity(100), &Ok(Answer::Binary(vec![0; LARGEST + 1]))).await.expect("written");
        let error = begun(&journal, 100, 1).await.expect_err("not kept");
        assert_eq!(error.code, Code::IDENTITY_REUSED);
    }

    fn on_a_faulty_disk() -> (tempfile::TempDir, Arc<Journal>, Arc<faulty::Switch>) {
        let folder = tempfile::tempdir().expect("a directory");
        let (opener, switch) = faulty::file(&folder.path().join("once.redb"));
        (folder, Arc::new(Journal::open_with(opener, Environment::default()).expect("a journal")), switch)
    }

    async fn begun_at_last(journal: &Journal, id: u8) -> Begun {
        loop {
            match journal.begin(&identity(id), [7; 16]).await {
                Ok(begun) => return begun,
                Err(fault) => assert_eq!(fault.code, Code::BUSY, "{fault}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_was_carried_out_is_told_again_though_the_disk_was_full_at_its_end() {
        let (_folder, journal, switch) = on_a_faulty_disk();
        assert_eq!(begun_at_last(&journal, 1).await, Begun::New);
        switch.full.store(true, Ordering::Relaxed);
        let answer = Ok(Answer::Value(json!(5)));
        let ending = tokio::spawn({
            let (journal, answer) = (journal.clone(), answer.clone());
            async move { journal.end(&identity(1), &answer).await }
        });
        while journal.ending.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        // Other calls are not begun meanwhile.
        let fault = journal.begin(&identity(2), [7; 16]).await.expect_err("full");
        assert!(fault.code == Code::BUSY && fault.is_retryable(), "{fault}");
        // The caller's time is over.
        ending.abort();
        assert!(ending.await.is_err_and(|error| error.is_cancelled()));
        let fault = journal.begin(&identity(1), [7; 16]).await.expect_err("its end is not written");
        assert_eq!(fault.code, Code::BUSY, "a repeat may come again: {fault}");
        switch.full.store(false, Ordering::Relaxed);
        assert_eq!(begun_at_last(&journal, 1).await, Begun::Before(Box::new(answer)));
        assert_eq!(begun_at_last(&journal, 2).await, Begun::New);
    }

    /// The beginning was on disk, and its caller was told busy: the repeat was then told that the outcome is unknown.
    #[tokio::test]
    async fn a_call_that_was_told_busy_is_begun_by_its_repeat() {
        let mut doubted = 0;
        for writes in [0, 1, 2, 3, 5, 8] {
            let (_folder, journal, switch) = on_a_faulty_disk();
            switch.writes.store(writes, Ordering::Relaxed);
            switch.full.store(true, Ordering::Relaxed);
            switch.gone.store(true, Ordering::Relaxed);
            let mut id = 0;
            let refused = loop {
                id += 1;
                match journal.begin(&identity(id), [7; 16]).await {
                    Ok(begun) => assert_eq!(begun, Begun::New),
                    Err(fault) => break fault,
                }
            };
            assert_eq!(refused.code, Code::BUSY, "{refused}");
            doubted += journal.doubtful.lock().len();
            switch.full.store(false, Ordering::Relaxed);
            switch.gone.store(false, Ordering::Relaxed);
            assert_eq!(begun_at_last(&journal, id).await, Begun::New, "after {writes} writes");
            assert!(journal.doubtful.lock().is_empty());
        }
        assert!(doubted > 0, "some of the commits are doubtful");
    }

    #[tokio::test]
    async fn many_at_once_are_all_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Journal::open(&directory.path().join("once.redb"), Environment::default());
        let journal = Arc::new(open().expect("a journal"));
        assert!(open().is_err(), "one process at a time");
        let mut calls = tokio::task::JoinSet::new();
        for id in 0..=255 {
            let journal = journal.clone();
            calls.spawn(async move { journal.begin(&identity(id), [7; 16]).await });
        }
        let begun = calls.join_all().await;
        assert!(begun.iter().all(|begun| *begun == Ok(Begun::New)));
    }
}
