//! Database tables, and the transaction that writes a batch to them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use rantai_group_commit::{Format, Layout, Order, Reopening};
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};

use super::batch::{Batch, QueueChange};
use super::record;
use crate::message::Message;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const FORMAT: &str = "format";
/// Version of the tables and records, raised with every change to them. In version 2 a subscription may contain the
/// progress of reading its retained messages; files of version 1 are read unchanged.
pub(super) const FORMAT_VERSION: u64 = 2;

/// Keyed by topic.
pub(super) const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");
/// Keyed by session key.
pub(super) const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sessions");
/// Keyed by session key and filter.
pub(super) const SUBSCRIPTIONS: TableDefinition<'_, (u64, &str), &[u8]> =
    TableDefinition::new("subscriptions");
/// Keyed by session key and sequence number.
pub(super) const QUEUE: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("queue");
/// Messages that queue rows refer to, keyed by message id.
pub(super) const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");
/// Keyed by session key and packet id.
pub(super) const RECEIVED: TableDefinition<'_, (u64, u16), ()> = TableDefinition::new("received");

/// Tables of `broker.redb`, for backups and checks of formats.
pub const LAYOUT: Layout = Layout {
    file: "broker.redb",
    order: Order::Broker,
    format: Format { current: FORMAT_VERSION, stored: Some(version) },
    tables: |tables| {
        tables.table(META)?;
        tables.table(RETAINED)?;
        tables.table(SESSIONS)?;
        tables.table(SUBSCRIPTIONS)?;
        tables.table(QUEUE)?;
        tables.table(MESSAGES)?;
        tables.table(RECEIVED)
    },
};

/// Returns the format version of a file.
pub(super) fn version(read: &ReadTransaction) -> Result<u64, redb::Error> {
    let version = read.open_table(META)?.get(FORMAT)?;
    version.map(|version| version.value()).ok_or_else(|| redb::Error::Corrupted("no format version".into()))
}

/// Database and the lock on its directory.
pub(super) struct Disk {
    pub(super) path: PathBuf,
    /// Closed after a failure: redb does not continue with a database after a failed write, so it is reopened.
    pub(super) database: Reopening,
    pub(super) messages: Messages,
    /// Lock file of the directory, open for as long as the lock is held; `None` for a database in memory.
    pub(super) _lock: Option<std::fs::File>,
}

/// Queued messages on disk, and the number of rows that refer to each.
#[derive(Debug, Default)]
pub(super) struct Messages {
    by_id: HashMap<u64, StoredMessage>,
    /// Message id by the address of the message, which stays allocated while `by_id` has its `Arc`.
    by_address: HashMap<usize, u64>,
    next: u64,
}

#[derive(Debug)]
struct StoredMessage {
    rows: u64,
    message: Option<Arc<Message>>,
}

impl Messages {
    /// Counts another row that refers to `id`.
    pub(super) fn count(&mut self, id: u64) {
        self.next = self.next.max(id + 1);
        self.by_id.entry(id).or_insert(StoredMessage { rows: 0, message: None }).rows += 1;
    }

    /// Records that `id` is the message at this address.
    pub(super) fn name(&mut self, id: u64, message: &Arc<Message>) {
        if let Some(stored) = self.by_id.get_mut(&id) {
            stored.message = Some(Arc::clone(message));
            self.by_address.insert(address(message), id);
        }
    }

    fn id(&self, message: &Arc<Message>) -> Option<u64> {
        self.by_address.get(&address(message)).copied()
    }

    pub(super) fn knows(&self, id: u64) -> bool {
        self.by_id.contains_key(&id)
    }

    fn rows(&self, id: u64) -> u64 {
        self.by_id.get(&id).map_or(0, |stored| stored.rows)
    }

    fn set_rows(&mut self, id: u64, rows: u64) {
        if rows > 0 {
            self.next = self.next.max(id + 1);
            self.by_id.entry(id).or_insert(StoredMessage { rows, message: None }).rows = rows;
        } else if let Some(StoredMessage { message: Some(message), .. }) = self.by_id.remove(&id) {
            self.by_address.remove(&address(&message));
        }
    }

