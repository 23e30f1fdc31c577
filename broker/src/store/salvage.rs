//! Recovery of a damaged file: copies the rows that are confirmed and consistent to a new file.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use redb::{Database, Key, TableDefinition, TableHandle as _, Value, WriteTransaction};

use super::disk::{MESSAGES, QUEUE, RECEIVED, RETAINED, SESSIONS, SUBSCRIPTIONS};
use super::pages::{Pages, Tree};
use super::record;

/// Result of recovering a damaged file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Salvaged {
    /// Number of rows in the new file.
    pub(crate) rows: u64,
    /// Number of lost rows: damaged ones, and those that are of no use without them. A lower bound if a list of tables
    /// is damaged.
    pub(crate) lost: u64,
}

/// Copies the confirmed rows of the file at `from` to an empty database with all tables.
pub(super) fn salvage(from: &Path, into: &Database) -> Result<Salvaged, redb::Error> {
    let Some(pages) = Pages::open(from)? else { return Ok(Salvaged::default()) };
    let source = DamagedFile { tables: pages.tables(), pages };
    let write = into.begin_write()?;
    let mut rows = 0;
    let keys = copy_whole(&source, &write, SESSIONS, &mut rows, |row| record::decode_session(row).is_ok())?;
    {
        let mut table = write.open_table(SUBSCRIPTIONS)?;
        source.each(SUBSCRIPTIONS, |(key, filter), record| {
            if keys.contains(&key) && record::decode_subscription(record).is_ok() {
                table.insert((key, filter), record)?;
                rows += 1;
            }
            Ok(())
        })?;
    }
    {
        let mut table = write.open_table(RECEIVED)?;
        source.each(RECEIVED, |(key, packet_id), ()| {
            if keys.contains(&key) {
                table.insert((key, packet_id), ())?;
                rows += 1;
            }
            Ok(())
        })?;
    }
    let messages =
        copy_whole(&source, &write, MESSAGES, &mut rows, |row| record::decode_message(row).is_ok())?;
    {
        let mut table = write.open_table(QUEUE)?;
        source.each(QUEUE, |(key, seq), record| {
            let whole = record::decode_entry(record).is_ok_and(|row| messages.contains(&row.message));
            if whole && keys.contains(&key) {
                table.insert((key, seq), record)?;
                rows += 1;
            }
            Ok(())
        })?;
    }
    {
        let mut table = write.open_table(RETAINED)?;
        source.each(RETAINED, |topic, record| {
            if record::decode_retained(topic, record).is_ok() {
                table.insert(topic, record)?;
                rows += 1;
            }
            Ok(())
        })?;
    }
    write.commit()?;
    Ok(Salvaged { rows, lost: source.rows().saturating_sub(rows) })
}

/// Copies and counts the intact rows of a table. Returns their keys.
fn copy_whole(
    source: &DamagedFile,
    write: &WriteTransaction,
    table: TableDefinition<'_, u64, &'static [u8]>,
    rows: &mut u64,
    is_whole: fn(&[u8]) -> bool,
) -> Result<HashSet<u64>, redb::Error> {
    let mut keys = HashSet::new();
    let mut copy = write.open_table(table)?;
    source.each(table, |key, row| {
        if is_whole(row) {
            copy.insert(key, row)?;
            keys.insert(key);
            *rows += 1;
        }
        Ok(())
    })?;
    Ok(keys)
}

struct DamagedFile {
    pages: Pages,
    tables: BTreeMap<String, Tree>,
}

impl DamagedFile {
    /// Returns the number of rows that the file had, as far as known.
    fn rows(&self) -> u64 {
        let ours = [
            SESSIONS.name(),
            SUBSCRIPTIONS.name(),
            RECEIVED.name(),
            MESSAGES.name(),
            QUEUE.name(),
            RETAINED.name(),
        ];
        ours.iter().filter_map(|name| self.tables.get(*name)).map(|tree| tree.rows).sum()
    }

    /// Calls `each` for the confirmed rows of a table; for none if the table is missing or has another type.
    fn each<K: Key, V: Value>(
        &self,
        table: TableDefinition<'_, K, V>,
        mut each: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        let fits = |tree: &&Tree| tree.key == K::fixed_width() && tree.value == V::fixed_width();
        let Some(tree) = self.tables.get(table.name()).filter(fits) else { return Ok(()) };
        let mut result = Ok(());
        self.pages.walk(*tree, &mut |key, value| {
            if result.is_ok() {
                result = each(K::from_bytes(key), V::from_bytes(value));
            }
        });
        result
    }
}
