//! Storage of all tasks on disk. Reads return committed data only.

mod holdings;
mod keys;
mod owned;
mod results;
mod schedules;

use std::path::Path;
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use uuid::Uuid;

use super::owner::{Owner, Submitter};
use super::task::{State, Task};
pub(crate) use holdings::{Amount, Kept, KeptLimits};
use holdings::{Holdings, Reservation, Reserved, Room};
use rantai_commit::{self as commit, Committer, DiskError, Format, Layout, Opener, Order};

const TASKS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("tasks");
const KEYS: TableDefinition<'static, &str, &[u8; 16]> = TableDefinition::new("keys");
/// Ended tasks, by the time of their end, in milliseconds since 1970.
const ENDED: TableDefinition<'static, (u64, &[u8; 16]), ()> = TableDefinition::new("ended");
/// A task, and another one that depends on it and has not ended.
const BEFORE: TableDefinition<'static, (&[u8; 16], &[u8; 16]), ()> = TableDefinition::new("before");
/// Client id of the ledger on the bus. It must stay the same, because objects recognize repeated requests by it too.
const NAME: TableDefinition<'static, (), &str> = TableDefinition::new("name");

/// Tables of the ledger's file.
pub const LAYOUT: Layout = Layout {
    file: "tasks.redb",
    order: Order::Ledger,
    format: Format { current: 1, stored: None },
    tables: |tables| {
        tables.table(TASKS)?;
        tables.table(KEYS)?;
        tables.table(ENDED)?;
        tables.table(BEFORE)?;
        tables.table(NAME)?;
        tables.table(schedules::SCHEDULES)?;
        tables.table(owned::OWNED)?;
        commit::common_tables(tables)
    },
};

/// Database of the ledger; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Store {
    committer: Committer,
    holdings: Arc<Holdings>,
}

/// Result of a submission.
#[derive(Debug, PartialEq)]
pub(super) enum Submitted {
    /// The tasks, in the order of the calls.
    Stored(Vec<Stored>),
    /// The task with this id, a dependency, is not known.
    Unknown(String),
    /// The key of a call belongs to this task, which is another call.
    Reused {
        /// The key.
        key: String,
        /// Id of the task.
        id: String,
    },
    Full,
    /// The caller is over its share.
    OverShare,
}

/// Result of one call of a submission.
#[derive(Debug, PartialEq)]
pub(super) enum Stored {
    New(Task),
    /// The call was submitted before with its key, as this task.
    Before(Task),
}

impl Stored {
    fn into_task(self) -> Task {
        match self {
            Self::New(task) | Self::Before(task) => task,
        }
    }

    pub(super) fn task(&self) -> &Task {
        match self {
            Self::New(task) | Self::Before(task) => task,
        }
    }
}

impl Store {
    pub(super) fn open(file: Option<&Path>) -> Result<Self, DiskError> {
        match file {
            None => Self::open_with(commit::memory()),
            Some(file) => Self::of(Committer::open(commit::file(file), prepare)?.listed(file, &LAYOUT)),
        }
    }

    /// Opens the store on the storage of `opener`.
    pub(super) fn open_with(opener: Opener) -> Result<Self, DiskError> {
        Self::of(Committer::open(opener, prepare)?)
    }

    fn of(committer: Committer) -> Result<Self, DiskError> {
        let holdings = Arc::new(Holdings::default());
        committer.read(|database| {
            let transaction = database.begin_read()?;
            holdings.count(Kept::Tasks, &transaction.open_table(TASKS)?)?;
            Ok(holdings.count(Kept::Schedules, &transaction.open_table(schedules::SCHEDULES)?)?)
        })?;
        Ok(Self { committer, holdings })
    }

    /// Returns the amounts that all callers hold.
    pub(super) fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// Returns the stored client id; stores `new` if there is none.
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

