//! `InsultStore`: the insults and the texts, kept by one object for all replicas.
//!
//! Everything that must not happen twice is decided here, one transaction after the other.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use rantai_client::interface;
use rantai_client::wire::fault::{Code, Fault};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PAGE, check};
use rantai_commit::{self as commit, Committer, DiskError, Opener};
use rantai_nodes::kind::{Building, Configured, Kind};

/// Number to insult, from 0 and without a gap.
const INSULTS: TableDefinition<'static, u64, &str> = TableDefinition::new("insults");
const INSULT_NUMBERS: TableDefinition<'static, &str, u64> = TableDefinition::new("insult numbers");
/// Id, from 1, to the text and the millisecond since 1970.
const TEXTS: TableDefinition<'static, u64, (&str, u64)> = TableDefinition::new("texts");
/// Digests of the texts.
const TEXT_IDS: TableDefinition<'static, &[u8; 16], u64> = TableDefinition::new("text ids");
/// Bytes of everything.
const BYTES: TableDefinition<'static, (), u64> = TableDefinition::new("bytes");
/// Which list this is: another one may have as many insults and yet others.
const EPOCH: TableDefinition<'static, (), &str> = TableDefinition::new("epoch");

/// Insults in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// Of which list: a number of another one says nothing.
    pub epoch: String,
    /// How many there are altogether.
    pub total: u64,
    /// Those after the number that was asked for.
    pub insults: Vec<String>,
}

/// A text that was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// Its number, from 1.
    pub id: u64,
    /// The text, without insults.
    pub text: String,
    /// When it was registered, by RFC 3339.
    pub timestamp: String,
}

/// The lists behind the insult services. Not for callers: they ask the services.
#[interface(version = "1.0.0", tags("insult"))]
pub trait InsultStore {
    /// Keeps insults; of each whether it was new.
    #[method(idempotent)]
    async fn add_insults(&self, insults: Vec<String>) -> Result<Vec<bool>, Fault>;

    /// Insults after the first `after`, as many as fit into one answer.
    #[method(idempotent)]
    async fn insults(&self, after: u64) -> Result<Page, Fault>;

    /// One of the insults, if there are any.
    #[method(idempotent)]
    async fn any_insult(&self) -> Result<Option<String>, Fault>;

    /// Keeps texts out of which exactly the first `insults` of the list `epoch` were taken; of each whether it was
    /// new. Nothing is kept, and nothing answered, where there are other insults by now.
    #[method(idempotent)]
    async fn add_texts(
        &self,
        epoch: String,
        insults: u64,
        texts: Vec<String>,
    ) -> Result<Option<Vec<bool>>, Fault>;

    /// Texts behind the id `after`, as many as fit into one answer.
    #[method(idempotent)]
    async fn texts(&self, after: u64) -> Result<Vec<Kept>, Fault>;
}

/// What a store is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// The name it is served by.
    pub name: String,
    /// Where it is kept; a relative path begins where the file of this configuration is.
    pub file: Option<PathBuf>,
    /// How much.
    #[serde(default)]
    pub room: Room,
}

/// How much is kept; beyond it nothing new is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Room {
    /// Insults.
    pub insults: u64,
    /// Texts.
    pub texts: u64,
    /// Bytes of both.
    pub bytes: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { insults: 10_000, texts: 100_000, bytes: 64 << 20 }
    }
}

/// The store that is served; cheap to clone.
#[derive(Clone, Debug)]
pub struct Lists {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: Option<PathBuf>,
    room: Room,
    opening: Mutex<()>,
    opened: OnceLock<Opened>,
}

#[derive(Debug)]
struct Opened {
    epoch: String,
    committer: Committer,
}

impl Opened {
    fn new(opener: Opener) -> Result<Self, DiskError> {
        let committer = Committer::open(opener, prepare)?;
        let epoch = committer.read(|database| {
            let epochs = database.begin_read()?.open_table(EPOCH)?;
            Ok(epochs.get(())?.map(|epoch| epoch.value().to_owned()).unwrap_or_default())
        })?;
        Ok(Self { epoch, committer })
    }
}

fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(INSULTS)?;
    transaction.open_table(INSULT_NUMBERS)?;
    transaction.open_table(TEXTS)?;
    transaction.open_table(TEXT_IDS)?;
    transaction.open_table(BYTES)?;
    let mut epochs = transaction.open_table(EPOCH)?;
    if epochs.get(())?.is_none() {
        epochs.insert((), &*Uuid::now_v7().simple().to_string())?;
    }
    Ok(())
}

