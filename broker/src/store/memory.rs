//! A store without files and without a thread, for simulations: a commit happens when the test says so, and what was
//! put since the last one is lost with the process.
//!
//! Everything but the disk below redb is the store that a broker runs on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::backends::InMemoryBackend;
use redb::{Database, StorageBackend};
use tokio::sync::mpsc::UnboundedSender;

use super::disk::Disk;
use super::open::{self, Opener, builder};
use super::writer::{Shared, Writer};
use super::{Committed, Handle, Snapshot, Store};

/// What outlives a broker that is cut off.
#[derive(Clone, Debug)]
pub(crate) struct MemoryDisk(Arc<InMemoryBackend>);

/// Commits to a [`MemoryDisk`].
pub(crate) struct Commits(Writer);

impl Commits {
    /// Commits everything put so far, and tells of it.
    pub(crate) fn commit(&mut self) {
        self.0.commit();
    }
}

impl MemoryDisk {
    pub(crate) fn new() -> Self {
        let disk = Self(Arc::new(InMemoryBackend::new()));
        open::make_tables(&disk.database().expect("opens in memory")).expect("writes to memory");
        disk
    }

    fn database(&self) -> Result<Database, redb::DatabaseError> {
        builder().create_with_backend(Backend(self.0.clone()))
    }

    /// Opens the store with what is committed. The one before has to be gone.
    pub(crate) fn open(&self, committed: UnboundedSender<Committed>, now: u64) -> (Store, Snapshot, Commits) {
        let path = Path::new("memory");
        let database = self.database().expect("opens in memory");
        let (database, messages, snapshot) =
            open::read_database(path, database, now).expect("reads what was committed");
        let again = self.clone();
        let opener: Opener = Box::new(move |_| again.database());
        let disk =
            Disk { path: PathBuf::from(path), opener, database: Some(database), messages, _lock: None };
        let shared = Arc::new(Shared::default());
        let handle = Handle { shared: Arc::clone(&shared), writer: Mutex::new(None) };
        (Store(Arc::new(handle)), snapshot, Commits(Writer::new(disk, shared, committed)))
    }
}

#[derive(Debug)]
struct Backend(Arc<InMemoryBackend>);

impl StorageBackend for Backend {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}
