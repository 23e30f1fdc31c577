//! Store without files and without a thread, for simulations: the test decides when a commit happens, of how many
//! puts, and whether it fails. Puts since the last commit are lost when the process is killed.
//!
//! Everything above redb's storage backend is the same as in a real broker.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rantai_group_commit::faulty::{self, Switch};
use rantai_group_commit::{Group, Memory, Pace, Reopening};
use tokio::sync::mpsc::UnboundedSender;

use super::backlog::{StoreState, WaitingOps};
use super::disk::Disk;
use super::open::{self, builder};
use super::writer::{Pending, Writer};
use super::{Committed, Snapshot, Store, StoreHandle, Ticket};

/// Contents of the disk, which survive when a broker is killed.
#[derive(Debug)]
pub(crate) struct MemoryDisk(Memory);

/// Controls the commits to a [`MemoryDisk`].
pub(crate) struct Commits {
    writer: Writer,
    shared: Arc<StoreState>,
    /// Puts that are not in a commit yet.
    puts: VecDeque<Group<WaitingOps>>,
    /// Operations of failed commits, to be included in the next one.
    pending: Pending,
    switch: Arc<Switch>,
}

impl Commits {
    /// Commits and reports all puts so far. Returns false if the disk fails.
    pub(crate) fn commit(&mut self) -> bool {
        self.commit_some(usize::MAX)
    }

    /// Commits and reports the next `count` puts, together with those of failed commits. Returns false if the disk
    /// fails.
    pub(crate) fn commit_some(&mut self, count: usize) -> bool {
        let count = count.min(self.waiting());
        for put in self.puts.drain(..count) {
            self.pending.add(put);
        }
        self.pending.is_empty() || self.writer.try_write(&mut self.pending)
    }

    /// Returns the number of puts that are not in a commit yet.
    pub(crate) fn waiting(&mut self) -> usize {
        if let Some(group) = self.shared.queue.next(&mut Pace::new(1, usize::MAX), Some(Instant::now())) {
            self.puts.extend(split(group));
        }
        self.puts.len()
    }

    /// Returns whether all puts so far are on disk.
    pub(crate) fn is_done(&mut self) -> bool {
        self.waiting() == 0 && self.pending.is_empty()
    }

    /// Returns the switch for faults of the disk.
    pub(crate) fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Ends the store like a process that is killed: the database is not closed.
    pub(crate) fn kill(self) {
        self.switch.writes.store(0, Ordering::Relaxed);
        self.switch.broken.store(true, Ordering::Relaxed);
    }
}

/// Splits a group into its puts.
fn split(group: Group<WaitingOps>) -> Vec<Group<WaitingOps>> {
    let Group { group: WaitingOps { ops, wake, puts, .. }, last, .. } = group;
    let (mut ops, mut wake) = (ops.into_iter(), wake.into_iter());
    let first = last + 1 - puts.len() as Ticket;
    let (mut before, mut groups) = ([0; 3], Vec::new());
    for (last, put) in (first..).zip(puts) {
        let group = WaitingOps {
            ops: ops.by_ref().take(put[0] - before[0]).collect(),
            wake: wake.by_ref().take(put[1] - before[1]).collect(),
            bytes: put[2] - before[2],
            puts: Vec::new(),
        };
        groups.push(Group { group, puts: 1, last });
        before = put;
    }
    groups
}

impl MemoryDisk {
    pub(crate) fn new() -> Self {
        let disk = Self(Memory::default());
        let database = disk.0.clone().opener(builder)().expect("opens in memory");
        open::make_tables(&database).expect("writes to memory");
        disk
    }

    /// Opens the store with the committed contents. The previous store must have ended.
    pub(crate) fn open(&self, committed: UnboundedSender<Committed>, now: u64) -> (Store, Snapshot, Commits) {
        let path = Path::new("memory");
        let (opener, switch) = faulty::memory(&self.0, builder);
        let database = opener().expect("opens in memory");
        let (database, messages, snapshot) =
            open::read_database(path, database, now).expect("reads what was committed");
        let database = Reopening::opened(opener, database);
        let disk = Disk { path: PathBuf::from(path), database, messages, _lock: None };
        let shared = Arc::new(StoreState::default());
        let handle = StoreHandle {
            shared: Arc::clone(&shared),
            writer: Mutex::new(None),
            salvaged: snapshot.salvaged,
            file: PathBuf::from(path),
            stall: Duration::ZERO,
        };
        let writer = Writer::new(disk, shared.clone(), committed);
        let commits = Commits { writer, shared, puts: VecDeque::new(), pending: Pending::default(), switch };
        (Store(Arc::new(handle)), snapshot, commits)
    }
}
