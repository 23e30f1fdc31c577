//! All tasks on disk. What is read from here is what was committed.

use std::path::Path;
use std::sync::Arc;

use redb::backends::InMemoryBackend;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use uuid::Uuid;

use super::task::{State, Task};
use crate::commit::{Committer, DiskError};

const TASKS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("tasks");
const KEYS: TableDefinition<'static, &str, &[u8; 16]> = TableDefinition::new("keys");
/// When they ended, and which.
const ENDED: TableDefinition<'static, (u64, &[u8; 16]), ()> = TableDefinition::new("ended");
/// What the ledger is called on the bus, which has to stay the same: requests are recognised by it too.
const NAME: TableDefinition<'static, (), &str> = TableDefinition::new("name");

#[derive(Debug)]
pub(super) struct Store {
    database: Arc<Database>,
    committer: Committer,
}

/// What a submission came to.
#[derive(Debug, PartialEq)]
pub(super) enum Stored {
    New,
    /// Its key was taken by this one.
    Before(Box<Task>),
    Full,
}

impl Store {
    pub(super) fn open(file: Option<&Path>) -> Result<Self, DiskError> {
        let database = match file {
            Some(file) => Database::create(file)?,
            None => Database::builder().create_with_backend(InMemoryBackend::new())?,
        };
        let transaction = database.begin_write()?;
        transaction.open_table(TASKS)?;
        transaction.open_table(KEYS)?;
        transaction.open_table(ENDED)?;
        transaction.open_table(NAME)?;
        transaction.commit()?;
        let database = Arc::new(database);
        let committer = Committer::start(&database).map_err(redb::Error::Io)?;
        Ok(Self { database, committer })
    }

    /// The name it was given first.
    pub(super) async fn name(&self, new: String) -> Result<String, DiskError> {
        self.committer
            .write(move |transaction| {
                let mut names = transaction.open_table(NAME)?;
                if let Some(name) = names.get(())? {
                    return Ok(name.value().to_owned());
                }
                names.insert((), &*new)?;
                Ok(new)
            })
            .await
    }

    /// Stores a new task, unless its key is taken or there are `most` already.
    pub(super) async fn submit(&self, task: Task, most: u64) -> Result<Stored, DiskError> {
        self.committer.write(move |transaction| submit(transaction, &task, most)).await
    }

    /// Stores a task as it is now, unless it has ended meanwhile; whether it was stored.
    pub(super) async fn update(&self, task: Task) -> Result<bool, DiskError> {
        self.change(task.uuid(), move |stored| (!stored.state.is_ended()).then_some(task))
            .await
            .map(|changed| changed.is_some())
    }

    /// Changes a task: `change` gets it as it is, and gives it as it is to be. What it is then; nothing where it
    /// is not known or not to be changed.
    pub(super) async fn change(
        &self,
        id: Uuid,
        change: impl FnOnce(Task) -> Option<Task> + Send + 'static,
    ) -> Result<Option<Task>, DiskError> {
        self.committer
            .write(move |transaction| {
                let mut tasks = transaction.open_table(TASKS)?;
                let stored = tasks.get(id.as_bytes())?.and_then(|bytes| read(bytes.value()));
                let Some(task) = stored.and_then(change) else { return Ok(None) };
                tasks.insert(id.as_bytes(), &*write(&task))?;
                if let Some(ended) = task.ended_ms {
                    transaction.open_table(ENDED)?.insert((ended, id.as_bytes()), ())?;
                }
                Ok(Some(task))
            })
            .await
    }

    /// Forgets tasks that ended before `before`, a thousand at most; how many.
    pub(super) async fn forget(&self, before: u64) -> Result<usize, DiskError> {
        self.committer
            .write(move |transaction| {
                let mut ended = transaction.open_table(ENDED)?;
                let mut tasks = transaction.open_table(TASKS)?;
                let mut keys = transaction.open_table(KEYS)?;
                let mut old = Vec::new();
                for entry in ended.range(..(before, &[0; 16]))?.take(1_000) {
                    let (key, _) = entry?;
                    let (when, id) = key.value();
                    old.push((when, *id));
                }
                for (when, id) in &old {
                    ended.remove((*when, id))?;
                    let stored = tasks.get(id)?.and_then(|bytes| read(bytes.value()));
                    // It may have been taken up again since.
                    let Some(task) = stored.filter(|task| task.ended_ms == Some(*when)) else { continue };
                    tasks.remove(id)?;
                    if let Some(key) = &task.options.key {
                        keys.remove(&**key)?;
                    }
                }
                Ok(old.len())
            })
            .await
    }

