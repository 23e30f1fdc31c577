//! State of the ledger, shared by the object, the runner and the timetable.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rantai_client::Environment;
use rantai_client::object::{Emitter, Progress};
use rantai_client::registry::Follower;
use rantai_client::shares::{ShareLog, ShareReport};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::ObjectName;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::after::Waiting;
use super::agenda::{Agenda, AgendaEntry};
use super::interface::Summary;
use super::limits::Limits;
use super::owner::{Asking, Submitter};
use super::progress::RunProgress;
use super::secrets::Secrets;
use super::store::{Amount, Kept, Store, Stored, Submitted, is_open};
use super::task::Task;
use super::timetable::Timetable;
use rantai_commit::DiskError;

/// Delay before a task that could not be read is checked again, in milliseconds.
pub(super) const UNREAD_MS: u64 = 5_000;
/// Delay before a task that could not be written is checked again, in milliseconds.
const DISK_RETRY_MS: u64 = 5_000;

/// State shared by the object `tasks`, the runner and the timetable.
#[derive(Debug)]
pub(super) struct LedgerState {
    pub(super) store: Store,
    pub(super) agenda: Agenda,
    pub(super) timetable: Timetable,
    pub(super) limits: Arc<Limits>,
    pub(super) environment: Environment,
    /// Tasks that wait for their dependencies to end.
    waiting_for: Waiting,
    pub(super) progress: RunProgress,
    pub(super) secrets: Secrets,
    /// Stop signals of running tasks, by task id.
    pub(super) running: Mutex<HashMap<u128, Arc<Notify>>>,
    /// Waiting callers of `result`, by task id.
    waiting: Mutex<HashMap<u128, Vec<oneshot::Sender<()>>>>,
    pub(super) emitter: OnceLock<Emitter>,
    /// Log of refused tasks.
    pub(super) share_log: ShareLog,
    /// Log of refused schedules.
    pub(super) schedule_log: ShareLog,
    /// Follower of the registry, while the ledger is connected.
    pub(super) registry: Mutex<Option<Arc<Follower>>>,
}

impl LedgerState {
    pub(super) fn new(store: Store, limits: Limits, environment: Environment) -> Self {
        Self {
            store,
            agenda: Agenda::default(),
            timetable: Timetable::default(),
            limits: Arc::new(limits),
            environment,
            waiting_for: Waiting::default(),
            progress: RunProgress::default(),
            secrets: Secrets::default(),
            running: Mutex::default(),
            waiting: Mutex::default(),
            emitter: OnceLock::new(),
            share_log: ShareLog::default(),
            schedule_log: ShareLog::default(),
            registry: Mutex::default(),
        }
    }

    /// Returns why no call can be made on an object now, for people: nobody serves it. `None` if somebody does, or the
    /// registry is not known.
    pub(super) fn unserved(&self, object: &str) -> Option<String> {
        let registry = self.registry.lock().clone()?;
        let name = ObjectName::new(object).ok()?;
        registry.look(|view| {
            if view.is_served(&name) {
                return None;
            }
            if view.is_registered(&name) {
                return Some(format!("{object} is registered, but no node serves it now"));
            }
            let near = view.did_you_mean(object).join(", ");
            let hint = if near.is_empty() { String::new() } else { format!("; did you mean {near}?") };
            Some(format!("no object {object} is registered{hint}"))
        })
    }

