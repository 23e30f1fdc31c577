//! All tasks on disk. What is read from here is what was committed.

mod schedules;

use std::path::Path;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use uuid::Uuid;

use super::task::{State, Task};
use rantai_commit::{self as commit, Committer, DiskError, Opener};

const TASKS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("tasks");
const KEYS: TableDefinition<'static, &str, &[u8; 16]> = TableDefinition::new("keys");
/// When they ended, and which.
const ENDED: TableDefinition<'static, (u64, &[u8; 16]), ()> = TableDefinition::new("ended");
/// A task, and one that comes after it and has not ended.
const BEFORE: TableDefinition<'static, (&[u8; 16], &[u8; 16]), ()> = TableDefinition::new("before");
/// What the ledger is called on the bus, which has to stay the same: requests are recognised by it too.
const NAME: TableDefinition<'static, (), &str> = TableDefinition::new("name");

/// The database of the ledger; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Store {
    committer: Committer,
}

/// What a submission came to.
#[derive(Debug, PartialEq)]
pub(super) enum Submitted {
    /// Each of the tasks, in their order.
    Stored(Vec<Stored>),
    /// One of them comes after this one, which is not known.
    Unknown(String),
    /// The key of one of them belongs to this task, which is another call.
    Reused {
        /// Which key.
        key: String,
        /// Whose it is.
        id: String,
    },
    Full,
}

/// What one task of a submission came to.
#[derive(Debug, PartialEq)]
pub(super) enum Stored {
    New(Task),
    /// Its key was taken by this one.
    Before(Task),
}

impl Stored {
    pub(super) fn task(&self) -> &Task {
        match self {
            Self::New(task) | Self::Before(task) => task,
        }
    }
}

impl Store {
    pub(super) fn open(file: Option<&Path>) -> Result<Self, DiskError> {
        Self::open_with(file.map_or_else(commit::memory, commit::file))
    }

