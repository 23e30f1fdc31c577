//! The thread that writes.
//!
//! Unlike the broker's store, which writes the same group again until it is on disk, it refuses what failed: callers are
//! told what became of each write, and may give up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rantai_group_commit::{Backoff, Opener, Operation, Pace, Queue, Reopening};

use super::Prepare;
use super::error::{DiskError, is_io};
use super::group::{self, Failure, Job};

/// The most jobs in one commit.
const GROUP: usize = 256;
/// How long to wait for a file that is being opened again.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause after an I/O error. Within a pause writes are refused at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often the file is opened again at once where it is not known whether a commit is on disk.
const TRIES: u32 = 4;

pub(super) type Jobs = Vec<Box<dyn Job>>;

/// What the handles and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) database: Reopening,
    /// When the disk is tried again; `None` while it works.
    again: Mutex<Option<Instant>>,
    /// A read has failed since the file was opened.
    pub(super) suspect: AtomicBool,
    /// The commit that the thread is busy with.
    operation: Operation,
    /// It was logged that it takes too long.
    stalled: AtomicBool,
    stall: Duration,
}

impl Shared {
    pub(super) fn open(opener: Opener, prepare: Prepare, stall: Duration) -> Result<Self, DiskError> {
        let database = Reopening::open(opener)?;
        if let Some(open) = database.get().as_ref().and_then(|open| open.as_ref()) {
            let transaction = open.begin_write()?;
            prepare(&transaction)?;
            transaction.commit()?;
        }
        Ok(Self {
            database,
            again: Mutex::default(),
            suspect: AtomicBool::new(false),
            operation: Operation::default(),
            stalled: AtomicBool::new(false),
            stall,
        })
    }

    /// Whether the disk neither writes nor fails; logged once.
    pub(super) fn is_stalled(&self) -> bool {
        self.operation.tell_stalled(self.stall, || {
            self.stalled.store(true, Ordering::Relaxed);
            let seconds = self.stall.as_secs();
            tracing::error!(
                seconds,
                "the disk of a database file does not answer; writes are refused until it does"
            );
        });
        self.operation.is_stalled(self.stall)
    }

    /// How long the disk is left alone.
    pub(super) fn wait(&self) -> Duration {
        self.again.lock().map_or(PAUSE, |again| again.saturating_duration_since(Instant::now()))
    }
}

pub(super) fn spawn(jobs: Arc<Queue<Jobs>>, shared: Weak<Shared>) -> std::io::Result<()> {
    let mut writer = Writer::new();
    let thread = thread::Builder::new().name("rantai-disk".to_owned());
    thread.spawn(move || {
        let jobs = End(jobs);
        while writer.next(&jobs.0, &shared) {}
    })?;
    Ok(())
}

/// Lets go of what waits when the thread ends, however it does: whoever waits is told that the database is closed.
struct End(Arc<Queue<Jobs>>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.close();
        drop(self.0.next(&mut Pace::new(1, GROUP), None));
    }
}

pub(super) struct Writer {
    pace: Pace,
    backoff: Backoff,
}

pub(super) type Told = Vec<(Box<dyn Job>, Result<(), DiskError>)>;

impl Writer {
    pub(super) fn new() -> Self {
        Self { pace: Pace::new(1, GROUP), backoff: Backoff::new(LONGEST_PAUSE) }
    }

    /// Waits for the next group and writes it, or opens a closed file again; false when nobody needs the file any more.
    fn next(&mut self, jobs: &Queue<Jobs>, shared: &Weak<Shared>) -> bool {
        let until = match shared.upgrade() {
            Some(shared) => (!shared.database.is_open()).then(|| Instant::now() + shared.wait()),
            None => return false,
        };
        let Some(mut group) = jobs.next(&mut self.pace, until) else { return false };
        loop {
            let rest = group.group.split_off(group.group.len().min(GROUP));
            let Some(shared) = shared.upgrade() else { return false };
            let began = Instant::now();
            let told = shared.operation.run(|| self.write(&shared, group.group));
            if shared.stalled.swap(false, Ordering::Relaxed) {
                tracing::warn!("the disk of the database file answers again");
            }
            self.pace.took(began.elapsed());
            // Whoever is told may close the file, and open it again.
            drop(shared);
            for (job, result) in told {
                if catch_unwind(AssertUnwindSafe(|| job.tell(result))).is_err() {
                    tracing::error!("telling of a write panicked");
                }
            }
            if rest.is_empty() {
                return true;
            }
            group.group = rest;
        }
    }

