//! Tables of a kind of database file: what a backup copies, and what a check of formats expects.

use std::io;

use redb::{
    Database, Key, ReadOnlyTable, ReadTransaction, ReadableTable as _, TableDefinition, TableError,
    TableHandle as _, Value, WriteTransaction,
};

/// Number of bytes of keys and values that a copy writes in one transaction, which bounds its memory.
pub const CHUNK: usize = 4 << 20;

/// Tables of a kind of database file.
#[derive(Debug)]
pub struct Layout {
    /// File name in a data directory, by which a file that is not open is recognized.
    pub file: &'static str,
    /// Position among the files of a backup.
    pub order: Order,
    /// Version of tables and records.
    pub format: Format,
    /// Calls [`Tables::table`] for each table.
    pub tables: fn(&mut Tables<'_>) -> Result<(), redb::Error>,
}

/// Position among the files of a backup, which reads them in this order.
///
/// Consequences are read before their causes. The journal has the result of a call before the ledger has it, and the
/// ledger before the broker has a message about it. As a backup reads the broker's file first and the journal last, no
/// file of it contains a consequence whose cause is missing from another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Messages and sessions.
    Broker,
    /// Tasks.
    Ledger,
    /// Data of objects.
    Objects,
    /// Calls that are carried out once.
    Journal,
}

/// Format of the tables and records of a file.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Format version that this program writes. It reads this version and earlier ones.
    pub current: u64,
    /// Reads the format version of a file. `None` for files without a version, which are recognized by their tables.
    pub stored: Option<ReadVersion>,
}

/// Function that reads the format version of a file.
pub type ReadVersion = fn(&ReadTransaction) -> Result<u64, redb::Error>;

/// Visitor of the tables of a database.
pub struct Tables<'a> {
    from: &'a ReadTransaction,
    visited: Vec<String>,
    to: Option<Target<'a>>,
    missing: Vec<String>,
}

struct Target<'a> {
    database: &'a Database,
    /// Called before each transaction; an error ends the copy.
    check: &'a dyn Fn() -> io::Result<()>,
}

/// Differences between the tables of a file and its layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Tables of the layout that are not in the file; they are created when it is opened.
    pub missing: Vec<String>,
    /// Tables in the file that the layout does not have.
    pub unknown: Vec<String>,
}

impl Layout {
    /// Copies all tables to an empty database, in transactions of [`CHUNK`] bytes that are on disk when this returns. Calls
    /// `check` before each.
    ///
    /// # Errors
    ///
    /// Errors of the databases, and of `check`; [`redb::Error::Corrupted`] if the layout lacks a table of the file.
    pub fn copy(
        &self,
        from: &ReadTransaction,
        to: &Database,
        check: &dyn Fn() -> io::Result<()>,
    ) -> Result<(), redb::Error> {
        let unknown = self.visit(from, Some(Target { database: to, check }))?.unknown;
        match unknown.first() {
            Some(table) => Err(redb::Error::Corrupted(format!("the table {table:?} is not known"))),
            None => Ok(()),
        }
    }

    /// Compares the tables of a file with the layout.
    ///
    /// # Errors
    ///
    /// Errors of the database, such as [`redb::Error::TableTypeMismatch`].
    pub fn shape(&self, of: &ReadTransaction) -> Result<Shape, redb::Error> {
        self.visit(of, None)
    }

    fn visit(&self, from: &ReadTransaction, to: Option<Target<'_>>) -> Result<Shape, redb::Error> {
        let mut tables = Tables { from, visited: Vec::new(), to, missing: Vec::new() };
        (self.tables)(&mut tables)?;
        let mut unknown: Vec<String> = from.list_tables()?.map(|table| table.name().to_owned()).collect();
        unknown.retain(|name| !tables.visited.contains(name));
        Ok(Shape { missing: tables.missing, unknown })
    }
}

impl Tables<'_> {
    /// Visits one table.
    ///
    /// # Errors
    ///
    /// Errors of the databases.
    pub fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<(), redb::Error> {
        let table = match self.from.open_table(definition) {
            Err(TableError::TableDoesNotExist(name)) => {
                self.missing.push(name);
                return Ok(());
            }
            table => table?,
        };
        self.visited.push(definition.name().to_owned());
        match &self.to {
            Some(target) => target.fill(definition, &table),
            None => Ok(()),
        }
    }
}

