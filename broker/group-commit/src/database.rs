//! A redb database that is opened again after an I/O error: redb refuses everything on a database once a read or a write
//! of it has failed, also when the disk works again.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use redb::backends::InMemoryBackend;
use redb::{Builder, CompactionError, Database, DatabaseError, StorageBackend};

/// Opens the database, and makes it where it is missing. Called again after each failure; tests put failing disks
/// here.
pub type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// Memory for a database, which outlives it. A clone is the same memory.
#[derive(Clone, Debug)]
pub struct Memory(Arc<InMemoryBackend>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(InMemoryBackend::new()))
    }
}

impl Memory {
    /// Opens the database in it. `builder` says how.
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

/// The database while it is open, and the way to open it again.
pub struct Reopening {
    opener: Mutex<Opener>,
    database: RwLock<Option<Database>>,
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
    /// Those of the opener.
    pub fn open(opener: Opener) -> Result<Self, DatabaseError> {
        let database = opener()?;
        Ok(Self::opened(opener, database))
    }

    /// A database that is open already, and how it is opened again.
    pub fn opened(opener: Opener, database: Database) -> Self {
        Self { opener: Mutex::new(opener), database: RwLock::new(Some(database)) }
    }

    /// The database; `None` while it is closed or being opened, which is not waited for.
    pub fn get(&self) -> Option<RwLockReadGuard<'_, Option<Database>>> {
        self.database.try_read().filter(|database| database.is_some())
    }

    /// Whether it is open; waits while it is being opened.
    pub fn is_open(&self) -> bool {
        self.database.read().is_some()
    }

    /// Closes the database.
    pub fn close(&self) {
        drop_caught(self.database.write().take());
    }

    /// Makes the file as short as what is kept in it; false where somebody is reading.
    ///
    /// # Errors
    ///
    /// Those of the database; [`redb::Error::DatabaseClosed`] where it is not open.
    pub fn compact(&self) -> Result<bool, redb::Error> {
        let mut database = self.database.write();
        match database.as_mut().ok_or(redb::Error::DatabaseClosed)?.compact() {
            Ok(_) => Ok(true),
            Err(CompactionError::TransactionInProgress) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Closes the database, and opens it again. It stays closed where that fails.
    ///
    /// # Errors
    ///
    /// Those of the opener; [`redb::Error::Corrupted`] where it panicked.
    pub fn reopen(&self) -> Result<(), redb::Error> {
        let mut database = self.database.write();
        drop_caught(database.take());
        let open = self.opener.lock();
        let result = catch_unwind(AssertUnwindSafe(&*open));
        *database = Some(result.map_err(|_| redb::Error::Corrupted("opening it panicked".to_owned()))??);
        Ok(())
    }
}

/// Drops a database that may have failed: a panic that redb does not promise must not end the thread that writes.
fn drop_caught(database: Option<Database>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
}
