//! `InsultStore`: the insults and the texts, kept by one object for all replicas.
//!
//! Everything that must happen only once is decided here, in consecutive transactions.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::{Environment, interface};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{MAX_PAGE_BYTES, check};
use rantai_commit::{self as commit, Committer, DiskError, Format, Layout, Order};
use rantai_nodes::kind::{Building, Configured, Kind};

/// Number to insult; numbers begin at 0 and have no gaps.
const INSULTS: TableDefinition<'static, u64, &str> = TableDefinition::new("insults");
const INSULT_NUMBERS: TableDefinition<'static, &str, u64> = TableDefinition::new("insult numbers");
/// Id, from 1, to the text and the time in milliseconds since 1970.
const TEXTS: TableDefinition<'static, u64, (&str, u64)> = TableDefinition::new("texts");
/// Digest of a text to its id.
const TEXT_IDS: TableDefinition<'static, &[u8; 16], u64> = TableDefinition::new("text ids");
/// Size of all insults and texts, in bytes.
const BYTES: TableDefinition<'static, (), u64> = TableDefinition::new("bytes");
/// Id of this list, which distinguishes it from another list with as many insults.
const EPOCH: TableDefinition<'static, (), &str> = TableDefinition::new("epoch");

/// Tables of a store's file.
pub const LAYOUT: Layout = Layout {
    file: "insults.redb",
    order: Order::Objects,
    format: Format { current: 1, stored: None },
    tables: |tables| {
        tables.table(INSULTS)?;
        tables.table(INSULT_NUMBERS)?;
        tables.table(TEXTS)?;
        tables.table(TEXT_IDS)?;
        tables.table(BYTES)?;
        tables.table(EPOCH)?;
        commit::common_tables(tables)
    },
};

/// Page of insults, in the order of their registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// Id of the list that the number belongs to.
    pub epoch: String,
    /// Total number of insults.
    pub total: u64,
    /// Insults of this page.
    pub insults: Vec<String>,
}

/// Text that was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// Id of the text, from 1.
    pub id: u64,
    /// The text without insults.
    pub text: String,
    /// Time of registration in RFC 3339.
    pub timestamp: String,
}

/// The lists behind the insult services. Called by the services only.
#[interface(version = "1.0.0", tags("insult"))]
pub trait InsultStore {
    /// Stores insults; returns for each whether it was new.
    #[method(idempotent)]
    async fn add_insults(&self, insults: Vec<String>) -> Result<Vec<bool>, Fault>;

    /// Returns the insults after the first `after`, as many as fit into one reply.
    #[method(read_only)]
    async fn insults(&self, after: u64) -> Result<Page, Fault>;

    /// Returns a random insult, if there are any.
    #[method(read_only)]
    async fn any_insult(&self) -> Result<Option<String>, Fault>;

    /// Stores texts from which exactly the first `insults` of the list `epoch` were removed; returns for each whether
    /// it was new. Stores nothing and returns null if the list has changed in the meantime.
    #[method(idempotent)]
    async fn add_texts(
        &self,
        epoch: String,
        insults: u64,
        texts: Vec<String>,
    ) -> Result<Option<Vec<bool>>, Fault>;

    /// Returns the texts after the id `after`, as many as fit into one reply.
    #[method(read_only)]
    async fn texts(&self, after: u64) -> Result<Vec<Kept>, Fault>;
}

/// Settings of a store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Name the object is served under.
    pub name: String,
    /// File, relative to the configuration file; `None` to keep the lists in memory.
    pub file: Option<PathBuf>,
    /// Limits of the lists.
    #[serde(default)]
    pub room: Room,
}

/// Limits of a store; what exceeds them is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Room {
    /// Maximum number of insults.
    pub insults: u64,
    /// Maximum number of texts.
    pub texts: u64,
    /// Maximum size of insults and texts together, in bytes.
    pub bytes: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { insults: 10_000, texts: 100_000, bytes: 64 << 20 }
    }
}

/// Implementation of [`InsultStore`]; cheap to clone.
#[derive(Clone, Debug)]
pub struct Lists {
    shared: Arc<StoreState>,
}

#[derive(Debug)]
struct StoreState {
    file: Option<PathBuf>,
    room: Room,
    environment: Environment,
    opening: Mutex<()>,
    opened: OnceLock<Opened>,
}

#[derive(Debug)]
struct Opened {
    epoch: String,
    committer: Committer,
}

impl Opened {
    fn new(committer: Committer) -> Result<Self, DiskError> {
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
    /// Creates a store in a file, or in memory without one. The file is opened at the first use.
    pub fn new(file: Option<PathBuf>, room: Room) -> Self {
        Self::with_environment(file, room, Environment::default())
    }

    fn with_environment(file: Option<PathBuf>, room: Room, environment: Environment) -> Self {
        let (opening, opened) = (Mutex::default(), OnceLock::new());
        Self { shared: Arc::new(StoreState { file, room, environment, opening, opened }) }
    }

    /// Opens the file, unless it is open.
    ///
    /// # Errors
    ///
    /// The file cannot be opened; another process may have locked it.
    pub fn open(&self) -> Result<(), DiskError> {
        self.opened().map(|_| ())
    }

    fn opened(&self) -> Result<&Opened, DiskError> {
        let StoreState { file, opening, opened, .. } = &*self.shared;
        let _alone = opening.lock();
        if opened.get().is_none() {
            let committer = match file {
                None => Committer::open(commit::memory(), prepare)?,
                Some(file) => Committer::open(commit::file(file), prepare)?.listed(file, &LAYOUT),
            };
            let _ = opened.set(Opened::new(committer)?);
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
                if size > MAX_PAGE_BYTES {
                    break;
                }
                insults.push(insult);
            }
            Ok(Page { epoch: opened.epoch.clone(), total: table.len()?, insults })
        })
        .await
    }

    async fn any_insult(&self) -> Result<Option<String>, Fault> {
        let environment = self.shared.environment.clone();
        self.read(move |_, database| {
            let table = database.begin_read()?.open_table(INSULTS)?;
            let chosen = table.get(environment.random_below(table.len()?))?;
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
        if size > MAX_PAGE_BYTES {
            return Err(Fault::too_large(MAX_PAGE_BYTES));
        }
        if self.opened().map_err(|error| unusable(&error))?.epoch != epoch {
            return Ok(None);
        }
        let (room, now) = (self.shared.room, self.shared.environment.now_ms());
        self.write(move |transaction| add_texts(transaction, insults, &texts, room, now)).await
    }

    async fn texts(&self, after: u64) -> Result<Vec<Kept>, Fault> {
        self.read(move |_, database| {
            let table = database.begin_read()?.open_table(TEXTS)?;
            let (mut texts, mut size) = (Vec::new(), 0);
            for entry in table.range(after.saturating_add(1)..)? {
                let (id, kept) = entry?;
                let (text, ms) = kept.value();
                // Besides the text: id, time, and the three member names.
                size += written(text) + 80;
                if size > MAX_PAGE_BYTES {
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
    // All or nothing: first determines what is new, then whether there is room for it.
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

/// Returns the size of a text as JSON with a comma, in bytes.
fn written(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX / 2, |json| json.len() + 1)
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
mod tests;
