//! The writing thread.
//!
//! Unlike the broker's store, which retries a group until it is on disk, this thread fails the jobs that could not be
//! written: each caller gets the result of its write, and may give up.

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

/// Maximum number of jobs in one commit.
const MAX_GROUP_JOBS: usize = 256;
/// Suggested delay for a retry while the file is being opened again.
const REOPEN_RETRY_AFTER: Duration = Duration::from_millis(50);
/// Maximum pause after an I/O error. During a pause, writes are refused at once.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Maximum number of immediate attempts to open the file if it is not known whether a commit is on disk.
const REOPEN_ATTEMPTS: u32 = 4;

pub(super) type Jobs = Vec<Box<dyn Job>>;

/// State shared by the handles and the thread.
#[derive(Debug)]
pub(super) struct WriterState {
    pub(super) database: Reopening,
    /// Time of the next attempt; `None` while the disk works.
    again: Mutex<Option<Instant>>,
    /// Whether a read has failed since the file was opened.
    pub(super) suspect: AtomicBool,
    /// Commit that the thread is busy with.
    operation: Operation,
    /// Whether it was logged that the commit takes too long.
    stalled: AtomicBool,
    stall: Duration,
}

impl WriterState {
    pub(super) fn open(opener: Opener, prepare: Prepare, stall: Duration) -> Result<Self, DiskError> {
        let database = Reopening::open(opener)?;
        if let Some(open) = database.get().as_ref().and_then(|open| open.as_ref()) {
            let transaction = open.begin_write()?;
            prepare(&transaction)?;
            // Otherwise a file without a commit would lack a table of its layout.
            transaction.open_table(group::COMMITS)?;
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

    /// Checks whether the disk does not respond; logged once.
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

    /// Returns the delay before the next attempt.
    pub(super) fn wait(&self) -> Duration {
        self.again.lock().map_or(REOPEN_RETRY_AFTER, |again| again.saturating_duration_since(Instant::now()))
    }
}

pub(super) fn spawn(jobs: Arc<Queue<Jobs>>, shared: Weak<WriterState>) -> std::io::Result<()> {
    let mut writer = Writer::new();
    let thread = thread::Builder::new().name("rantai-disk".to_owned());
    thread.spawn(move || {
        let jobs = QueueCloser(jobs);
        while writer.next(&jobs.0, &shared) {}
    })?;
    Ok(())
}

/// Drops the queued jobs when the thread ends, for whatever reason, so that their callers get `DatabaseClosed`.
struct QueueCloser(Arc<Queue<Jobs>>);

impl Drop for QueueCloser {
    fn drop(&mut self) {
        self.0.close();
        drop(self.0.next(&mut Pace::new(1, MAX_GROUP_JOBS), None));
    }
}

pub(super) struct Writer {
    pace: Pace,
    backoff: Backoff,
}

pub(super) type JobResults = Vec<(Box<dyn Job>, Result<(), DiskError>)>;

impl Writer {
    pub(super) fn new() -> Self {
        Self { pace: Pace::new(1, MAX_GROUP_JOBS), backoff: Backoff::new(MAX_PAUSE) }
    }

    /// Waits for the next group and writes it, or opens a closed file again; returns false once all handles are
    /// dropped.
    fn next(&mut self, jobs: &Queue<Jobs>, shared: &Weak<WriterState>) -> bool {
        let until = match shared.upgrade() {
            Some(shared) => (!shared.database.is_open()).then(|| Instant::now() + shared.wait()),
            None => return false,
        };
        let Some(mut group) = jobs.next(&mut self.pace, until) else { return false };
        loop {
            let rest = group.group.split_off(group.group.len().min(MAX_GROUP_JOBS));
            let Some(shared) = shared.upgrade() else { return false };
            let began = Instant::now();
            let told = shared.operation.run(|| self.write(&shared, group.group));
            if shared.stalled.swap(false, Ordering::Relaxed) {
                tracing::warn!("the disk of the database file answers again");
            }
            self.pace.took(began.elapsed());
            // Released first, as a notified caller may close the file and open it again.
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

    /// Writes a group, without the jobs that fail; returns the results to report. Without jobs, only makes sure that
    /// the file is open.
    pub(super) fn write(&mut self, shared: &WriterState, mut group: Vec<Box<dyn Job>>) -> JobResults {
        let mut told = JobResults::new();
        let refuse = |told: &mut JobResults, group: Vec<Box<dyn Job>>, error: &DiskError| {
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
                    // Opened again for readers, if possible.
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

    fn failed(&mut self, shared: &WriterState, error: &redb::Error) {
        let before = shared.again.lock().replace(Instant::now() + self.backoff.failed());
        if before.is_none() {
            tracing::error!("cannot write to the database file: {error}; it is tried again until it works");
        }
    }

    fn works(&mut self, shared: &WriterState) {
        if shared.again.lock().take().is_some() {
            tracing::warn!("the database file can be written again");
        }
        self.backoff.reset();
    }
}

fn attempt(shared: &WriterState, group: &mut [Box<dyn Job>]) -> Result<(), Failure> {
    let database = shared.database.get();
    let database = database.as_ref().and_then(|database| database.as_ref());
    group::commit(database.ok_or(Failure::Database(redb::Error::DatabaseClosed))?, group)
}

/// Returns the error for jobs that are certainly not on disk.
fn refused(shared: &WriterState, error: redb::Error) -> DiskError {
    if is_io(&error) { DiskError::Closed(shared.wait()) } else { error.into() }
}

/// Returns whether the commit with this number is on disk; `None` if the file cannot be opened to check.
fn outcome(shared: &WriterState, number: u64) -> Option<bool> {
    let mut backoff = Backoff::new(MAX_PAUSE);
    for _ in 0..REOPEN_ATTEMPTS {
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
