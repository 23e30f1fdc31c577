//! Which tasks are whose, so that what one user asks for costs nothing for the tasks of others.

use redb::{
    ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};
use uuid::Uuid;

use super::{DiskError, Store, TASKS, read};
use crate::task::Task;

/// A user and a task of theirs; what belongs to nobody stands under the empty name, which no user has.
const OWNED: TableDefinition<'static, (&str, &[u8; 16]), ()> = TableDefinition::new("owned");

/// Makes the table where a file has none, and makes it again where an earlier version has written the file meanwhile.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let mut owned = transaction.open_table(OWNED)?;
    let tasks = transaction.open_table(TASKS)?;
    if owned.len()? == tasks.len()? {
        return Ok(());
    }
    owned.retain(|_, ()| false)?;
    for entry in tasks.iter()? {
        let (id, bytes) = entry?;
        // What cannot be read stands there, too, or the tables would never agree.
        let user = read(bytes.value()).and_then(|task| task.user).unwrap_or_default();
        owned.insert((&*user, id.value()), ())?;
    }
    Ok(())
}

/// Notes whose a new task is.
pub(super) fn insert(transaction: &WriteTransaction, task: &Task) -> Result<(), redb::Error> {
    let user = task.user.as_deref().unwrap_or_default();
    transaction.open_table(OWNED)?.insert((user, task.uuid().as_bytes()), ())?;
    Ok(())
}

/// Forgets whose a task was.
pub(super) fn remove(transaction: &WriteTransaction, task: &Task) -> Result<(), redb::Error> {
    let user = task.user.as_deref().unwrap_or_default();
    transaction.open_table(OWNED)?.remove((user, task.uuid().as_bytes()))?;
    Ok(())
}

impl Store {
    /// As [`list`](Self::list), of one user's tasks, or of those that belong to nobody. Reads no others.
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

    /// The ids of a user's tasks, and how many tasks were looked at.
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
    async fn only_the_tasks_of_one_user_are_looked_at() {
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
        // As when the file is opened.
        store.committer.write(prepare).await.expect("prepared");
        assert_eq!(listed(&store, Some("ada")), (vec![old.id], 1));
        assert_eq!(listed(&store, None), (vec![], 0));
    }
}
