//! A file that is written by one thread: whatever has gathered while it committed the last time, in one commit.
//!
//! A commit waits for the disk; with many that write at the same time they share the wait.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use redb::{Database, WriteTransaction};
use tokio::sync::{Semaphore, oneshot};

/// Longest wait for a group to fill.
const GATHER: Duration = Duration::from_millis(2);
/// The most jobs in one commit.
const GROUP: usize = 256;
/// Jobs that may wait; whoever comes then waits for room.
const WAITING: usize = 4_096;

/// Why a database file cannot be opened, read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub struct DiskError(Arc<redb::Error>);

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            redb::Error::DatabaseAlreadyOpen => {
                f.write_str("another process may have it open; stop that process, or choose another file")
            }
            redb::Error::Io(error) => write!(f, "cannot use the database: {error}"),
            error => write!(f, "cannot use the database: {}", error.to_string().trim_end_matches('.')),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for DiskError {
    fn from(error: E) -> Self {
        Self(Arc::new(error.into()))
    }
}

/// Tells whoever waits, after the commit.
type Tell = Box<dyn FnOnce(Result<(), DiskError>) + Send>;
type Job = Box<dyn FnOnce(&WriteTransaction) -> Result<Tell, redb::Error> + Send>;

/// The handle of the thread, which ends with the last of them.
#[derive(Debug)]
pub(crate) struct Committer {
    jobs: Sender<Job>,
    room: Arc<Semaphore>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Where there is none to be had.
    pub(crate) fn start(database: &Arc<Database>) -> std::io::Result<Self> {
        let (jobs, waiting) = channel();
        let database = Arc::downgrade(database);
        thread::Builder::new().name("rantai-disk".to_owned()).spawn(move || run(&waiting, &database))?;
        Ok(Self { jobs, room: Arc::new(Semaphore::new(WAITING)) })
    }

    /// Does the job in the next commit, and waits until that is on disk. Cancelled, the job may be done all the
    /// same.
    ///
    /// # Errors
    ///
    /// Where this job, or another of the same commit, fails, or the disk does: then nothing of it is written.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, DiskError> {
        let place = self.room.clone().acquire_owned().await.expect("never closed");
        let (told, done) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let value = job(transaction)?;
            Ok(Box::new(move |result: Result<(), DiskError>| {
                drop(place);
                let _ = told.send(result.map(|()| value));
            }))
        });
        let gone = || redb::Error::DatabaseClosed;
        self.jobs.send(job).map_err(|_| gone())?;
        done.await.unwrap_or_else(|_| Err(gone().into()))
    }
}

fn run(waiting: &Receiver<Job>, database: &Weak<Database>) {
    let (mut before, mut took) = (0, Duration::ZERO);
    while let Ok(first) = waiting.recv() {
        let Some(database) = database.upgrade() else { return };
        let mut group = vec![first];
        // Those who were told last come again in a moment.
        let end = Instant::now() + took.min(GATHER);
        while group.len() < GROUP {
            let left = end.saturating_duration_since(Instant::now());
            let left = if group.len() < before { left } else { Duration::ZERO };
            match waiting.recv_timeout(left) {
                Ok(job) => group.push(job),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        before = group.len();
        let began = Instant::now();
        let committed = commit(&database, group);
        // Whoever is told may close the file, and open it again.
        drop(database);
        match committed {
            Ok(tell) => tell.into_iter().for_each(|tell| tell(Ok(()))),
            // Whoever waits hears of it by its dropped channel, or by this.
            Err((error, tell)) => {
                tracing::error!("cannot write to disk: {error}");
                let error = DiskError::from(error);
                for tell in tell {
                    tell(Err(error.clone()));
                }
            }
        }
        took = began.elapsed();
    }
}

fn commit(database: &Database, group: Vec<Job>) -> Result<Vec<Tell>, (redb::Error, Vec<Tell>)> {
    let transaction = database.begin_write().map_err(|error| (error.into(), Vec::new()))?;
    let mut tell = Vec::with_capacity(group.len());
    for job in group {
        match job(&transaction) {
            Ok(told) => tell.push(told),
            Err(error) => {
                let _ = transaction.abort();
                return Err((error, tell));
            }
        }
    }
    match transaction.commit() {
        Ok(()) => Ok(tell),
        Err(error) => Err((error.into(), tell)),
    }
}