    /// Writes a group, without the jobs of it that fail; whom to tell what. Without jobs it sees to it that the file
    /// is open.
    pub(super) fn write(&mut self, shared: &Shared, mut group: Vec<Box<dyn Job>>) -> Told {
        let mut told = Told::new();
        let refuse = |told: &mut Told, group: Vec<Box<dyn Job>>, error: &DiskError| {
            told.extend(group.into_iter().map(|job| (job, Err(error.clone()))));
        };
        if shared.again.lock().is_some_and(|again| again > Instant::now()) {
            refuse(&mut told, group, &DiskError::Closed(shared.wait()));
            return told;
        }
        if (shared.suspect.swap(false, Ordering::Relaxed) || !shared.database.is_open())
            && let Err(error) = shared.database.reopen()
        {
            self.failed(shared, &error);
            refuse(&mut told, group, &DiskError::Closed(shared.wait()));
            return told;
        }
        while !group.is_empty() {
            let result = catch_unwind(AssertUnwindSafe(|| attempt(shared, &mut group)));
            match result.unwrap_or_else(|_| Err(Failure::Database(redb::Error::PreviousIo))) {
                Ok(()) => {
                    self.works(shared);
                    told.extend(group.drain(..).map(|job| (job, Ok(()))));
                }
                Err(Failure::Job(index, error)) => {
                    tracing::error!("cannot write to the database file: {error}");
                    told.push((group.remove(index), Err(error.into())));
                }
                Err(Failure::Panicked(index)) => {
                    tracing::error!("a write to the database file panicked; nothing of it is kept");
                    told.push((group.remove(index), Err(DiskError::Panicked)));
                    if let Err(error) = shared.database.reopen() {
                        self.failed(shared, &error);
                        refuse(&mut told, std::mem::take(&mut group), &DiskError::Closed(shared.wait()));
                    }
                }
                Err(Failure::Database(error)) => {
                    // Reads go on where the file can be opened.
                    let _ = shared.database.reopen();
                    self.failed(shared, &error);
                    refuse(&mut told, std::mem::take(&mut group), &refused(shared, error));
                }
                Err(Failure::Commit(number, error)) => match outcome(shared, number) {
                    Some(true) => told.extend(group.drain(..).map(|job| (job, Ok(())))),
                    Some(false) => {
                        self.failed(shared, &error);
                        refuse(&mut told, std::mem::take(&mut group), &refused(shared, error));
                    }
                    None => {
                        self.failed(shared, &error);
                        let unknown = DiskError::Unknown(Arc::new(error));
                        refuse(&mut told, std::mem::take(&mut group), &unknown);
                    }
                },
            }
        }
        told
    }

    fn failed(&mut self, shared: &Shared, error: &redb::Error) {
        let before = shared.again.lock().replace(Instant::now() + self.backoff.failed());
        if before.is_none() {
            tracing::error!("cannot write to the database file: {error}; it is tried again until it works");
        }
    }

    fn works(&mut self, shared: &Shared) {
        if shared.again.lock().take().is_some() {
            tracing::warn!("the database file can be written again");
        }
        self.backoff.reset();
    }
}

fn attempt(shared: &Shared, group: &mut [Box<dyn Job>]) -> Result<(), Failure> {
    let database = shared.database.get();
    let database = database.as_ref().and_then(|database| database.as_ref());
    group::commit(database.ok_or(Failure::Database(redb::Error::DatabaseClosed))?, group)
}

/// What jobs are told that are certainly not on disk.
fn refused(shared: &Shared, error: redb::Error) -> DiskError {
    if is_io(&error) { DiskError::Closed(shared.wait()) } else { error.into() }
}

/// Whether the commit of this number is on disk; `None` where the file cannot be opened to see.
fn outcome(shared: &Shared, number: u64) -> Option<bool> {
    let mut backoff = Backoff::new(LONGEST_PAUSE);
    for _ in 0..TRIES {
        if shared.database.reopen().is_ok() {
            let database = shared.database.get();
            let last = database.as_ref().and_then(|database| database.as_ref()).map(group::last);
            if let Some(Ok(last)) = last {
                return Some(last >= number);
            }
        }
        thread::sleep(backoff.failed());
    }
    None
}