    /// On a storage of one's own.
    pub(super) fn open_with(opener: Opener) -> Result<Self, DiskError> {
        Ok(Self { committer: Committer::open(opener, prepare)? })
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
                Ok(new.clone())
            })
            .await
    }

    /// Stores new tasks, all or none: none where there is no room for all below `most`. `#0` in what one of them
    /// comes after is the first of them.
    pub(super) async fn submit(&self, tasks: Vec<Task>, most: u64) -> Result<Submitted, DiskError> {
        self.committer.write(move |transaction| submit(transaction, &tasks, most)).await
    }

    /// Stores a task as it is now, unless it has ended meanwhile, or has been taken up again after that; whether it
    /// was stored.
    pub(super) async fn update(&self, task: Task) -> Result<bool, DiskError> {
        let id = task.uuid();
        let change = move |stored: Task| {
            let same = !stored.state.is_ended() && stored.forgiven == task.forgiven;
            same.then(|| task.clone())
        };
        self.change(id, change).await.map(|changed| changed.is_some())
    }

    /// Changes a task: `change` gets it as it is, and gives it as it is to be. What it is then; nothing where it
    /// is not known or not to be changed.
    pub(super) async fn change(
        &self,
        id: Uuid,
        change: impl Fn(Task) -> Option<Task> + Clone + Send + 'static,
    ) -> Result<Option<Task>, DiskError> {
        self.committer
            .write(move |transaction| {
                let mut tasks = transaction.open_table(TASKS)?;
                let stored = tasks.get(id.as_bytes())?.and_then(|bytes| read(bytes.value()));
                let was_open = stored.as_ref().is_some_and(is_open);
                let Some(task) = stored.and_then(&change) else { return Ok(None) };
                tasks.insert(id.as_bytes(), &*write(&task))?;
                if is_open(&task) != was_open {
                    hold(transaction, &task)?;
                }
                if let Some(ended) = task.ended_ms {
                    transaction.open_table(ENDED)?.insert((ended, id.as_bytes()), ())?;
                }
                Ok(Some(task))
            })
            .await
    }

    /// Forgets tasks that ended before `before`, a thousand at most; how many. One that another waits for, or may
    /// be given the result of, stays.
    pub(super) async fn forget(&self, before: u64) -> Result<usize, DiskError> {
        self.committer
            .write(move |transaction| {
                let mut ended = transaction.open_table(ENDED)?;
                let mut tasks = transaction.open_table(TASKS)?;
                let mut keys = transaction.open_table(KEYS)?;
                let held = transaction.open_table(BEFORE)?;
                let mut old = Vec::new();
                for entry in ended.range(..(before, &[0; 16]))? {
                    let (key, _) = entry?;
                    let (when, id) = key.value();
                    if held.range((id, &[0; 16])..=(id, &[0xFF; 16]))?.next().is_none() {
                        old.push((when, *id));
                    }
                    if old.len() >= 1_000 {
                        break;
                    }
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
        self.committer.read(|database| {
            let tasks = database.begin_read()?.open_table(TASKS)?;
            Ok(tasks.get(id.as_bytes())?.and_then(|bytes| read(bytes.value())))
        })
    }

    /// Tasks behind `after`, the oldest first, as far as `wanted` says.
    pub(super) fn list(
        &self,
        after: Option<Uuid>,
        most: usize,
        wanted: impl Fn(&Task) -> bool,
    ) -> Result<Vec<Task>, DiskError> {
        self.committer.read(|database| {
            let tasks = database.begin_read()?.open_table(TASKS)?;
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
        })
    }
}

fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(TASKS)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(ENDED)?;
    transaction.open_table(NAME)?;
    transaction.open_table(BEFORE)?;
    transaction.open_table(schedules::SCHEDULES)?;
    Ok(())
}

fn submit(transaction: &WriteTransaction, new: &[Task], most: u64) -> Result<Submitted, redb::Error> {
    let mut tasks = transaction.open_table(TASKS)?;
    let mut keys = transaction.open_table(KEYS)?;
    // Whatever else is in this commit stays: nothing is written before it is known that all of it can be.
    let mut stored: Vec<Stored> = Vec::with_capacity(new.len());
    for task in new {
        let mut task = task.clone();
        let known = match &task.options.key {
            Some(key) => {
                let id = keys.get(&**key)?.map(|id| *id.value());
                let known = id.map(|id| tasks.get(&id)).transpose()?.flatten();
                let among =
                    || stored.iter().map(Stored::task).find(|other| other.options.key == task.options.key);
                known.and_then(|bytes| read(bytes.value())).or_else(|| among().cloned())
            }
            None => None,
        };
        if let Some(known) = known {
            if !known.is_same_call(&task) {
                let key = task.options.key.unwrap_or_default();
                return Ok(Submitted::Reused { key, id: known.id });
            }
            stored.push(Stored::Before(known));
            continue;
        }
        for before in &mut task.options.after {
            let among = before.strip_prefix('#').and_then(|index| stored.get(index.parse::<usize>().ok()?));
            if let Some(among) = among {
                before.clone_from(&among.task().id);
                continue;
            }
            let id = Uuid::try_parse(before).unwrap_or_default();
            if tasks.get(id.as_bytes())?.is_none() {
                return Ok(Submitted::Unknown(before.clone()));
            }
        }
        stored.push(Stored::New(task));
    }
    let more = stored.iter().filter(|one| matches!(one, Stored::New(_))).count() as u64;
    if more > 0 && tasks.len()?.saturating_add(more) > most {
        return Ok(Submitted::Full);
    }
    for one in &stored {
        let Stored::New(task) = one else { continue };
        if let Some(key) = &task.options.key {
            keys.insert(&**key, task.uuid().as_bytes())?;
        }
        tasks.insert(task.uuid().as_bytes(), &*write(task))?;
        hold(transaction, task)?;
    }
    Ok(Submitted::Stored(stored))
}

/// What an open task comes after is held for it, and let go when it has ended.
fn hold(transaction: &WriteTransaction, task: &Task) -> Result<(), redb::Error> {
    if task.options.after.is_empty() {
        return Ok(());
    }
    let mut held = transaction.open_table(BEFORE)?;
    for before in task.before() {
        let pair = (before.as_bytes(), task.uuid());
        if is_open(task) {
            held.insert((pair.0, pair.1.as_bytes()), ())?;
        } else {
            held.remove((pair.0, pair.1.as_bytes()))?;
        }
    }
    Ok(())
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
    use super::super::options::Options;
    use super::*;
    use serde_json::json;

    fn task(key: Option<&str>) -> Task {
        let options = Options { key: key.map(ToOwned::to_owned), ..Options::default() };
        Task::new(Uuid::now_v7(), "pages", "add", json!([1, 2]), options, 1_000).expect("a task")
    }

    #[tokio::test]
    async fn tasks_outlive_the_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("tasks.redb");
        let first = task(None);
        {
            let store = Store::open(Some(&file)).expect("a store");
            assert_eq!(store.name("one".to_owned()).await.expect("kept"), "one");
            let stored = store.submit(vec![first.clone()], 10).await.expect("stored");
            assert_eq!(stored, Submitted::Stored(vec![Stored::New(first.clone())]));
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
        let one = async |task: Task| store.submit(vec![task], 2).await.expect("an answer");
        assert_eq!(one(first.clone()).await, Submitted::Stored(vec![Stored::New(first.clone())]));
        assert_eq!(one(task(Some("daily"))).await, Submitted::Stored(vec![Stored::Before(first.clone())]));
        assert!(matches!(one(task(None)).await, Submitted::Stored(_)));
        assert_eq!(one(task(None)).await, Submitted::Full);
        let end = |mut task: Task| {
            task.end(State::Succeeded, 5_000);
            Some(task)
        };
        assert!(store.change(first.uuid(), end).await.expect("stored").is_some());
        assert!(!store.update(first.clone()).await.expect("stored"), "what has ended has ended");
        assert_eq!(store.forget(5_000).await.expect("nothing yet"), 0);
        assert_eq!(store.forget(5_001).await.expect("forgotten"), 1);
        assert_eq!(store.get(first.uuid()).expect("read"), None);
        assert!(
            matches!(&one(task(Some("daily"))).await, Submitted::Stored(s) if matches!(s[0], Stored::New(_)))
        );
        assert_eq!(store.list(None, 10, is_open).expect("read").len(), 2);
    }

    #[tokio::test]
    async fn a_key_that_is_met_with_another_call_stores_nothing() {
        let store = Store::open(None).expect("a store");
        let first = task(Some("daily"));
        assert!(matches!(store.submit(vec![first.clone()], 9).await, Ok(Submitted::Stored(_))));
        let other = || {
            let options = Options { key: Some("daily".to_owned()), ..Options::default() };
            Task::new(Uuid::now_v7(), "pages", "add", json!([1, 3]), options, 1_000).expect("a task")
        };
        let reused = Submitted::Reused { key: "daily".to_owned(), id: first.id.clone() };
        assert_eq!(store.submit(vec![task(None), other()], 9).await.expect("an answer"), reused);
        let again =
            || Task { options: Options { retries: 7, ..first.options.clone() }, ..task(Some("daily")) };
        let stored = Submitted::Stored(vec![Stored::Before(first.clone())]);
        assert_eq!(store.submit(vec![again()], 9).await.expect("an answer"), stored, "options may differ");
        let both = |key: &str| {
            let keyed = |mut task: Task| {
                task.options.key = Some(key.to_owned());
                task
            };
            vec![keyed(task(None)), keyed(other())]
        };
        let among = store.submit(both("weekly"), 9).await.expect("an answer");
        assert!(matches!(among, Submitted::Reused { key, .. } if key == "weekly"), "in one submission");
        assert_eq!(store.list(None, 10, is_open).expect("read"), [first]);
    }

    #[tokio::test]
    async fn what_was_taken_up_again_is_not_ended_by_a_run_before() {
        let store = Store::open(None).expect("a store");
        let mut run = task(None);
        assert!(matches!(store.submit(vec![run.clone()], 2).await, Ok(Submitted::Stored(_))));
        (run.state, run.runs) = (State::Running, 1);
        assert!(store.update(run.clone()).await.expect("stored"));
        let change = async |change: fn(&mut Task)| {
            let changed = move |mut task: Task| {
                change(&mut task);
                Some(task)
            };
            store.change(run.uuid(), changed).await.expect("stored").expect("known")
        };
        change(|task| task.end(State::Cancelled, 5_000)).await;
        let again = change(|task| task.take_up(5_500)).await;
        assert_eq!((again.state, again.runs, again.ended_ms), (State::Queued, 1, None));
        run.end(State::Succeeded, 6_000);
        assert!(!store.update(run.clone()).await.expect("an answer"), "that run was given up");
        assert_eq!(store.get(run.uuid()).expect("read"), Some(again));
    }

    #[tokio::test]
    async fn what_is_stored_together_is_stored_as_a_whole() {
        let store = Store::open(None).expect("a store");
        let after = |before: &str| {
            let options = Options { after: vec![before.to_owned()], ..Options::default() };
            Task::new(Uuid::now_v7(), "pages", "add", json!([1, 2]), options, 1_000).expect("a task")
        };
        let all = async |tasks: Vec<Task>| store.submit(tasks, 3).await.expect("an answer");
        let nobody = Uuid::new_v4().simple().to_string();
        assert_eq!(all(vec![task(None), after(&nobody)]).await, Submitted::Unknown(nobody));
        assert_eq!(all(vec![after("#0"), task(None)]).await, Submitted::Unknown("#0".to_owned()));
        assert_eq!(all((0..4).map(|_| task(Some("k"))).collect()).await, {
            let first = store.list(None, 1, is_open).expect("read").remove(0);
            let again = || Stored::Before(first.clone());
            Submitted::Stored(vec![Stored::New(first.clone()), again(), again(), again()])
        });
        assert_eq!(all(vec![task(None), after("#0"), task(None)]).await, Submitted::Full);
        assert_eq!(store.list(None, 10, is_open).expect("read").len(), 1, "nothing of what was refused");
        let Submitted::Stored(stored) = all(vec![task(None), after("#0")]).await else { panic!("stored") };
        assert_eq!(stored[1].task().options.after, [stored[0].task().id.clone()]);
    }

    #[tokio::test]
    async fn what_another_task_waits_for_is_not_forgotten() {
        let store = Store::open(None).expect("a store");
        let options = Options { after: vec!["#0".to_owned()], ..Options::default() };
        let second =
            Task::new(Uuid::now_v7(), "pages", "add", json!([1, 2]), options, 1_000).expect("a task");
        let stored = store.submit(vec![task(None), second], 3).await.expect("an answer");
        let Submitted::Stored(stored) = stored else { panic!("stored") };
        let end = async |stored: &Stored| {
            let end = |mut task: Task| {
                task.end(State::Succeeded, 5_000);
                Some(task)
            };
            store.change(stored.task().uuid(), end).await.expect("stored").expect("known");
        };
        end(&stored[0]).await;
        assert_eq!(store.forget(9_000).await.expect("nothing yet"), 0);
        assert!(store.get(stored[0].task().uuid()).expect("read").is_some());
        end(&stored[1]).await;
        assert_eq!(store.forget(9_000).await.expect("forgotten"), 2);
    }

    #[tokio::test]
    async fn tasks_are_stored_again_when_a_full_disk_has_room() {
        let directory = tempfile::tempdir().expect("a directory");
        let (opener, switch) = commit::faulty::file(&directory.path().join("tasks.redb"));
        let store = Store::open_with(opener).expect("a store");
        let before = task(None);
        store.submit(vec![before.clone()], 10).await.expect("stored");
        switch.full.store(true, std::sync::atomic::Ordering::Relaxed);
        let refused = store.submit(vec![task(Some("late"))], 10).await.expect_err("full");
        assert!(refused.is_retryable(), "{refused}");
        switch.full.store(false, std::sync::atomic::Ordering::Relaxed);
        let stored = loop {
            match store.submit(vec![task(Some("late"))], 10).await {
                Ok(stored) => break stored,
                Err(error) => tokio::time::sleep(error.retry_after()).await,
            }
        };
        let Submitted::Stored(stored) = stored else { panic!("stored") };
        assert_eq!(store.get(before.uuid()).expect("read"), Some(before));
        assert_eq!(
            store.list(None, 10, is_open).expect("read").len(),
            2,
            "nothing lost, nothing twice: {stored:?}"
        );
    }
}
