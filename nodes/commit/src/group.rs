//! Jobs that share a commit, and the commit itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use tokio::sync::OwnedSemaphorePermit;

use super::error::{DiskError, is_io};

/// Number of commits, which tells after a failure whether the last one is on disk.
pub(super) const COMMITS: TableDefinition<'static, (), u64> = TableDefinition::new("commits");

/// Write, with a callback for its result.
pub(super) trait Job: Send {
    /// Runs the write, and keeps its value until the commit; replaces the value of an earlier run.
    fn run(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error>;

    /// Passes the value of the last run, or the error, to the callback.
    fn tell(self: Box<Self>, result: Result<(), DiskError>);
}

pub(super) struct Write<J, T, F> {
    job: J,
    value: Option<T>,
    told: F,
    place: Option<OwnedSemaphorePermit>,
}

impl<J, T, F> Write<J, T, F> {
    pub(super) fn new(place: Option<OwnedSemaphorePermit>, job: J, told: F) -> Self {
        Self { job, value: None, told, place }
    }
}

impl<J, T, F> Job for Write<J, T, F>
where
    J: FnMut(&WriteTransaction) -> Result<T, redb::Error> + Send,
    T: Send,
    F: FnOnce(Result<T, DiskError>) + Send,
{
    fn run(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        self.value = Some((self.job)(transaction)?);
        Ok(())
    }

    fn tell(self: Box<Self>, result: Result<(), DiskError>) {
        let Self { value, told, place, .. } = *self;
        // Released before the callback, so that a woken writer finds the place free.
        drop(place);
        told(result.map(|()| value.expect("a job that was committed has run")));
    }
}

/// Error of committing a group. Nothing of the group is on disk, except in the case of `Commit`.
#[derive(Debug)]
pub(super) enum Failure {
    /// One job failed by itself, and the database is unchanged.
    Job(usize, redb::Error),
    /// One job panicked. The database has to be opened again, as the panic may have left the transaction inconsistent.
    Panicked(usize),
    /// The database failed before the commit.
    Database(redb::Error),
    /// The commit with this number failed; it may be on disk.
    Commit(u64, redb::Error),
}

/// Runs all jobs in one transaction, and commits it.
pub(super) fn commit(database: &Database, group: &mut [Box<dyn Job>]) -> Result<(), Failure> {
    let transaction = database.begin_write().map_err(|error| Failure::Database(error.into()))?;
    for (index, job) in group.iter_mut().enumerate() {
        match catch_unwind(AssertUnwindSafe(|| job.run(&transaction))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) if is_io(&error) => return Err(Failure::Database(error)),
            Ok(Err(error)) => {
                transaction.abort().map_err(|error| Failure::Database(error.into()))?;
                return Err(Failure::Job(index, error));
            }
            Err(_) => return Err(Failure::Panicked(index)),
        }
    }
    let number = count(&transaction).map_err(Failure::Database)?;
    transaction.commit().map_err(|error| Failure::Commit(number, error.into()))
}

fn count(transaction: &WriteTransaction) -> Result<u64, redb::Error> {
    let mut commits = transaction.open_table(COMMITS)?;
    let number = commits.get(())?.map_or(0, |number| number.value()) + 1;
    commits.insert((), number)?;
    Ok(number)
}

/// Returns the number of the last commit that is on disk.
pub(super) fn last(database: &Database) -> Result<u64, redb::Error> {
    match database.begin_read()?.open_table(COMMITS) {
        Ok(commits) => Ok(commits.get(())?.map_or(0, |number| number.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
