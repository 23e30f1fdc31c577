//! Commits without a thread, for simulations in virtual time: the simulation decides when a commit happens.

use std::sync::{Arc, Weak};

use rantai_group_commit::{Opener, Queue};

use super::writer::{JobResults, Jobs, Writer, WriterState};
use super::{Committer, DiskError, Prepare, STALL_TIMEOUT};

/// Commits of a [`Committer`] without a thread. When it is dropped, queued writes are lost, as after kill -9.
pub struct Commits {
    jobs: Arc<Queue<Jobs>>,
    shared: Weak<WriterState>,
    writer: Writer,
}

impl std::fmt::Debug for Commits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commits").finish_non_exhaustive()
    }
}

impl Committer {
    /// Opens the file without a thread: writes wait for [`Commits::commit`].
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open_manual(opener: Opener, prepare: Prepare) -> Result<(Self, Commits), DiskError> {
        let committer = Self::without_thread(opener, prepare, STALL_TIMEOUT)?;
        let (jobs, shared) = (Arc::clone(&committer.0.jobs), Arc::downgrade(&committer.0.shared));
        Ok((committer, Commits { jobs, shared, writer: Writer::new() }))
    }
}

impl Commits {
    /// Commits the queued jobs, and notifies their writers. Returns the number of jobs.
    pub fn commit(&mut self) -> usize {
        let told = self.write();
        tell(told, None)
    }

    /// Commits the queued jobs, but reports `error` to their writers. Returns the number of jobs.
    pub fn commit_but_tell(&mut self, error: &DiskError) -> usize {
        let told = self.write();
        tell(told, Some(error))
    }

    /// Drops the queued jobs, and reports `error` to their writers. Returns the number of jobs.
    pub fn refuse(&mut self, error: &DiskError) -> usize {
        let told = self.jobs.withdraw().into_iter().map(|job| (job, Ok(()))).collect();
        tell(told, Some(error))
    }

    fn write(&mut self) -> JobResults {
        let group = self.jobs.withdraw();
        match self.shared.upgrade() {
            Some(shared) if !group.is_empty() => self.writer.write(&shared, group),
            _ => JobResults::new(),
        }
    }
}

fn tell(told: JobResults, instead: Option<&DiskError>) -> usize {
    let jobs = told.len();
    for (job, result) in told {
        job.tell(instead.map_or(result, |error| Err(error.clone())));
    }
    jobs
}
