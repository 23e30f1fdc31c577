//! Methods marked `once`: what was asked for is on disk before it is begun, and what came of it before anybody
//! is told.
//!
//! A repeat after a crash gets the answer that was kept. Where there is none, the first had begun and nobody
//! knows how far it came: the repeat is told so, and is not carried out.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rantai_client::object::Answer;
use rantai_client::wire::fault::{Code, Fault};
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use crate::commit::{Committer, DiskError};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_hours(24);
/// Calls that are remembered; beyond it nothing new is begun until one may be forgotten.
const MOST: u64 = 1_000_000;
/// The largest answer kept, in bytes.
const LARGEST: usize = 64 << 10;
/// Old calls forgotten with each new one.
const FORGOTTEN: usize = 16;

/// Identity to record.
const CALLS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("calls");
/// Second of the end, and identity.
const ENDS: TableDefinition<'static, (u64, &[u8]), ()> = TableDefinition::new("ends");

/// What tells a call from every other: object, reply topic, correlation and number of hops.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    _database: Arc<Database>,
}

impl Journal {
    /// In a file, which is made where it is missing.
    pub(crate) fn open(file: &Path) -> Result<Self, DiskError> {
        Self::on(Database::create(file)?)
    }

    /// For as long as the process runs.
    pub(crate) fn in_memory() -> Result<Self, DiskError> {
        Self::on(Database::builder().create_with_backend(InMemoryBackend::new())?)
    }

    fn on(database: Database) -> Result<Self, DiskError> {
        let transaction = database.begin_write()?;
        transaction.open_table(CALLS)?;
        transaction.open_table(ENDS)?;
        transaction.commit()?;
        let database = Arc::new(database);
        let committer = Committer::start(&database).map_err(redb::Error::Io)?;
        Ok(Self { committer, _database: database })
    }

    /// Writes down that a call is about to be carried out, unless it was before.
    pub(crate) async fn begin(&self, identity: &Identity, print: Print) -> Result<Begun, Fault> {
        let identity = identity.clone();
        let begun = self.committer.write(move |transaction| begin(transaction, &identity, print, now()));
        begun.await.unwrap_or_else(|error| Err(unwritten(&error)))
    }

    /// Writes down what came of it.
    pub(crate) async fn end(&self, identity: &Identity, result: &Result<Answer, Fault>) -> Result<(), Fault> {
        let Some((kind, payload)) = encode(result) else { return Ok(()) };
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
        ended.await.map_err(|error| unwritten(&error))
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
    tracing::error!("{error}");
    Fault::new(Code::BROKEN_OBJECT, "what is carried out once cannot be written down")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let journal = Journal::in_memory().expect("a journal");
        assert_eq!(begun(&journal, 1, 1_000).await, Ok(Begun::New));
        journal.end(&identity(1), &Ok(Answer::Value(json!(5)))).await.expect("written");
        let kept = Begun::Before(Box::new(Ok(Answer::Value(json!(5)))));
        let last = 1_000 + KEPT.as_secs() - 1;
        assert_eq!(begun(&journal, 1, last).await, Ok(kept));
        assert_eq!(begun(&journal, 1, last + 1).await, Ok(Begun::New));
    }

    #[tokio::test]
    async fn every_kind_of_end_is_told_again() {
        let journal = Journal::in_memory().expect("a journal");
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

    #[tokio::test]
    async fn many_at_once_are_all_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Arc::new(Journal::open(&directory.path().join("once.redb")).expect("a journal"));
        assert!(Journal::open(&directory.path().join("once.redb")).is_err(), "one process at a time");
        let mut calls = tokio::task::JoinSet::new();
        for id in 0..=255 {
            let journal = journal.clone();
            calls.spawn(async move { journal.begin(&identity(id), [7; 16]).await });
        }
        let begun = calls.join_all().await;
        assert!(begun.iter().all(|begun| *begun == Ok(Begun::New)));
    }
}
