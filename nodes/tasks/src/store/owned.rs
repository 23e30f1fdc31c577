//! Index of the tasks by user, so that listing the tasks of one user does not read those of others.

use redb::{
    ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};
use uuid::Uuid;

use super::{DiskError, Store, TASKS, read};
use crate::task::Task;

/// User and id of each task; tasks without a user are under the empty name, which no user has. Either all tasks are in it, or
/// none, as long as none has a user: the index would cost a tenth of the time of a submission, and say nothing.
pub(super) const OWNED: TableDefinition<'static, (&str, &[u8; 16]), ()> = TableDefinition::new("owned");

/// Creates the index if a file has none, and creates it again if an earlier version has written the file since.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let tasks = transaction.open_table(TASKS)?;
    let mut owned = transaction.open_table(OWNED)?;
    if owned.len()? == tasks.len()? {
        return Ok(());
    }
    owned.retain(|_, ()| false)?;
    drop(owned);
    for entry in tasks.iter()? {
        if user(entry?.1.value()).is_some() {
            return fill(transaction, &tasks);
        }
    }
    Ok(())
}

/// Returns the user of a stored task.
fn user(bytes: &[u8]) -> Option<String> {
    read(bytes)?.user
}

/// Adds all tasks to the index, which is empty.
fn fill(
    transaction: &WriteTransaction,
    tasks: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
) -> Result<(), redb::Error> {
    let mut owned = transaction.open_table(OWNED)?;
    for entry in tasks.iter()? {
        let (id, bytes) = entry?;
        // Rows that cannot be read are included, or the tables would never agree.
        owned.insert((&*user(bytes.value()).unwrap_or_default(), id.value()), ())?;
    }
    Ok(())
}

/// Adds a new task, which is in `tasks` already, to the index.
pub(super) fn insert(
    transaction: &WriteTransaction,
    tasks: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    task: &Task,
) -> Result<(), redb::Error> {
    let mut owned = transaction.open_table(OWNED)?;
    if owned.is_empty()? {
        drop(owned);
        // The first task with a user: those before it have none.
        return if task.user.is_some() { fill(transaction, tasks) } else { Ok(()) };
    }
    let user = task.user.as_deref().unwrap_or_default();
    owned.insert((user, task.uuid().as_bytes()), ())?;
    Ok(())
}

/// Removes a task from the index.
pub(super) fn remove(transaction: &WriteTransaction, task: &Task) -> Result<(), redb::Error> {
    let mut owned = transaction.open_table(OWNED)?;
    if !owned.is_empty()? {
        owned.remove((task.user.as_deref().unwrap_or_default(), task.uuid().as_bytes()))?;
    }
    Ok(())
}