    pub(super) fn get(&self, id: Uuid) -> Result<Option<Task>, DiskError> {
        let tasks = self.database.begin_read()?.open_table(TASKS)?;
        Ok(tasks.get(id.as_bytes())?.and_then(|bytes| read(bytes.value())))
    }

    /// Tasks behind `after`, the oldest first, as far as `wanted` says.
    pub(super) fn list(
        &self,
        after: Option<Uuid>,
        most: usize,
        wanted: impl Fn(&Task) -> bool,
    ) -> Result<Vec<Task>, DiskError> {
        let tasks = self.database.begin_read()?.open_table(TASKS)?;
        let from = after.map_or(0, |id| id.as_u128().saturating_add(1)).to_be_bytes();
        let mut found = Vec::new();
        for entry in tasks.range::<&[u8; 16]>(&from..)? {
            if let Some(task) = read(entry?.1.value()).filter(&wanted) {
                found.push(task);
            }
            if found.len() >= most {
                break;
            }
        }
        Ok(found)
    }
}

fn submit(transaction: &WriteTransaction, task: &Task, most: u64) -> Result<Stored, redb::Error> {
    let mut tasks = transaction.open_table(TASKS)?;
    if let Some(key) = &task.options.key {
        let mut keys = transaction.open_table(KEYS)?;
        let known = keys.get(&**key)?.map(|id| *id.value());
        let known = known.map(|id| tasks.get(&id)).transpose()?.flatten();
        if let Some(known) = known.and_then(|bytes| read(bytes.value())) {
            return Ok(Stored::Before(Box::new(known)));
        }
        keys.insert(&**key, task.uuid().as_bytes())?;
    }
    if tasks.len()? >= most {
        return Ok(Stored::Full);
    }
    tasks.insert(task.uuid().as_bytes(), &*write(task))?;
    Ok(Stored::New)
}

fn write(task: &Task) -> Vec<u8> {
    serde_json::to_vec(task).expect("a task is JSON")
}

fn read(bytes: &[u8]) -> Option<Task> {
    let read = serde_json::from_slice(bytes);
    read.inspect_err(|error| tracing::error!("a task that cannot be read is passed over: {error}")).ok()
}

/// Whether a task is still to be carried out.
pub(super) fn is_open(task: &Task) -> bool {
    matches!(task.state, State::Queued | State::Retrying | State::Running)
}

#[cfg(test)]
mod tests {
    use super::super::task::Options;
    use super::*;
    use serde_json::json;

    fn task(key: Option<&str>) -> Task {
        let options = Options { key: key.map(ToOwned::to_owned), ..Options::default() };
        Task::new("pages", "add", json!([1, 2]), options, 1_000).expect("a task")
    }

    #[tokio::test]
    async fn tasks_outlive_the_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("tasks.redb");
        let first = task(None);
        {
            let store = Store::open(Some(&file)).expect("a store");
            assert_eq!(store.name("one".to_owned()).await.expect("kept"), "one");
            assert_eq!(store.submit(first.clone(), 10).await.expect("stored"), Stored::New);
        }
        // The thread that writes ends with the last handle, in its own time.
        let store = loop {
            match Store::open(Some(&file)) {
                Ok(store) => break store,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        };
        assert_eq!(store.name("another".to_owned()).await.expect("kept"), "one");
        assert_eq!(store.get(first.uuid()).expect("read"), Some(first));
    }

    #[tokio::test]
    async fn one_key_is_one_task_until_it_is_forgotten() {
        let store = Store::open(None).expect("a store");
        let first = task(Some("daily"));
        assert_eq!(store.submit(first.clone(), 2).await.expect("stored"), Stored::New);
        let before = store.submit(task(Some("daily")), 2).await.expect("stored");
        assert_eq!(before, Stored::Before(Box::new(first.clone())));
        assert_eq!(store.submit(task(None), 2).await.expect("stored"), Stored::New);
        assert_eq!(store.submit(task(None), 2).await.expect("refused"), Stored::Full);
        let end = |mut task: Task| {
            task.end(State::Succeeded, 5_000);
            Some(task)
        };
        assert!(store.change(first.uuid(), end).await.expect("stored").is_some());
        assert!(!store.update(first.clone()).await.expect("stored"), "what has ended has ended");
        assert_eq!(store.forget(5_000).await.expect("nothing yet"), 0);
        assert_eq!(store.forget(5_001).await.expect("forgotten"), 1);
        assert_eq!(store.get(first.uuid()).expect("read"), None);
        assert_eq!(store.submit(task(Some("daily")), 2).await.expect("stored"), Stored::New);
        assert_eq!(store.list(None, 10, is_open).expect("read").len(), 2);
    }
}
