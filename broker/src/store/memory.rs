//! Store without files and threads, for simulations: a commit happens when the test calls for it, and what was put
//! since the last one is lost with the process.
//!
//! Everything above redb's storage backend is the store that a broker runs on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rantai_group_commit::{Memory, Opener, Reopening};
use tokio::sync::mpsc::UnboundedSender;

use super::backlog::Shared;
use super::disk::Disk;
use super::open::{self, builder};
use super::writer::Writer;
use super::{Committed, Handle, Snapshot, Store};

/// Contents that survive the end of a simulated broker.
#[derive(Debug)]
pub(crate) struct MemoryDisk(Memory);

/// Commits to a [`MemoryDisk`].
pub(crate) struct Commits(Writer);

impl Commits {
    /// Commits everything put so far, and reports it.
    pub(crate) fn commit(&mut self) {
        self.0.next(Some(Instant::now()));
    }
}

impl MemoryDisk {
    pub(crate) fn new() -> Self {
        let disk = Self(Memory::default());
        let database = disk.opener()().expect("opens in memory");
        open::make_tables(&database).expect("writes to memory");
        disk
    }

    fn opener(&self) -> Opener {
        self.0.clone().opener(builder)
    }

    /// Opens the store with what is committed. The previous store must have been dropped.
    pub(crate) fn open(&self, committed: UnboundedSender<Committed>, now: u64) -> (Store, Snapshot, Commits) {
        let path = Path::new("memory");
        let opener = self.opener();
        let database = opener().expect("opens in memory");
        let (database, messages, snapshot) =
            open::read_database(path, database, now).expect("reads what was committed");
        let database = Reopening::opened(opener, database);
        let disk = Disk { path: PathBuf::from(path), database, messages, _lock: None };
        let shared = Arc::new(Shared::default());
        let handle = Handle {
            shared: Arc::clone(&shared),
            writer: Mutex::new(None),
            salvaged: snapshot.salvaged,
            file: PathBuf::from(path),
            stall: Duration::ZERO,
        };
        (Store(Arc::new(handle)), snapshot, Commits(Writer::new(disk, shared, committed)))
    }
}