impl Lists {
    /// In a file, or without one for as long as the process runs. It is opened when it is needed.
    pub fn new(file: Option<PathBuf>, room: Room) -> Self {
        let (opening, opened) = (Mutex::default(), OnceLock::new());
        Self { shared: Arc::new(Shared { file, room, opening, opened }) }
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// Where the file cannot be opened; another process may have it.
    pub fn open(&self) -> Result<(), DiskError> {
        self.opened().map(|_| ())
    }

    fn opened(&self) -> Result<&Opened, DiskError> {
        let Shared { file, opening, opened, .. } = &*self.shared;
        let _alone = opening.lock();
        if opened.get().is_none() {
            let opener = file.as_deref().map_or_else(commit::memory, commit::file);
            let _ = opened.set(Opened::new(opener)?);
        }
        Ok(opened.get().expect("just set"))
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnMut(&WriteTransaction) -> Result<Result<T, Fault>, redb::Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let written = self.opened().map_err(|error| unusable(&error))?.committer.write(job).await;
        written.map_err(|error| unusable(&error))?
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Opened, &Database) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, Fault> {
        let lists = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let opened = lists.opened()?;
            opened.committer.read(|database| job(opened, database))
        });
        let read = read.await;
        read.map_err(|_| Fault::new(Code::BROKEN_OBJECT, "the method panicked"))?
            .map_err(|error| unusable(&error))
    }
}

fn unusable(error: &DiskError) -> Fault {
    error.fault("the lists of insults")
}

fn full(what: &str, most: u64) -> Fault {
    Fault::failed("full", format!("no more {what} are kept than {most}"))
}

impl InsultStore for Lists {
    async fn add_insults(&self, insults: Vec<String>) -> Result<Vec<bool>, Fault> {
        check(&insults)?;
        let room = self.shared.room;
        self.write(move |transaction| add_insults(transaction, &insults, room)).await
    }

    async fn insults(&self, after: u64) -> Result<Page, Fault> {
        self.read(move |opened, database| {
            let table = database.begin_read()?.open_table(INSULTS)?;
            let (mut insults, mut size) = (Vec::new(), 0);
            for entry in table.range(after..)? {
                let insult = entry?.1.value().to_owned();
                size += written(&insult);
                if size > PAGE {
                    break;
                }
                insults.push(insult);
            }
            Ok(Page { epoch: opened.epoch.clone(), total: table.len()?, insults })
        })
        .await
    }

    async fn any_insult(&self) -> Result<Option<String>, Fault> {
        self.read(|_, database| {
            let table = database.begin_read()?.open_table(INSULTS)?;
            let total = table.len()?;
            let chosen = if total == 0 { None } else { table.get(fastrand::u64(..total))? };
            Ok(chosen.map(|insult| insult.value().to_owned()))
        })
        .await
    }

    async fn add_texts(
        &self,
        epoch: String,
        insults: u64,
        texts: Vec<String>,
    ) -> Result<Option<Vec<bool>>, Fault> {
        let size: usize = texts.iter().map(String::len).sum();
        if size > PAGE {
            return Err(Fault::too_large(PAGE));
        }
        if self.opened().map_err(|error| unusable(&error))?.epoch != epoch {
            return Ok(None);
        }
        let (room, now) = (self.shared.room, now());
        self.write(move |transaction| add_texts(transaction, insults, &texts, room, now)).await
    }

    async fn texts(&self, after: u64) -> Result<Vec<Kept>, Fault> {
        self.read(move |_, database| {
            let table = database.begin_read()?.open_table(TEXTS)?;
            let (mut texts, mut size) = (Vec::new(), 0);
            for entry in table.range(after.saturating_add(1)..)? {
                let (id, kept) = entry?;
                let (text, ms) = kept.value();
                // Besides the text: id, time, and the names of all three.
                size += written(text) + 80;
                if size > PAGE {
                    break;
                }
                texts.push(Kept { id: id.value(), text: text.to_owned(), timestamp: time(ms) });
            }
            Ok(texts)
        })
        .await
    }
}