    /// Frees memory after the queues were long.
    fn shrink(&mut self) {
        let few = self.by_id.len().max(256);
        if self.by_id.capacity() > 8 * few {
            self.by_id.shrink_to(2 * few);
            self.by_address.shrink_to(2 * few);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.by_id.len(), self.by_address.len())
    }
}

fn address(message: &Arc<Message>) -> usize {
    Arc::as_ptr(message).addr()
}

/// Changes of a transaction to the messages, applied to [`Messages`] after the commit.
#[derive(Default)]
struct MessageChanges {
    /// Number of rows added or removed, by message id. Ordered, because messages are removed from disk in this order.
    rows: BTreeMap<u64, i64>,
    /// Messages written, by address.
    written: HashMap<usize, (u64, Arc<Message>)>,
    next: u64,
    any: bool,
}

impl MessageChanges {
    fn row(&mut self, id: u64, by: i64) {
        *self.rows.entry(id).or_default() += by;
    }
}

impl Disk {
    /// Applies all of `batch` durably. After an error it is unknown whether the changes are on disk. After an error or
    /// a panic the database must be closed; the next attempt reopens it.
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<(), redb::Error> {
        if batch.is_empty() {
            return Ok(());
        }
        if !self.database.is_open() {
            self.reopen()?;
        }
        let changes = self.with_database(|database| transact(database, batch, &self.messages))?;
        for (id, by) in changes.rows {
            let rows = self.messages.rows(id).saturating_add_signed(by);
            self.messages.set_rows(id, rows);
        }
        for (id, message) in changes.written.values() {
            self.messages.name(*id, message);
        }
        self.messages.next = self.messages.next.max(changes.next);
        self.messages.shrink();
        Ok(())
    }

    /// Commits twice without changes, so that pages freed by the last transactions can be reused: the database keeps
    /// those of the last two commits.
    pub(super) fn settle(&self) -> Result<(), redb::Error> {
        for _ in 0..2 {
            self.with_database(|database| {
                let write = database.begin_write()?;
                write.open_table(META)?.insert(FORMAT, FORMAT_VERSION)?;
                Ok(write.commit()?)
            })?;
        }
        Ok(())
    }

    /// Moves the data to the start of the file and truncates the file. Returns false if a read transaction is open.
    /// After an error the database must be closed.
    pub(super) fn compact(&mut self) -> Result<bool, redb::Error> {
        if !self.database.is_open() {
            self.reopen()?;
        }
        self.database.compact()
    }

    pub(super) fn with_database<T>(
        &self,
        job: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let database = self.database.get();
        job(database.as_ref().and_then(|database| database.as_ref()).ok_or(redb::Error::DatabaseClosed)?)
    }

    fn reopen(&mut self) -> Result<(), redb::Error> {
        self.database.reopen()?;
        // The failed commit may be on disk: the rows are counted again, and the known addresses of messages are kept.
        let mut messages = Messages { next: self.messages.next, ..Messages::default() };
        self.with_database(|database| {
            let read = database.begin_read()?;
            for row in read.open_table(QUEUE)?.iter()? {
                let (_, row) = row?;
                messages.count(record::entry_message(row.value()).map_err(corrupted)?);
            }
            Ok(())
        })?;
        for (id, stored) in &self.messages.by_id {
            if let Some(message) = &stored.message {
                messages.name(*id, message);
            }
        }
        self.messages = messages;
        Ok(())
    }
}

fn corrupted(malformed: record::Malformed) -> redb::Error {
    redb::Error::Corrupted(malformed.to_string())
}

