//! Jobs that share a commit, and the commit itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use tokio::sync::OwnedSemaphorePermit;

use super::error::{DiskError, is_io};

/// Number of commits; after a failure it says whether the last one is on disk.
const COMMITS: TableDefinition<'static, (), u64> = TableDefinition::new("commits");

/// A write and whoever waits for it.
pub(super) trait Job: Send {
    /// Writes, and keeps the value until the commit; replaces that of an earlier run.
    fn run(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error>;

    /// Hands over the value of the last run, or why there is none.
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
        // The place is free before whoever waits goes on.
        drop(place);
        told(result.map(|()| value.expect("a job that was committed has run")));
    }
}

/// Error of committing a group. Nothing of it is on disk, except as `Commit` says.
#[derive(Debug)]
pub(super) enum Failure {
    /// One job failed by itself, and the database is as it was before.
    Job(usize, redb::Error),
    /// One job panicked. The database has to be opened again: the panic may have left it half changed.
    Panicked(usize),
    /// The database failed before the commit.
    Database(redb::Error),
    /// The commit with this number failed: it may be on disk or not.
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

/// The number of the last commit that is on disk.
pub(super) fn last(database: &Database) -> Result<u64, redb::Error> {
    match database.begin_read()?.open_table(COMMITS) {
        Ok(commits) => Ok(commits.get(())?.map_or(0, |number| number.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
