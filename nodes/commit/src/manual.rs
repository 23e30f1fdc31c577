//! Commits without a thread, for simulations in virtual time: one happens when the simulation says so.

use std::sync::{Arc, Weak};

use rantai_group_commit::{Opener, Queue};

use super::writer::{Jobs, Shared, Told, Writer};
use super::{Committer, DiskError, Prepare, STALL};

/// Commits of a [`Committer`] that has no thread. Dropped, what waits is never written, as after kill -9.
pub struct Commits {
    jobs: Arc<Queue<Jobs>>,
    shared: Weak<Shared>,
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
    /// Where the file cannot be opened.
    pub fn open_manual(opener: Opener, prepare: Prepare) -> Result<(Self, Commits), DiskError> {
        let committer = Self::without_thread(opener, prepare, STALL)?;
        let (jobs, shared) = (Arc::clone(&committer.0.jobs), Arc::downgrade(&committer.0.shared));
        Ok((committer, Commits { jobs, shared, writer: Writer::new() }))
    }
}

impl Commits {
    /// Commits what waits, and tells its writers. Returns the number of jobs.
    pub fn commit(&mut self) -> usize {
        let told = self.write();
        tell(told, None)
    }

    /// Commits what waits, and tells its writers `error` all the same. Returns the number of jobs.
    pub fn commit_but_tell(&mut self, error: &DiskError) -> usize {
        let told = self.write();
        tell(told, Some(error))
    }

    /// Drops what waits, and tells its writers `error`. Returns the number of jobs.
    pub fn refuse(&mut self, error: &DiskError) -> usize {
        let told = self.jobs.withdraw().into_iter().map(|job| (job, Ok(()))).collect();
        tell(told, Some(error))
    }

    fn write(&mut self) -> Told {
        let group = self.jobs.withdraw();
        match self.shared.upgrade() {
            Some(shared) if !group.is_empty() => self.writer.write(&shared, group),
            _ => Told::new(),
        }
    }
}

fn tell(told: Told, instead: Option<&DiskError>) -> usize {
    let jobs = told.len();
    for (job, result) in told {
        job.tell(instead.map_or(result, |error| Err(error.clone())));
    }
    jobs
}
