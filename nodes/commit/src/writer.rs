//! The thread that writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Prepare;
use super::database::{Opener, Reopening};
use super::error::{DiskError, is_io};
use super::group::{self, Failure, Job};

/// Longest wait for a group to fill.
const GATHER: Duration = Duration::from_millis(2);
/// The most jobs in one commit.
const GROUP: usize = 256;
/// The first pause after an I/O error, doubled up to the longest. Within it writes are refused at once: to open a
/// large file again takes time.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often the file is opened again at once where it is not known whether a commit is on disk.
const TRIES: u32 = 4;

pub(super) enum Message {
    Job(Box<dyn Job>),
    /// A read has failed.
    Failed,
}

/// What the handles and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) database: Reopening,
    /// When the disk is tried again; `None` while it works.
    again: Mutex<Option<Instant>>,
    /// A read has failed since the file was opened.
    pub(super) suspect: AtomicBool,
}

impl Shared {
    pub(super) fn open(opener: Opener, prepare: Prepare) -> Result<Self, DiskError> {
        let database = Reopening::open(opener)?;
        if let Some(open) = database.get().as_ref().and_then(|open| open.as_ref()) {
            let transaction = open.begin_write()?;
            prepare(&transaction)?;
            transaction.commit()?;
        }
        Ok(Self { database, again: Mutex::default(), suspect: AtomicBool::new(false) })
    }

    /// How long the disk is left alone.
    pub(super) fn wait(&self) -> Duration {
        self.again.lock().map_or(PAUSE, |again| again.saturating_duration_since(Instant::now()))
    }
}

pub(super) fn spawn(waiting: Receiver<Message>, shared: Weak<Shared>) -> std::io::Result<()> {
    let mut writer = Writer { before: 0, took: Duration::ZERO, pause: PAUSE };
    let thread = thread::Builder::new().name("rantai-disk".to_owned());
    thread.spawn(move || while writer.next(&waiting, &shared) {})?;
    Ok(())
}

struct Writer {
    /// Jobs of the last group, and how long it took.
    before: usize,
    took: Duration,
    /// The pause after the next failure.
    pause: Duration,
}

type Told = Vec<(Box<dyn Job>, Result<(), DiskError>)>;

impl Writer {
    /// Waits for the next group and writes it, or opens a closed file again; false when nobody needs the file any more.
    fn next(&mut self, waiting: &Receiver<Message>, shared: &Weak<Shared>) -> bool {
        let closed = match shared.upgrade() {
            Some(shared) => (!shared.database.is_open()).then(|| shared.wait()),
            None => return false,
        };
        let first = match closed {
            None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => waiting.recv_timeout(wait),
        };
        let group = match first {
            Ok(Message::Job(first)) => self.gather(first, waiting),
            Ok(Message::Failed) | Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let Some(shared) = shared.upgrade() else { return false };
        let began = Instant::now();
        let told = self.write(&shared, group);
        self.took = began.elapsed();
        // Whoever is told may close the file, and open it again.
        drop(shared);
        for (job, result) in told {
            if catch_unwind(AssertUnwindSafe(|| job.tell(result))).is_err() {
                tracing::error!("telling of a write panicked");
            }
        }
        true
    }

    fn gather(&mut self, first: Box<dyn Job>, waiting: &Receiver<Message>) -> Vec<Box<dyn Job>> {
        let mut group = vec![first];
        // Those who were told last come again in a moment.
        let end = Instant::now() + self.took.min(GATHER);
        while group.len() < GROUP {
            let left = end.saturating_duration_since(Instant::now());
            let left = if group.len() < self.before { left } else { Duration::ZERO };
            match waiting.recv_timeout(left) {
                Ok(Message::Job(job)) => group.push(job),
                // The next write finds it out too.
                Ok(Message::Failed) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.before = group.len();
        group
    }

    /// Writes a group, without the jobs of it that fail; whom to tell what. Without jobs it sees to it that the file
    /// is open.
    fn write(&mut self, shared: &Shared, mut group: Vec<Box<dyn Job>>) -> Told {
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
        let before = shared.again.lock().replace(Instant::now() + self.pause);
        if before.is_none() {
            tracing::error!("cannot write to the database file: {error}; it is tried again until it works");
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn works(&mut self, shared: &Shared) {
        if shared.again.lock().take().is_some() {
            tracing::warn!("the database file can be written again");
        }
        self.pause = PAUSE;
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
    let mut pause = PAUSE;
    for _ in 0..TRIES {
        if shared.database.reopen().is_ok() {
            let database = shared.database.get();
            let last = database.as_ref().and_then(|database| database.as_ref()).map(group::last);
            if let Some(Ok(last)) = last {
                return Some(last >= number);
            }
        }
        thread::sleep(pause);
        pause *= 2;
    }
    None
}
