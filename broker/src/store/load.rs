//! Loading of the tables into a [`Snapshot`](super::Snapshot).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, OwnedRange, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::disk::{MESSAGES, Messages, QUEUE, RECEIVED, RETAINED, SESSIONS, SUBSCRIPTIONS};
use super::record::{self, Malformed};
use super::{StoreError, StoredSession};
use crate::message::Message;

pub(super) struct Loaded {
    /// Sorted by key.
    pub(super) sessions: Vec<StoredSession>,
    pub(super) messages: Messages,
}

/// Error of reading the tables.
pub(super) enum LoadError {
    Database(redb::Error),
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for LoadError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

fn damaged(table: &'static str) -> impl Fn(Malformed) -> LoadError {
    move |malformed| LoadError::Damaged(format!("{table}: {malformed}"))
}

/// Rows that belong to no session or message.
#[derive(Default)]
struct StrayRows {
    expired: u64,
    messages: Vec<u64>,
    subscriptions: Vec<(u64, String)>,
    queue: Vec<(u64, u64)>,
    received: Vec<(u64, u16)>,
}

/// Reads all tables, except that the retained messages are only checked to be readable. Removes expired messages and
/// rows that belong to no session.
pub(super) fn load(database: &Database, now: u64) -> Result<Loaded, LoadError> {
    let read = database.begin_read()?;
    let mut strays = StrayRows::default();

    for row in read.open_table(RETAINED)?.iter()? {
        let (topic, row) = row?;
        let message = record::decode_retained(topic.value(), row.value()).map_err(damaged("retained"))?;
        strays.expired += u64::from(message.expired(now));
    }

    let mut sessions = BTreeMap::new();
    for row in read.open_table(SESSIONS)?.iter()? {
        let (key, row) = row?;
        let key = key.value();
        let record = record::decode_session(row.value()).map_err(damaged("sessions"))?;
        let session =
            StoredSession { key, record, subscriptions: Vec::new(), queue: Vec::new(), received: Vec::new() };
        sessions.insert(key, session);
    }

    for row in read.open_table(SUBSCRIPTIONS)?.iter()? {
        let (row, options) = row?;
        let (key, filter) = row.value();
        let options = record::decode_subscription(options.value()).map_err(damaged("subscriptions"))?;
        match sessions.get_mut(&key) {
            Some(session) => session.subscriptions.push((filter.into(), options)),
            None => strays.subscriptions.push((key, filter.to_owned())),
        }
    }

    for row in read.open_table(RECEIVED)?.iter()? {
        let (row, _) = row?;
        let (key, packet_id) = row.value();
        match sessions.get_mut(&key) {
            Some(session) => session.received.push(packet_id),
            None => strays.received.push((key, packet_id)),
        }
    }

    let mut stored = HashMap::new();
    for row in read.open_table(MESSAGES)?.iter()? {
        let (id, row) = row?;
        let message = record::decode_message(row.value()).map_err(damaged("messages"))?;
        stored.insert(id.value(), Arc::new(message));
    }

    let mut messages = Messages::default();
    for row in read.open_table(QUEUE)?.iter()? {
        let (row, entry) = row?;
        let (key, seq) = row.value();
        let entry = record::decode_entry(entry.value()).map_err(damaged("queue"))?;
        let Some(message) = stored.get(&entry.message) else {
            return Err(LoadError::Damaged("queue: a message is missing".into()));
        };
        let Some(session) = sessions.get_mut(&key) else {
            strays.queue.push((key, seq));
            continue;
        };
        messages.count(entry.message);
        messages.name(entry.message, message);
        session.queue.push((seq, super::EntryRecord { message: Arc::clone(message), ..entry.entry }));
    }
    strays.messages.extend(stored.keys().filter(|id| !messages.knows(**id)));

    drop(read);
    strays.remove(database, now)?;
    Ok(Loaded { sessions: sessions.into_values().collect(), messages })
}

impl StrayRows {
    fn remove(&self, database: &Database, now: u64) -> Result<(), LoadError> {
        let rows = self.subscriptions.len() + self.queue.len() + self.received.len() + self.messages.len();
        if rows == 0 && self.expired == 0 {
            return Ok(());
        }
        if rows > 0 {
            tracing::warn!(rows, "removing rows that belong to no session");
        }
        let write = database.begin_write()?;
        if self.expired > 0 {
            // Rows that cannot be decoded caused an error above.
            let live = |row: &[u8]| {
                record::retained_expires(row).is_ok_and(|expires| expires.is_none_or(|at| at > now))
            };
            write.open_table(RETAINED)?.retain(|_, row| live(row))?;
        }
        for (key, filter) in &self.subscriptions {
            write.open_table(SUBSCRIPTIONS)?.remove((*key, filter.as_str()))?;
        }
        for row in &self.queue {
            write.open_table(QUEUE)?.remove(row)?;
        }
        for row in &self.received {
            write.open_table(RECEIVED)?.remove(row)?;
        }
        for id in &self.messages {
            write.open_table(MESSAGES)?.remove(id)?;
        }
        write.commit()?;
        Ok(())
    }
}

/// Iterator over the retained messages in key order, which reads them from disk one by one.
pub(crate) struct Retained {
    path: PathBuf,
    rows: OwnedRange<&'static str, &'static [u8]>,
    count: usize,
    /// Time at which the store was opened, in milliseconds since 1970. Messages that had expired by then are skipped.
    now: u64,
}

impl fmt::Debug for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retained").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Retained {
    pub(super) fn new(path: &Path, database: &Database, now: u64) -> Result<Self, redb::Error> {
        let table = database.begin_read()?.open_table(RETAINED)?;
        let count = usize::try_from(table.len()?).unwrap_or(usize::MAX);
        Ok(Self { path: path.to_owned(), rows: table.range_owned::<&str>(..)?, count, now })
    }

    fn failed(&self, error: redb::Error) -> StoreError {
        StoreError::Database { path: self.path.clone(), source: Box::new(error) }
    }
}

impl Iterator for Retained {
    type Item = Result<Message, StoreError>;

    /// Returns the next message. An error means that the disk fails, because the contents of the file were checked
    /// when it was opened.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (topic, row) = match self.rows.next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(self.failed(error.into()))),
            };
            self.count = self.count.saturating_sub(1);
            match record::decode_retained(topic.value(), row.value()) {
                Ok(message) if message.expired(self.now) => {}
                Ok(message) => return Some(Ok(message)),
                Err(malformed) => {
                    return Some(Err(self.failed(redb::Error::Corrupted(malformed.to_string()))));
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.count))
    }
}