fn add_insults(
    transaction: &WriteTransaction,
    insults: &[String],
    room: Room,
) -> Result<Result<Vec<bool>, Fault>, redb::Error> {
    let (mut table, mut numbers) =
        (transaction.open_table(INSULTS)?, transaction.open_table(INSULT_NUMBERS)?);
    let mut bytes = transaction.open_table(BYTES)?;
    // All or nothing: first what is new, then whether there is room for it.
    let (mut seen, mut new) = (HashSet::new(), Vec::with_capacity(insults.len()));
    for insult in insults {
        new.push(numbers.get(&**insult)?.is_none() && seen.insert(insult));
    }
    let (count, before) = (table.len()?, bytes.get(())?.map_or(0, |bytes| bytes.value()));
    let more: u64 = seen.iter().map(|insult| insult.len() as u64).sum();
    if !seen.is_empty() && count + seen.len() as u64 > room.insults {
        return Ok(Err(full("insults", room.insults)));
    }
    if more > 0 && before + more > room.bytes {
        return Ok(Err(full("bytes", room.bytes)));
    }
    let added = insults.iter().zip(&new).filter(|(_, new)| **new).map(|(insult, _)| insult);
    for (number, insult) in (count..).zip(added) {
        table.insert(number, &**insult)?;
        numbers.insert(&**insult, number)?;
    }
    bytes.insert((), before + more)?;
    Ok(Ok(new))
}

fn add_texts(
    transaction: &WriteTransaction,
    known: u64,
    texts: &[String],
    room: Room,
    now: u64,
) -> Result<Result<Option<Vec<bool>>, Fault>, redb::Error> {
    if transaction.open_table(INSULTS)?.len()? != known {
        return Ok(Ok(None));
    }
    let (mut table, mut ids) = (transaction.open_table(TEXTS)?, transaction.open_table(TEXT_IDS)?);
    let mut bytes = transaction.open_table(BYTES)?;
    let (mut seen, mut new) = (HashSet::new(), Vec::with_capacity(texts.len()));
    for text in texts {
        new.push(ids.get(&digest(text))?.is_none() && seen.insert(text));
    }
    let (count, before) = (table.len()?, bytes.get(())?.map_or(0, |bytes| bytes.value()));
    let more: u64 = seen.iter().map(|text| text.len() as u64).sum();
    if !seen.is_empty() && count + seen.len() as u64 > room.texts {
        return Ok(Err(full("texts", room.texts)));
    }
    if more > 0 && before + more > room.bytes {
        return Ok(Err(full("bytes", room.bytes)));
    }
    let added = texts.iter().zip(&new).filter(|(_, new)| **new).map(|(text, _)| text);
    for (id, text) in (count + 1..).zip(added) {
        table.insert(id, (&**text, now))?;
        ids.insert(&digest(text), id)?;
    }
    bytes.insert((), before + more)?;
    Ok(Ok(Some(new)))
}

fn digest(text: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut digest);
    digest
}

