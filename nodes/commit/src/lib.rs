//! A file that is written by one thread: whatever has gathered while it committed the last time, in one commit.
//!
//! A commit waits for the disk; with many that write at the same time they share the wait. The thread outlives I/O
//! errors, after which it opens the file again, and panics of what it is given to do.

mod error;
mod group;
#[cfg(any(test, feature = "faulty"))]
mod manual;
mod opener;
mod writer;

#[cfg(test)]
mod tests;

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
pub use rantai_group_commit::Opener;
use rantai_group_commit::Queue;
#[cfg(any(test, feature = "faulty"))]
pub use rantai_group_commit::faulty;
use writer::{Jobs, Shared};

/// Jobs that may wait; whoever comes then waits for room.
const WAITING: usize = 4_096;

/// How long a commit may take before the disk counts as one that does not work.
const STALL: Duration = Duration::from_secs(10);

/// Makes the tables that are missing.
pub type Prepare = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// The handle of the file and of its thread, which end with the last of them.
#[derive(Clone, Debug)]
pub struct Committer(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    jobs: Arc<Queue<Jobs>>,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.jobs.close();
    }
}

impl Committer {
    /// Opens the file and starts the thread.
    ///
    /// # Errors
    ///
    /// Where the file cannot be opened, or there is no thread to be had.
    pub fn open(opener: Opener, prepare: Prepare) -> Result<Self, DiskError> {
        Self::open_with(opener, prepare, STALL)
    }

    fn open_with(opener: Opener, prepare: Prepare, stall: Duration) -> Result<Self, DiskError> {
        let committer = Self::without_thread(opener, prepare, stall)?;
        let Handle { jobs, shared, .. } = &*committer.0;
        writer::spawn(Arc::clone(jobs), Arc::downgrade(shared)).map_err(redb::Error::Io)?;
        Ok(committer)
    }

    fn without_thread(opener: Opener, prepare: Prepare, stall: Duration) -> Result<Self, DiskError> {
        let shared = Arc::new(Shared::open(opener, prepare, stall)?);
        let (jobs, room) = (Arc::new(Queue::default()), Arc::new(Semaphore::new(WAITING)));
        Ok(Self(Arc::new(Handle { jobs, room, shared })))
    }

    /// Does the job in the next commit, and waits until that is on disk. Cancelled, the job may be done all the
    /// same. The job is run again where another of the same commit fails.
    ///
    /// # Errors
    ///
    /// Where the job fails or panics, or the disk fails: then nothing of it is written, unless the error is
    /// [`DiskError::Unknown`]. What is given to a disk that does not answer for 10 s waits until it does; what comes then is
    /// refused.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnMut(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, DiskError> {
        self.write_and(job, |_| ()).await
    }

    /// As [`write`](Self::write), and calls `after` with what became of it before anybody is told: on the thread that
    /// writes, and also where this is cancelled. For what is kept in memory of what is on disk; must not block.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
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

    /// As [`write`](Self::write), and again for as long as the disk does not work: for what has happened already and
    /// must not be forgotten.
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

    /// As [`write`](Self::write); blocks.
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

    /// Refuses where the disk does not answer, also writes that the thread has not begun with: whoever comes next notices,
    /// for the thread itself waits.
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

    /// Reads what was committed. Blocks on the disk, but not on a file that is being opened again, nor on a disk that has
    /// not answered for 10 s.
    ///
    /// # Errors
    ///
    /// What the database says, [`DiskError::Closed`] and [`DiskError::Stalled`].
    pub fn read<T>(&self, job: impl FnOnce(&Database) -> Result<T, DiskError>) -> Result<T, DiskError> {
        // A commit that writes the file's header holds up whoever begins to read.
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
            // The thread opens it again.
            self.0.jobs.wake();
        }
        result
    }
}