    /// Returns the current time, in milliseconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.environment.now_ms()
    }

    /// Stores the current state of a task, and announces it. Returns false if the task has ended in the meantime.
    pub(super) async fn settle(&self, task: &Task) -> Result<bool, DiskError> {
        let stored = self.store.update(task.clone(), self.limits.kept_tasks()).await?;
        if let Some(task) = &stored {
            self.announce(task);
        }
        Ok(stored.is_some())
    }

    /// Draws the random identity of a run.
    pub(super) fn draw_correlation(&self) -> Uuid {
        Uuid::from_u64_pair(self.environment.random(), self.environment.random())
    }

    /// Reports how full the ledger is, and its largest holders.
    pub(super) fn shares(&self) -> Vec<ShareReport> {
        let holdings = self.store.holdings();
        let (tasks, schedules) = (holdings.held(Kept::Tasks), holdings.held(Kept::Schedules));
        let report = |table, limit, log, held: &[(String, Amount)], of: fn(&Amount) -> u64| {
            let taken = held.iter().map(|(_, amount)| of(amount)).sum();
            let held = held.iter().map(|(caller, amount)| (caller.clone(), of(amount)));
            ShareReport::new(table, limit, taken, log, held)
        };
        vec![
            report("tasks", self.limits.tasks, &self.share_log, &tasks, |amount| amount.count),
            report("bytes of tasks", self.limits.bytes, &self.share_log, &tasks, |amount| amount.bytes),
            report("schedules", self.limits.schedules, &self.schedule_log, &schedules, |amount| amount.count),
        ]
    }

    /// Schedules another check of a task for when the disk may work again.
    pub(super) fn wait_for_disk(&self, task: &Task, error: &DiskError) {
        tracing::error!("{error}");
        self.agenda.at(self.now() + DISK_RETRY_MS, task);
    }

    /// Emits the state of a stored task. If the task has ended, wakes the tasks and callers that wait for it.
    pub(super) fn announce(&self, task: &Task) {
        if let Some(emitter) = self.emitter.get()
            && let Err(fault) = emitter.emit("state", &Summary::from(task))
        {
            tracing::debug!("{fault}");
        }
        if task.state.is_ended() {
            for (next, index) in self.waiting_for.take(task.uuid()) {
                self.before_ended(next, index);
            }
            let waiting = self.waiting.lock().remove(&task.uuid().as_u128());
            for told in waiting.into_iter().flatten() {
                let _ = told.send(());
            }
        }
    }

    /// Stores all tasks or none, and adds them to the agenda. Returns their ids.
    pub(super) async fn submit(&self, asking: &Asking, tasks: Vec<Task>) -> Result<Vec<String>, Fault> {
        let submitted = self.store.submit(tasks, Submitter::from(asking), self.limits.kept_tasks());
        match submitted.await.map_err(|error| unread(&error))? {
            Submitted::Stored(stored) => {
                for one in &stored {
                    if let Stored::New(task) = one {
                        self.agenda.add(task);
                        self.announce(task);
                    }
                }
                Ok(stored.into_iter().map(|one| one.task().id.clone()).collect())
            }
            Submitted::Unknown(id) => Err(no_such_task(&id)),
            Submitted::Reused { key, id } => {
                let text =
                    format!("the key {key:?} belongs to task {id}, which is another call; use another key");
                Err(Fault::new(Code::IDENTITY_REUSED, text))
            }
            Submitted::OverShare => {
                self.share_log.refused("the tasks that the ledger keeps", &asking.share_of);
                let text = "this caller has its share of the tasks that the ledger keeps; ended ones make room in time";
                Err(Fault { message: text.to_owned(), ..Fault::busy(60_000) })
            }
            Submitted::Full => {
                let text =
                    format!("the ledger keeps {} tasks; ended ones make room in time", self.limits.tasks);
                Err(Fault { message: text, ..Fault::busy(60_000) })
            }
        }
    }

    /// Registers `task` as waiting for `before`, its dependency at `index`. Returns false if `before` has ended already.
    pub(super) fn waits(&self, before: Uuid, task: Uuid, index: usize) -> Result<bool, DiskError> {
        self.waiting_for.add(before, task, index);
        // If `before` ended before the registration, either its end has taken the entry, or the entry is removed here.
        let open = self.store.get(before)?.as_ref().is_some_and(is_open);
        Ok(open || !self.waiting_for.take_back(before, task))
    }

    /// Handles the end of the dependency at `index` of `task`: the task waits for its next dependency that has not ended,
    /// or is due if there is none.
    fn before_ended(&self, task: Uuid, index: usize) {
        let waits = || -> Result<(), DiskError> {
            let Some(task) = self.store.get(task)?.filter(is_open) else { return Ok(()) };
            for (index, before) in task.before().enumerate().skip(index + 1) {
                let open = self.store.get(before)?.as_ref().is_some_and(is_open);
                if open && self.waits(before, task.uuid(), index)? {
                    return Ok(());
                }
            }
            self.agenda.at(self.now(), &task);
            Ok(())
        };
        if let Err(error) = waits() {
            tracing::error!("{error}");
            // `begin` checks all dependencies again.
            self.agenda.at(self.now() + UNREAD_MS, AgendaEntry::unread(task));
        }
    }

    /// Returns the current task, with the progress of its run and without the fields that are only for the disk. A task
    /// that the caller may not see is reported as unknown.
    pub(super) fn read(&self, asking: &Asking, id: &str) -> Result<Task, Fault> {
        let known = self.store.get(uuid(id)?).map_err(|error| unread(&error))?;
        let known = known.filter(|task| asking.may_see(task.user.as_deref()));
        known.ok_or_else(|| no_such_task(id)).map(|task| {
            let progress = self.progress.of(&task);
            Task { progress, owner: None, correlation: None, ..task }
        })
    }

    /// Returns a receiver that is notified when the task ends.
    pub(super) fn ended(&self, task: &Task) -> oneshot::Receiver<()> {
        let (told, ended) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        let others = waiting.entry(task.uuid().as_u128()).or_default();
        // Removes receivers that were dropped in the meantime.
        others.retain(|other| !other.is_closed());
        others.push(told);
        ended
    }

    /// Removes the dropped receivers of a task.
    pub(super) fn nobody_waits(&self, task: &Task) {
        let (mut waiting, id) = (self.waiting.lock(), task.uuid().as_u128());
        if let Some(others) = waiting.get_mut(&id) {
            others.retain(|other| !other.is_closed());
            if others.is_empty() {
                waiting.remove(&id);
            }
        }
    }

    /// Stores a report of a run, and emits it at most five times per second.
    pub(super) fn progressed(&self, identity: u128, progress: Progress) {
        if let (Some(emitter), Some(event)) = (self.emitter.get(), self.progress.report(identity, progress))
            && let Err(fault) = emitter.emit("progress", &event)
        {
            tracing::debug!("{fault}");
        }
    }
}

fn no_such_task(id: &str) -> Fault {
    Fault::failed("no_such_task", format!("there is no task {id:?}"))
}

pub(super) fn uuid(id: &str) -> Result<Uuid, Fault> {
    Uuid::try_parse(id).map_err(|_| Fault::wrong_parameter("id", "a UUID in hexadecimal digits"))
}

pub(super) fn unread(error: &DiskError) -> Fault {
    error.fault("the ledger")
}