impl Store {
    /// Returns the tasks of one user, or those without a user, as [`list`](Self::list) does. Reads no others.
    pub(in super::super) fn list_of(
        &self,
        user: Option<&str>,
        after: Option<Uuid>,
        most: usize,
        wanted: impl Fn(&Task) -> bool,
    ) -> Result<Vec<Task>, DiskError> {
        let user = user.unwrap_or_default();
        self.committer.read(|database| {
            let transaction = database.begin_read()?;
            let (owned, tasks) = (transaction.open_table(OWNED)?, transaction.open_table(TASKS)?);
            let from = after.map_or(0, |id| id.as_u128().saturating_add(1)).to_be_bytes();
            let mut found = Vec::new();
            if owned.is_empty()? {
                // No task has a user.
                let none = user.is_empty().then(|| tasks.range::<&[u8; 16]>(&from..)).transpose()?;
                for entry in none.into_iter().flatten() {
                    if found.len() >= most {
                        break;
                    }
                    found.extend(read(entry?.1.value()).filter(&wanted));
                }
                return Ok(found);
            }
            for entry in owned.range((user, &from)..=(user, &[0xFF; 16]))? {
                if found.len() >= most {
                    break;
                }
                let (key, _) = entry?;
                let stored = tasks.get(key.value().1)?.and_then(|bytes| read(bytes.value()));
                found.extend(stored.filter(&wanted));
            }
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rantai_client::shares::ShareLimits;
    use serde_json::json;

    use super::super::{KeptLimits, write};
    use super::*;
    use crate::options::Options;
    use crate::owner::Submitter;
    use crate::task::State;

    const LIMITS: KeptLimits = KeptLimits {
        count: ShareLimits { limit: 99, per_caller: None },
        bytes: ShareLimits { limit: 1 << 20, per_caller: None },
    };

    fn task(user: Option<&str>) -> Task {
        let made = Task::new(Uuid::now_v7(), "pages", "add", json!([1]), Options::default(), 1_000);
        Task { user: user.map(ToOwned::to_owned), ..made.expect("a task") }
    }

    /// Returns the ids of a user's tasks, and the number of tasks that were read.
    fn listed(store: &Store, user: Option<&str>) -> (Vec<String>, usize) {
        let looked_at = Cell::new(0);
        let wanted = |_: &Task| {
            looked_at.set(looked_at.get() + 1);
            true
        };
        let tasks = store.list_of(user, None, 99, wanted).expect("read");
        (tasks.into_iter().map(|task| task.id).collect(), looked_at.get())
    }

    #[tokio::test]
    async fn listing_reads_the_tasks_of_one_user_only() {
        let store = Store::open(None).expect("a store");
        let (ada, bob, nobody) = (task(Some("ada")), task(Some("bob")), task(None));
        let more = task(Some("ada"));
        let all = vec![ada.clone(), bob.clone(), nobody.clone(), more.clone()];
        store.submit(all, Submitter::default(), LIMITS).await.expect("stored");
        assert_eq!(listed(&store, Some("ada")), (vec![ada.id.clone(), more.id.clone()], 2));
        assert_eq!(listed(&store, Some("bob")), (vec![bob.id], 1));
        assert_eq!(listed(&store, None), (vec![nobody.id], 1));
        assert_eq!(listed(&store, Some("ad")), (vec![], 0));
        let behind = store.list_of(Some("ada"), Some(ada.uuid()), 99, |_| true).expect("read");
        assert_eq!(behind.iter().map(|task| &task.id).collect::<Vec<_>>(), [&more.id]);
        let end = |mut task: Task| {
            task.end(State::Succeeded, 5_000);
            Some(task)
        };
        store.change(ada.uuid(), end).await.expect("stored");
        assert_eq!(store.forget(6_000).await.expect("forgotten"), 1);
        assert_eq!(listed(&store, Some("ada")), (vec![more.id], 1));
    }

    fn indexed(store: &Store) -> u64 {
        let rows = |database: &redb::Database| Ok(database.begin_read()?.open_table(OWNED)?.len()?);
        store.committer.read(rows).expect("read")
    }

    #[tokio::test]
    async fn index_is_empty_until_a_task_has_a_user() {
        let store = Store::open(None).expect("a store");
        let (one, other, ada) = (task(None), task(None), task(Some("ada")));
        let submit = async |task: &Task| {
            store.submit(vec![task.clone()], Submitter::default(), LIMITS).await.expect("stored");
        };
        submit(&one).await;
        submit(&other).await;
        assert_eq!(indexed(&store), 0);
        assert_eq!(listed(&store, None), (vec![one.id.clone(), other.id.clone()], 2));
        assert_eq!(listed(&store, Some("ada")), (vec![], 0));
        let behind = store.list_of(None, Some(one.uuid()), 99, |_| true).expect("read");
        assert_eq!(behind.iter().map(|task| &task.id).collect::<Vec<_>>(), [&other.id]);
        submit(&ada).await;
        assert_eq!(indexed(&store), 3);
        assert_eq!(listed(&store, None), (vec![one.id.clone(), other.id.clone()], 2));
        assert_eq!(listed(&store, Some("ada")), (vec![ada.id.clone()], 1));
        store.committer.write(prepare).await.expect("prepared");
        assert_eq!(indexed(&store), 3);
    }

    #[tokio::test]
    async fn tasks_that_an_earlier_version_stored_are_listed() {
        let store = Store::open(None).expect("a store");
        let old = task(Some("ada"));
        let row = write(&old);
        let id = old.uuid();
        let put = move |transaction: &WriteTransaction| {
            transaction.open_table(TASKS)?.insert(id.as_bytes(), &*row)?;
            Ok(())
        };
        store.committer.write(put).await.expect("stored");
        // Same as when the file is opened.
        store.committer.write(prepare).await.expect("prepared");
        assert_eq!(listed(&store, Some("ada")), (vec![old.id], 1));
        assert_eq!(listed(&store, None), (vec![], 0));
    }
}
