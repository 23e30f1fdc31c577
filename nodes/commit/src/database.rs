//! A redb file that is opened again after an I/O error: redb refuses everything on a database once a read or a write
//! of it has failed, also when the disk works again.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, StorageBackend};

/// Opens the database, and makes it where it is missing. Called again after each failure; tests put failing disks
/// here.
pub type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// A file that only its owner may read: secrets are in some of them.
pub fn file(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move || {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        Database::builder().create_file(options.open(&path)?)
    })
}

/// Memory, which outlives the database that is opened on it.
pub fn memory() -> Opener {
    let memory = Arc::new(InMemoryBackend::new());
    Box::new(move || Database::builder().create_with_backend(Memory(memory.clone())))
}

#[derive(Debug)]
struct Memory(Arc<InMemoryBackend>);

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
pub(super) struct Reopening {
    opener: Mutex<Opener>,
    database: RwLock<Option<Database>>,
}

impl fmt::Debug for Reopening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reopening").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Reopening {
    pub(super) fn open(opener: Opener) -> Result<Self, DatabaseError> {
        let database = opener()?;
        Ok(Self { opener: Mutex::new(opener), database: RwLock::new(Some(database)) })
    }

    /// The database; `None` while it is closed or being opened, which is not waited for.
    pub(super) fn get(&self) -> Option<RwLockReadGuard<'_, Option<Database>>> {
        self.database.try_read().filter(|database| database.is_some())
    }

    pub(super) fn is_open(&self) -> bool {
        self.database.read().is_some()
    }

    /// Closes the database, and opens it again. It stays closed where that fails.
    pub(super) fn reopen(&self) -> Result<(), redb::Error> {
        let mut database = self.database.write();
        let failed = database.take();
        // A panic that redb does not promise must not end the thread that writes.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(failed)));
        let open = self.opener.lock();
        let result = catch_unwind(AssertUnwindSafe(&*open));
        *database = Some(result.map_err(|_| redb::Error::Corrupted("opening it panicked".to_owned()))??);
        Ok(())
    }
}