    /// Stores new tasks, all or none: none if there is no room for all of them, or the caller would exceed its share.
    /// `#0` in the dependencies of one stands for the first of them.
    pub(super) async fn submit(
        &self,
        tasks: Vec<Task>,
        by: Submitter,
        limits: KeptLimits,
    ) -> Result<Submitted, DiskError> {
        let (holdings, reservation) = (self.holdings.clone(), Reservation::default());
        let reserved = reservation.clone();
        let job = move |transaction: &WriteTransaction| {
            reserved.clear();
            let (submitted, amount) = submit(transaction, &tasks, &by, &limits, &holdings)?;
            reserved.set(amount);
            Ok(submitted)
        };
        let after = move |result: &Result<Submitted, DiskError>| {
            if result.is_ok() {
                reservation.keep();
            }
        };
        self.committer.write_and(job, after).await
    }

    /// Stores the current state of a task, unless it has ended in the meantime, or was retried after that. Returns what
    /// was stored: if there is no room for its result, the task has failed instead.
    pub(super) async fn update(&self, task: Task, limits: KeptLimits) -> Result<Option<Task>, DiskError> {
        let id = task.uuid();
        let change = move |stored: Task| {
            let same = !stored.state.is_ended() && stored.forgiven == task.forgiven;
            same.then(|| Task { owner: stored.owner, ..task.clone() })
        };
        self.change_within(id, change, Some(limits)).await
    }

    /// Changes a task: `change` gets its current state, and returns the new one. Returns the new state; `None` if the
    /// task is not known or was not changed.
    pub(super) async fn change(
        &self,
        id: Uuid,
        change: impl Fn(Task) -> Option<Task> + Clone + Send + 'static,
    ) -> Result<Option<Task>, DiskError> {
        self.change_within(id, change, None).await
    }

    /// Same as [`change`](Self::change), within limits: a result without room is not kept.
    async fn change_within(
        &self,
        id: Uuid,
        change: impl Fn(Task) -> Option<Task> + Clone + Send + 'static,
        limits: Option<KeptLimits>,
    ) -> Result<Option<Task>, DiskError> {
        let (holdings, reservation) = (self.holdings.clone(), Reservation::default());
        let reserved = reservation.clone();
        let job = move |transaction: &WriteTransaction| {
            reserved.clear();
            let mut tasks = transaction.open_table(TASKS)?;
            let stored = tasks.get(id.as_bytes())?.and_then(|bytes| read(bytes.value()));
            let was_open = stored.as_ref().is_some_and(is_open);
            let Some(mut task) = stored.and_then(&change) else { return Ok(None) };
            reserved.set(results::count(&mut task, limits.as_ref(), &holdings));
            tasks.insert(id.as_bytes(), &*write(&task))?;
            if is_open(&task) != was_open {
                hold(transaction, &task)?;
            }
            if let Some(ended) = task.ended_ms {
                transaction.open_table(ENDED)?.insert((ended, id.as_bytes()), ())?;
            }
            Ok(Some(task))
        };
        let after = move |result: &Result<Option<Task>, DiskError>| {
            if result.is_ok() {
                reservation.keep();
            }
        };
        self.committer.write_and(job, after).await
    }

    /// Removes tasks that ended before `before`, a thousand at most; returns their number. A task that another one
    /// depends on is kept.
    pub(super) async fn forget(&self, before: u64) -> Result<usize, DiskError> {
        let holdings = self.holdings.clone();
        let job = move |transaction: &WriteTransaction| {
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
            let mut released = Vec::new();
            for (when, id) in &old {
                ended.remove((*when, id))?;
                let stored = tasks.get(id)?.and_then(|bytes| read(bytes.value()));
                // The task may have been retried since.
                let Some(task) = stored.filter(|task| task.ended_ms == Some(*when)) else { continue };
                tasks.remove(id)?;
                owned::remove(transaction, &task)?;
                for key in task.options.key.iter().flat_map(|key| keys::rows(task.user.as_deref(), key)) {
                    let is_its_own = keys.get(&*key)?.is_some_and(|kept| kept.value() == id);
                    if is_its_own {
                        keys.remove(&*key)?;
                    }
                }
                released.extend(task.owner);
            }
            Ok((old.len(), released))
        };
        let after = move |result: &Result<(usize, Vec<Owner>), DiskError>| {
            for owner in result.iter().flat_map(|(_, released)| released) {
                holdings.release(Kept::Tasks, owner);
            }
        };
        self.committer.write_and(job, after).await.map(|(forgotten, _)| forgotten)
    }