fn transact(database: &Database, batch: &Batch, messages: &Messages) -> Result<MessageChanges, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    let mut changes = MessageChanges { next: messages.next, ..MessageChanges::default() };

    if !batch.forgotten.is_empty() || !batch.sessions.is_empty() {
        let mut table = write.open_table(SESSIONS)?;
        for key in &batch.forgotten {
            changes.any |= table.remove(key)?.is_some();
        }
        for (key, record) in &batch.sessions {
            table.insert(key, record::encode_session(record).as_slice())?;
            changes.any = true;
        }
    }
    if !batch.forgotten.is_empty() || !batch.subscriptions.is_empty() {
        let mut table = write.open_table(SUBSCRIPTIONS)?;
        for &key in &batch.forgotten {
            let rows = (key, "")..(key.saturating_add(1), "");
            for row in table.extract_from_if(rows, |_, _| true)? {
                row?;
                changes.any = true;
            }
        }
        for ((key, filter), record) in &batch.subscriptions {
            let row = (*key, &**filter);
            changes.any |= match record {
                Some(record) => {
                    table.insert(row, record::encode_subscription(record).as_slice())?;
                    true
                }
                None => table.remove(row)?.is_some(),
            };
        }
    }
    if !batch.forgotten.is_empty() || !batch.received.is_empty() {
        let mut table = write.open_table(RECEIVED)?;
        for &key in &batch.forgotten {
            for row in table.extract_from_if((key, 0)..=(key, u16::MAX), |_, ()| true)? {
                row?;
                changes.any = true;
            }
        }
        for (row, keep) in &batch.received {
            changes.any |=
                if *keep { table.insert(row, ())?.is_none() } else { table.remove(row)?.is_some() };
        }
    }
    if !batch.retained.is_empty() {
        let mut table = write.open_table(RETAINED)?;
        for (topic, message) in &batch.retained {
            changes.any |= match message {
                Some(message) => {
                    table.insert(&**topic, record::encode_retained(message).as_slice())?;
                    true
                }
                None => table.remove(&**topic)?.is_some(),
            };
        }
    }
    if !batch.forgotten.is_empty() || !batch.queue.is_empty() {
        queue(&write, batch, messages, &mut changes)?;
    }

    // Aborted if nothing changes, to save a commit.
    if changes.any {
        write.commit()?;
    } else {
        write.abort()?;
    }
    Ok(changes)
}

fn queue(
    write: &redb::WriteTransaction,
    batch: &Batch,
    messages: &Messages,
    changes: &mut MessageChanges,
) -> Result<(), redb::Error> {
    let mut rows = write.open_table(QUEUE)?;
    let mut stored = write.open_table(MESSAGES)?;
    for &key in &batch.forgotten {
        for row in rows.extract_from_if((key, 0)..=(key, u64::MAX), |_, _| true)? {
            let (_, old) = row?;
            changes.row(record::entry_message(old.value()).map_err(corrupted)?, -1);
            changes.any = true;
        }
    }
    for (key, row) in &batch.queue {
        match row {
            QueueChange::Put { entry, .. } => {
                let at = address(&entry.message);
                let known = messages.id(&entry.message).or_else(|| changes.written.get(&at).map(|w| w.0));
                let id = known.unwrap_or(changes.next);
                if known.is_none() {
                    changes.next += 1;
                    stored.insert(id, record::encode_message(&entry.message).as_slice())?;
                    changes.written.insert(at, (id, Arc::clone(&entry.message)));
                }
                if let Some(old) = rows.insert(key, record::encode_entry(entry, id).as_slice())? {
                    changes.row(record::entry_message(old.value()).map_err(corrupted)?, -1);
                }
                changes.row(id, 1);
                changes.any = true;
            }
            QueueChange::Moved { packet_id, phase } => {
                let Some(old) = rows.get(key)?.map(|old| old.value().to_vec()) else { continue };
                let moved = record::move_entry(&old, *packet_id, *phase).map_err(corrupted)?;
                if moved != old {
                    rows.insert(key, moved.as_slice())?;
                    changes.any = true;
                }
            }
            QueueChange::Gone => {
                if let Some(old) = rows.remove(key)? {
                    changes.row(record::entry_message(old.value()).map_err(corrupted)?, -1);
                    changes.any = true;
                }
            }
        }
    }
    for (id, by) in &changes.rows {
        if messages.rows(*id).saturating_add_signed(*by) == 0 {
            stored.remove(id)?;
        }
    }
    Ok(())
}