impl Target<'_> {
    fn begin(&self) -> Result<WriteTransaction, redb::Error> {
        (self.check)()?;
        Ok(self.database.begin_write()?)
    }

    fn fill<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
        from: &ReadOnlyTable<K, V>,
    ) -> Result<(), redb::Error> {
        let mut rows = from.iter()?;
        loop {
            let write = self.begin()?;
            let (mut bytes, mut ended) = (0, false);
            {
                let mut to = write.open_table(definition)?;
                while bytes < CHUNK {
                    let Some(row) = rows.next() else {
                        ended = true;
                        break;
                    };
                    let (key, value) = row?;
                    let (key, value) = (key.value(), value.value());
                    bytes += K::as_bytes(&key).as_ref().len() + V::as_bytes(&value).as_ref().len();
                    to.insert(key, value)?;
                }
            }
            write.commit()?;
            if ended {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use redb::{ReadableDatabase as _, ReadableTableMetadata as _};

    use super::*;
    use crate::Memory;

    const NUMBERS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("numbers");
    const NAMES: TableDefinition<'static, (u64, &str), ()> = TableDefinition::new("names");
    const LAYOUT: Layout = Layout {
        file: "numbers.redb",
        order: Order::Objects,
        format: Format { current: 1, stored: None },
        tables: |tables| {
            tables.table(NUMBERS)?;
            tables.table(NAMES)
        },
    };

    fn database() -> Database {
        Memory::default().opener(redb::Builder::new)().expect("opens in memory")
    }

    fn fill(database: &Database, numbers: u64) {
        let write = database.begin_write().expect("begun");
        let mut table = write.open_table(NUMBERS).expect("opened");
        for number in 0..numbers {
            table.insert(number, [number as u8; 1_000].as_slice()).expect("inserted");
        }
        drop(table);
        write.open_table(NAMES).expect("opened").insert((1, "a"), ()).expect("inserted");
        write.commit().expect("committed");
    }

    #[test]
    fn a_copy_has_the_state_at_the_beginning_of_the_read_and_is_written_in_chunks() {
        let (from, to) = (database(), database());
        fill(&from, 10_000);
        let read = from.begin_read().expect("begun");
        let checks = Cell::new(0);
        let check = || {
            checks.set(checks.get() + 1);
            // Later writes are not part of the copy.
            fill(&from, 20_000);
            Ok(())
        };
        LAYOUT.copy(&read, &to, &check).expect("copied");
        // 10 MB in chunks of 4 MiB, and the names.
        assert_eq!(checks.get(), 4);
        let copied = to.begin_read().expect("begun");
        let numbers = copied.open_table(NUMBERS).expect("opened");
        assert_eq!(numbers.len().expect("counted"), 10_000);
        assert_eq!(numbers.get(9_999).expect("read").expect("there").value(), [15; 1_000]);
        assert!(copied.open_table(NAMES).expect("opened").get((1, "a")).expect("read").is_some());
    }

    #[test]
    fn a_copy_ends_at_a_failed_check() {
        let (from, to) = (database(), database());
        fill(&from, 10_000);
        let read = from.begin_read().expect("begun");
        let full = || Err(io::ErrorKind::StorageFull.into());
        assert!(matches!(LAYOUT.copy(&read, &to, &full), Err(redb::Error::Io(_))));
    }

    #[test]
    fn a_table_that_the_layout_lacks_is_never_left_out_silently() {
        const LESS: Layout = Layout { tables: |tables| tables.table(NUMBERS), ..LAYOUT };
        const MORE: TableDefinition<'static, u64, u64> = TableDefinition::new("more");
        const OTHER: TableDefinition<'static, u64, u64> = TableDefinition::new("numbers");
        let (from, to) = (database(), database());
        fill(&from, 1);
        let read = from.begin_read().expect("begun");
        assert_eq!(LAYOUT.shape(&read).expect("read"), Shape::default());
        assert!(matches!(LESS.copy(&read, &to, &|| Ok(())), Err(redb::Error::Corrupted(_))));
        assert_eq!(LESS.shape(&read).expect("read").unknown, ["names"]);
        let added = Layout {
            tables: |tables| {
                tables.table(NUMBERS).and_then(|()| tables.table(NAMES)).and_then(|()| tables.table(MORE))
            },
            ..LAYOUT
        };
        assert_eq!(added.shape(&read).expect("read").missing, ["more"]);
        let wrong = Layout { tables: |tables| tables.table(OTHER), ..LAYOUT };
        assert!(matches!(wrong.shape(&read), Err(redb::Error::TableTypeMismatch { .. })));
    }
}