    pub(super) fn get(&self, id: Uuid) -> Result<Option<Task>, DiskError> {
        self.committer.read(|database| {
            let tasks = database.begin_read()?.open_table(TASKS)?;
            Ok(tasks.get(id.as_bytes())?.and_then(|bytes| read(bytes.value())))
        })
    }

    /// Returns up to `most` tasks after `after`, oldest first, for which `wanted` returns true.
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
    owned::prepare(transaction)
}

fn submit(
    transaction: &WriteTransaction,
    new: &[Task],
    by: &Submitter,
    limits: &KeptLimits,
    holdings: &Arc<Holdings>,
) -> Result<(Submitted, Option<Reserved>), redb::Error> {
    let refused = |submitted| Ok((submitted, None));
    let mut tasks = transaction.open_table(TASKS)?;
    let mut keys = transaction.open_table(KEYS)?;
    // Other jobs of this commit are kept, so nothing is written before it is known that all of it can be.
    let mut stored: Vec<Stored> = Vec::with_capacity(new.len());
    for task in new {
        let mut task = task.clone();
        let known = match &task.options.key {
            Some(key) => {
                let known = keys::find(&keys, &tasks, task.user.as_deref(), key)?;
                let among =
                    || stored.iter().map(Stored::task).find(|other| other.options.key == task.options.key);
                known.or_else(|| among().cloned())
            }
            None => None,
        };
        if let Some(known) = known {
            if !known.is_same_call(&task) {
                let key = task.options.key.unwrap_or_default();
                return refused(Submitted::Reused { key, id: known.id });
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
            let known = tasks.get(id.as_bytes())?.and_then(|bytes| read(bytes.value()));
            // A task that depends on another user's task would be given its result.
            if !known.is_some_and(|known| by.is_admin || known.user == task.user) {
                return refused(Submitted::Unknown(before.clone()));
            }
        }
        stored.push(Stored::New(task));
    }
    let caller = by.caller.as_deref();
    let mut more = Amount::default();
    let mut rows = Vec::new();
    for one in &mut stored {
        let Stored::New(task) = one else { continue };
        let mut row = write(task);
        let amount = Amount { count: 1, bytes: row.len() as u64 };
        more.add(amount);
        if let Some(caller) = caller {
            task.owner = Some(Owner { caller: caller.to_owned(), bytes: amount.bytes });
            row = write(task);
        }
        rows.push((&*task, row));
    }
    if rows.is_empty() {
        return refused(Submitted::Stored(stored));
    }
    match holdings.room(Kept::Tasks, caller, limits, tasks.len()?, more) {
        Room::There => {}
        Room::OverShare => return refused(Submitted::OverShare),
        Room::Full => return refused(Submitted::Full),
    }
    let reserved = caller.map(|caller| holdings.reserve(Kept::Tasks, caller, more));
    for (task, row) in rows {
        if let Some(key) = &task.options.key {
            keys.insert(&*keys::row(task.user.as_deref(), key), task.uuid().as_bytes())?;
        }
        tasks.insert(task.uuid().as_bytes(), &*row)?;
        owned::insert(transaction, &tasks, task)?;
        hold(transaction, task)?;
    }
    Ok((Submitted::Stored(stored), reserved))
}

/// Records the dependencies of an open task, so that they are kept, and removes these records when the task has ended.
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
    let read = serde_json::from_slice::<Task>(bytes);
    let read =
        read.inspect_err(|error| tracing::error!("a task that cannot be read is passed over: {error}"));
    let mut task = read.ok()?;
    if task.user.is_none() {
        task.user = task.owner.as_ref().and_then(Owner::user);
    }
    Some(task)
}

/// Returns whether a task is still to be executed.
pub(super) fn is_open(task: &Task) -> bool {
    matches!(task.state, State::Queued | State::Retrying | State::Running)
}

#[cfg(test)]
mod tests;
