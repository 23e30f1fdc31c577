//! Group commits for a redb database: one thread writes the file, and all jobs that arrive during one commit are written in
//! the next.
//!
//! A commit waits for the disk; jobs that are written at the same time share that wait. The thread survives I/O errors,
//! after which it opens the file again, and panics in jobs.

mod error;
mod group;
#[cfg(any(test, feature = "faulty"))]
mod manual;
mod opener;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use redb::{Database, WriteTransaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub use error::DiskError;
use group::Write;
#[cfg(any(test, feature = "faulty"))]
pub use manual::Commits;
pub use opener::{file, memory};
use rantai_group_commit::Queue;
#[cfg(any(test, feature = "faulty"))]
pub use rantai_group_commit::faulty;
pub use rantai_group_commit::{Format, Layout, Opener, Order, Tables};
use writer::{Jobs, WriterState};

/// Maximum number of queued jobs; further writes wait for room.
const MAX_QUEUED_JOBS: usize = 4_096;

/// Time limit of a commit, after which the disk counts as failing.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Visits the tables that every file of a [`Committer`] contains. To be called by its [`Layout`].
///
/// # Errors
///
/// Errors of the database.
pub fn common_tables(tables: &mut Tables<'_>) -> Result<(), redb::Error> {
    tables.table(group::COMMITS)
}

/// Function that creates missing tables.
pub type Prepare = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// Handle of a database file and its writing thread. The file is closed and the thread ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Committer(Arc<CommitterHandle>);

#[derive(Debug)]
struct CommitterHandle {
    jobs: Arc<Queue<Jobs>>,
    room: Arc<Semaphore>,
    shared: Arc<WriterState>,
}

impl Drop for CommitterHandle {
    fn drop(&mut self) {
        self.jobs.close();
    }
}

impl Committer {
    /// Opens the file and starts the thread.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or no thread can be started.
    pub fn open(opener: Opener, prepare: Prepare) -> Result<Self, DiskError> {
        Self::open_with(opener, prepare, STALL_TIMEOUT)
    }

    fn open_with(opener: Opener, prepare: Prepare, stall: Duration) -> Result<Self, DiskError> {
        let committer = Self::without_thread(opener, prepare, stall)?;
        let CommitterHandle { jobs, shared, .. } = &*committer.0;
        writer::spawn(Arc::clone(jobs), Arc::downgrade(shared)).map_err(redb::Error::Io)?;
        Ok(committer)
    }

    fn without_thread(opener: Opener, prepare: Prepare, stall: Duration) -> Result<Self, DiskError> {
        let shared = Arc::new(WriterState::open(opener, prepare, stall)?);
        let (jobs, room) = (Arc::new(Queue::default()), Arc::new(Semaphore::new(MAX_QUEUED_JOBS)));
        Ok(Self(Arc::new(CommitterHandle { jobs, room, shared })))
    }

    /// Adds the file to those that a backup of this process contains.
    #[must_use]
    pub fn listed(self, path: &Path, layout: &'static Layout) -> Self {
        self.0.shared.database.list(path, layout);
        self
    }

    /// Runs the job in the next commit, and waits until that is on disk. When cancelled, the job may still be run. The job is
    /// run again if another job of the same commit fails.
    ///
    /// # Errors
    ///
    /// The job fails or panics, or the disk fails: then nothing of the job is written, unless the error is
    /// [`DiskError::Unknown`]. If the disk does not respond for 10 s, jobs that were passed to it wait until it does; further
    /// jobs are refused.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnMut(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, DiskError> {
        self.write_and(job, |_| ()).await
    }

    /// Like [`write`](Self::write), and calls `after` with the result before this returns: on the writing thread, and even if
    /// this is cancelled. For updating state in memory that mirrors the disk; `after` must not block.
    ///
    /// # Errors
    ///
    /// Same as [`write`](Self::write).
    pub async fn write_and<T: Send + 'static>(
        &self,
        job: impl FnMut(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
        after: impl FnOnce(&Result<T, DiskError>) + Send + 'static,
    ) -> Result<T, DiskError> {
        if let Err(error) = self.refuse_stalled() {
            let refused = Err(error);
            after(&refused);
            return refused;
        }
        let place = self.0.room.clone().acquire_owned().await.expect("never closed");
        let (told, done) = oneshot::channel();
        self.send(Some(place), job, move |result| {
            after(&result);
            let _ = told.send(result);
        });
        done.await.unwrap_or_else(|_| Err(redb::Error::DatabaseClosed.into()))
    }

    /// Like [`write`](Self::write), but retries for as long as the disk fails temporarily: for events that have happened
    /// already and must not be lost.
    pub async fn write_when_possible<T: Send + 'static>(
        &self,
        job: impl FnMut(&WriteTransaction) -> Result<T, redb::Error> + Clone + Send + 'static,
    ) -> Result<T, DiskError> {
        loop {
            match self.write(job.clone()).await {
                Err(error) if error.is_retryable() => tokio::time::sleep(error.retry_after()).await,
                result => return result,
            }
        }
    }

    /// Same as [`write`](Self::write), but blocks the thread.
    pub fn write_blocking<T: Send + 'static>(
        &self,
        job: impl FnMut(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, DiskError> {
        self.refuse_stalled()?;
        let (told, done) = channel();
        self.send(None, job, move |result| {
            let _ = told.send(result);
        });
        done.recv().unwrap_or_else(|_| Err(redb::Error::DatabaseClosed.into()))
    }

    /// Returns an error if the disk does not respond, and fails the queued jobs that the thread has not begun. Called by
    /// writers, as the thread itself is blocked.
    fn refuse_stalled(&self) -> Result<(), DiskError> {
        if !self.0.shared.is_stalled() {
            return Ok(());
        }
        for job in self.0.jobs.withdraw() {
            job.tell(Err(DiskError::Stalled));
        }
        Err(DiskError::Stalled)
    }

    fn send<T: Send + 'static>(
        &self,
        place: Option<OwnedSemaphorePermit>,
        job: impl FnMut(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
        told: impl FnOnce(Result<T, DiskError>) + Send + 'static,
    ) {
        let write = Box::new(Write::new(place, job, told));
        self.0.jobs.put(|jobs| jobs.push(write));
    }

    /// Reads the last committed state. Blocks on the disk, but not while the file is being opened again, nor if the disk has
    /// not responded for 10 s.
    ///
    /// # Errors
    ///
    /// Errors of the database, [`DiskError::Closed`] and [`DiskError::Stalled`].
    pub fn read<T>(&self, job: impl FnOnce(&Database) -> Result<T, DiskError>) -> Result<T, DiskError> {
        // A commit that writes the file's header blocks readers that begin.
        self.refuse_stalled()?;
        let result = {
            let database = self.0.shared.database.get();
            let Some(database) = database.as_ref().and_then(|database| database.as_ref()) else {
                return Err(DiskError::Closed(self.0.shared.wait()));
            };
            job(database)
        };
        if let Err(DiskError::Failed(error)) = &result
            && error::is_io(error)
            && !self.0.shared.suspect.swap(true, Ordering::Relaxed)
        {
            // Wakes the thread, which opens the file again.
            self.0.jobs.wake();
        }
        result
    }
}