/// Bytes of a text as JSON, with its comma.
fn written(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX / 2, |json| json.len() + 1)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
    time.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl Kind for StoreSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        let file = self.file.as_ref();
        let lists = Lists::new(file.map(|file| building.path(file)), self.room);
        let what = file.map(|file| file.display().to_string()).unwrap_or_default();
        let object = InsultStoreObject(lists.clone());
        let open = move || lists.open().map_err(|error| format!("cannot open {what}: {error}"));
        Ok(building.object(object).alone().open_first(open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[tokio::test]
    async fn each_is_kept_once_and_known_after_a_restart() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("insults.redb");
        let mut epochs = Vec::new();
        for round in 0..2 {
            let lists = Lists::new(Some(file.clone()), Room::default());
            let first = round == 0;
            let new = lists.add_insults(texts(&["tonto", "bobo", "tonto"])).await.expect("kept");
            assert_eq!(new, [first, first, false]);
            let page = lists.insults(0).await.expect("a page");
            assert_eq!((page.total, page.insults), (2, texts(&["tonto", "bobo"])));
            assert_eq!(lists.insults(1).await.expect("a page").insults, texts(&["bobo"]));
            let added = lists.add_texts(page.epoch.clone(), 2, texts(&["a", "b", "a"])).await;
            assert_eq!(added, Ok(Some(vec![first, first, false])));
            let kept = lists.texts(0).await.expect("texts");
            assert_eq!(kept.iter().map(|k| (k.id, &*k.text)).collect::<Vec<_>>(), [(1, "a"), (2, "b")]);
            assert!(DateTime::parse_from_rfc3339(&kept[0].timestamp).is_ok());
            assert_eq!(lists.texts(1).await.expect("texts").len(), 1);
            assert!(Lists::new(Some(file.clone()), Room::default()).open().is_err(), "one process has it");
            epochs.push(page.epoch);
        }
        assert_eq!(epochs[0], epochs[1]);
    }

    #[tokio::test]
    async fn texts_are_kept_only_where_all_insults_were_known() {
        let lists = Lists::new(None, Room::default());
        let epoch = lists.insults(0).await.expect("a page").epoch;
        assert_eq!(lists.any_insult().await, Ok(None));
        lists.add_insults(texts(&["tonto"])).await.expect("kept");
        assert_eq!(lists.any_insult().await, Ok(Some("tonto".to_owned())));
        assert_eq!(lists.add_texts(epoch.clone(), 0, texts(&["x"])).await, Ok(None));
        assert_eq!(lists.add_texts("another".to_owned(), 1, texts(&["x"])).await, Ok(None));
        assert_eq!(lists.add_texts(epoch, 1, texts(&["x"])).await, Ok(Some(vec![true])));
        assert_eq!(lists.texts(0).await.expect("texts").len(), 1);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_as_a_whole() {
        let lists = Lists::new(None, Room { insults: 2, texts: 2, bytes: 10 });
        let kind = |fault: Fault| fault.data["kind"].clone();
        assert_eq!(lists.add_insults(texts(&["a", "b"])).await, Ok(vec![true, true]));
        let fault = lists.add_insults(texts(&["a", "c"])).await.expect_err("full");
        assert_eq!(kind(fault), "full");
        assert_eq!(lists.add_insults(texts(&["b", "a"])).await, Ok(vec![false, false]), "what is known fits");
        let Page { epoch, total, .. } = lists.insults(0).await.expect("a page");
        assert_eq!(total, 2);
        let fault = lists.add_texts(epoch.clone(), 2, texts(&["123456789"])).await.expect_err("11 bytes");
        assert_eq!(kind(fault), "full");
        assert_eq!(lists.add_texts(epoch.clone(), 2, texts(&["12345678"])).await, Ok(Some(vec![true])));
        assert!(lists.add_texts(epoch, 2, texts(&["1"])).await.is_err());
        assert_eq!(lists.texts(0).await.expect("texts").len(), 1);
    }

    #[tokio::test]
    async fn long_lists_come_in_pages_that_fit_into_an_answer() {
        let lists = Lists::new(None, Room::default());
        let epoch = lists.insults(0).await.expect("a page").epoch;
        // The worst there is for JSON: each is six bytes there.
        for number in 0..8 {
            let long = (0..30).map(|part| format!("{number} {part} ") + &"\u{1}".repeat(4_000)).collect();
            lists.add_texts(epoch.clone(), 0, long).await.expect("kept");
        }
        let (mut ids, mut pages) = (Vec::new(), 0);
        loop {
            let page = lists.texts(ids.last().copied().unwrap_or(0)).await.expect("a page");
            if page.is_empty() {
                break;
            }
            assert!(serde_json::to_string(&page).expect("JSON").len() <= PAGE + 2);
            ids.extend(page.iter().map(|kept| kept.id));
            pages += 1;
        }
        assert!(pages > 1 && ids == (1..=240).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn a_full_disk_is_busy_and_keeps_insults_again_when_it_has_room() {
        let folder = tempfile::tempdir().expect("a directory");
        let (opener, switch) = commit::faulty::file(&folder.path().join("insults.redb"));
        let lists = Lists::new(None, Room::default());
        lists.shared.opened.set(Opened::new(opener).expect("opened")).expect("the first");
        assert_eq!(lists.add_insults(texts(&["tonto"])).await, Ok(vec![true]));
        switch.full.store(true, std::sync::atomic::Ordering::Relaxed);
        let fault = lists.add_insults(texts(&["bobo"])).await.expect_err("full");
        assert!(fault.code == Code::BUSY && fault.is_retryable(), "{fault}");
        switch.full.store(false, std::sync::atomic::Ordering::Relaxed);
        while let Err(fault) = lists.add_insults(texts(&["tonto", "lelo"])).await {
            assert_eq!(fault.code, Code::BUSY, "{fault}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(lists.insults(0).await.expect("a page").insults.starts_with(&texts(&["tonto"])));
    }
}
