//! redb database that can be reopened after an I/O error: once a read or a write has failed, redb refuses all operations
//! on a database, even if the disk works again.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use crate::layout::Layout;
use crate::open_databases;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use redb::backends::InMemoryBackend;
use redb::{Builder, CompactionError, Database, DatabaseError, StorageBackend};

/// Opens the database, and creates it if it does not exist. Called again after each failure; tests pass openers of
/// failing disks.
pub type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// In-memory storage of a database, which persists when the database is closed. Clones share the memory.
#[derive(Clone, Debug)]
pub struct Memory(Arc<InMemoryBackend>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(InMemoryBackend::new()))
    }
}

impl Memory {
    /// Returns an opener of the database in this memory, with the options of `builder`.
    pub fn opener(self, builder: fn() -> Builder) -> Opener {
        Box::new(move || builder().create_with_backend(self.clone()))
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// Database while it is open, with the opener to reopen it.
pub struct Reopening {
    opener: Mutex<Opener>,
    database: Arc<RwLock<Option<Database>>>,
}

impl fmt::Debug for Reopening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reopening").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Reopening {
    /// Opens the database.
    ///
    /// # Errors
    ///
    /// The opener failed.
    pub fn open(opener: Opener) -> Result<Self, DatabaseError> {
        let database = opener()?;
        Ok(Self::opened(opener, database))
    }

    /// Creates a value from a database that is already open, and the opener to reopen it.
    pub fn opened(opener: Opener, database: Database) -> Self {
        Self { opener: Mutex::new(opener), database: Arc::new(RwLock::new(Some(database))) }
    }

    /// Adds the database to the list of [`open_databases`] until it is dropped.
    pub fn list(&self, path: &Path, layout: &'static Layout) {
        open_databases::add(path, layout, Arc::downgrade(&self.database));
    }

    /// Returns the database; `None` while it is closed or being opened. Does not block.
    pub fn get(&self) -> Option<RwLockReadGuard<'_, Option<Database>>> {
        self.database.try_read().filter(|database| database.is_some())
    }

    /// Returns whether the database is open; blocks while it is being opened.
    pub fn is_open(&self) -> bool {
        self.database.read().is_some()
    }

    /// Closes the database.
    pub fn close(&self) {
        drop_caught(self.database.write().take());
    }

    /// Shrinks the file to the size of its contents; returns false if a read transaction is in progress.
    ///
    /// # Errors
    ///
    /// Errors of the database; [`redb::Error::DatabaseClosed`] if it is not open.
    pub fn compact(&self) -> Result<bool, redb::Error> {
        let mut database = self.database.write();
        match database.as_mut().ok_or(redb::Error::DatabaseClosed)?.compact() {
            Ok(_) => Ok(true),
            Err(CompactionError::TransactionInProgress) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Closes the database, and opens it again. If that fails, the database stays closed.
    ///
    /// # Errors
    ///
    /// The opener failed; [`redb::Error::Corrupted`] if it panicked.
    pub fn reopen(&self) -> Result<(), redb::Error> {
        let mut database = self.database.write();
        drop_caught(database.take());
        let open = self.opener.lock();
        let result = catch_unwind(AssertUnwindSafe(&*open));
        *database = Some(result.map_err(|_| redb::Error::Corrupted("opening it panicked".to_owned()))??);
        Ok(())
    }
}

/// Drops a database that may have failed, and catches panics: redb does not document any, but one must not end the
/// writing thread.
fn drop_caught(database: Option<Database>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
}
