//! The object `tasks`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rantai_client::client::{Builder, random_id};
use rantai_client::interface;
use rantai_client::object::{Answering, Call, Description, Emitter, Object, Progress};
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::ClientId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::after::Waiting;
use super::agenda::{Agenda, Entry};
use super::limits::Limits;
use super::options::Options;
use super::runner;
use super::schedule::{Schedule, Timing};
use super::store::{Store, Stored, Submitted, is_open};
use super::task::{State, Task};
use super::timetable::{self, Timetable};
use rantai_commit::DiskError;

/// Tasks in one list, and schedules.
const LISTED: u32 = 200;
/// Calls in one submission.
const SUBMITTED: usize = 1_000;

/// Word of how far a task is goes out at most this often.
const TOLD: Duration = Duration::from_millis(200);

/// How far a run is.
#[derive(Debug)]
struct Seen {
    task: String,
    progress: Option<Progress>,
    told: Instant,
}

/// A call to be stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// Which object.
    pub object: String,
    /// Which of its methods.
    pub method: String,
    /// With which parameters, as for `submit`.
    #[serde(default)]
    pub params: Value,
    /// How.
    #[serde(default)]
    pub options: Options,
}

/// A task in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// Which object.
    pub object: String,
    /// Which of its methods.
    pub method: String,
    /// Where it is.
    pub state: State,
    /// How often it was called.
    pub runs: u32,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
}

impl From<&Task> for Summary {
    fn from(task: &Task) -> Self {
        Self {
            id: task.id.clone(),
            object: task.object.clone(),
            method: task.method.clone(),
            state: task.state,
            runs: task.runs,
            submitted_ms: task.submitted_ms,
            ended_ms: task.ended_ms,
        }
    }
}

/// Stored calls.
#[interface(version = "1.0.0", tags("tasks"), event(state: Summary), event(progress: Progress))]
pub trait Tasks {
    /// Stores a call, and gives it an id once it is on disk. `params` are as in a request: a list by position, an
    /// object by name, null for none, anything else is the one parameter; `[null]` is one that is null, and
    /// `{"$payload": TEXT}` a payload as it stands.
    async fn submit(
        &self,
        object: String,
        method: String,
        params: Option<Value>,
        options: Option<Options>,
    ) -> Result<String, Fault>;

    /// Stores calls, all of them or none, and gives each an id: a group, a chain, or whatever comes after what.
    async fn submit_all(&self, calls: Vec<Submission>) -> Result<Vec<String>, Fault>;

    /// A task as it is.
    #[method(idempotent)]
    async fn get(&self, id: String) -> Result<Task, Fault>;

    /// A task once it has ended, or as it is after `wait_ms` or the caller's time.
    #[method(idempotent)]
    async fn result(
        &self,
        id: String,
        wait_ms: Option<u64>,
        context: rantai_client::object::Context,
    ) -> Result<Task, Fault>;

    /// Ends a task that has not ended; `false` where it has.
    #[method(idempotent)]
    async fn cancel(&self, id: String) -> Result<bool, Fault>;

    /// Tasks, the oldest first, 200 at a time: of one state, and behind the id `after`.
    #[method(idempotent)]
    async fn list(&self, state: Option<State>, after: Option<String>) -> Result<Vec<Summary>, Fault>;

    /// Takes up again what failed, was cancelled or expired; `false` where it has not, or succeeded.
    async fn retry(&self, id: String) -> Result<bool, Fault>;

    /// Makes a task again and again, instead of what there was by this name; what it will be next.
    #[method(idempotent)]
    async fn schedule(
        &self,
        name: String,
        timing: Timing,
        object: String,
        method: String,
        params: Option<Value>,
        options: Option<Options>,
    ) -> Result<Schedule, Fault>;

    /// Makes no more of them; `false` where there is no such schedule.
    #[method(idempotent)]
    async fn unschedule(&self, name: String) -> Result<bool, Fault>;

    /// Schedules by their names, 200 at a time, behind the name `after`.
    #[method(idempotent)]
    async fn schedules(&self, after: Option<String>) -> Result<Vec<Schedule>, Fault>;
}

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Its file cannot be opened.
    #[error("cannot open the ledger {}", file.display())]
    Store {
        /// The file.
        file: PathBuf,
        /// What the system or library said.
        source: DiskError,
    },
    /// Its file cannot be written.
    #[error("cannot write the ledger")]
    Write(#[from] DiskError),
}

/// All tasks, and whoever carries them out.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) agenda: Agenda,
    pub(super) timetable: Timetable,
    pub(super) limits: Arc<Limits>,
    /// Tasks that come after others.
    waiting_for: Waiting,
    /// How far runs are, by their identity.
    progress: Mutex<HashMap<u128, Seen>>,
    /// Runs that may be told to stop.
    pub(super) running: Mutex<HashMap<u128, Arc<Notify>>>,
    waiting: Mutex<HashMap<u128, Vec<oneshot::Sender<()>>>>,
    emitter: OnceLock<Emitter>,
}

/// The ledger in the form in which a node serves it. While it is, its tasks are carried out.
#[derive(Debug)]
pub struct LedgerObject {
    inner: Arc<TasksObject<Ledger>>,
    shared: Arc<Shared>,
    runner: JoinHandle<()>,
    timetable: JoinHandle<()>,
}

impl Drop for LedgerObject {
    fn drop(&mut self) {
        self.runner.abort();
        self.timetable.abort();
    }
}

impl Ledger {
    /// In a file, or without one for as long as the process runs.
    ///
    /// # Errors
    ///
    /// Where the file cannot be opened.
    pub fn open(file: Option<&Path>, limits: Limits) -> Result<Self, LedgerError> {
        let shared = Shared {
            store: Store::open(file).map_err(|source| {
                let file = file.map_or_else(|| PathBuf::from("in memory"), Path::to_owned);
                LedgerError::Store { file, source }
            })?,
            agenda: Agenda::default(),
            timetable: Timetable::default(),
            limits: Arc::new(limits),
            waiting_for: Waiting::default(),
            progress: Mutex::default(),
            running: Mutex::default(),
            waiting: Mutex::default(),
            emitter: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// To be served; tasks are called by a client of this kind, which gets a name of its own that stays.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub async fn start(self, client: Builder) -> Result<LedgerObject, LedgerError> {
        let name = self.shared.store.name(random_id("tasks").to_string()).await?;
        let name = ClientId::new(&name).unwrap_or_else(|_| random_id("tasks"));
        let runner = tokio::spawn(runner::run(self.shared.clone(), client.client_id(name).patient()));
        let timetable = tokio::spawn(timetable::run(self.shared.clone()));
        let shared = self.shared.clone();
        Ok(LedgerObject { inner: Arc::new(TasksObject(self)), shared, runner, timetable })
    }
}

impl Object for LedgerObject {
    fn description(&self) -> Description {
        self.inner.description()
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        self.inner.clone().call(call)
    }

    fn attach(&self, emitter: Emitter) {
        let _ = self.shared.emitter.set(emitter);
    }
}

impl Shared {
    /// Tells everybody what has been stored.
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

    /// Stores tasks, all or none, and sees to it that they are carried out.
    async fn submit(&self, tasks: Vec<Task>) -> Result<Vec<String>, Fault> {
        match self.store.submit(tasks, self.limits.tasks).await.map_err(|error| unread(&error))? {
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
            Submitted::Full => {
                let text =
                    format!("the ledger keeps {} tasks; ended ones make room in time", self.limits.tasks);
                Err(Fault { message: text, ..Fault::busy(60_000) })
            }
        }
    }

    /// `task` waits for `before`, which stands at `index` of what it comes after, unless that has ended meanwhile.
    pub(super) fn waits(&self, before: Uuid, task: Uuid, index: usize) -> Result<bool, DiskError> {
        self.waiting_for.add(before, task, index);
        // It may have ended before it was waited for: then either it has told, or it is taken back here.
        let open = self.store.get(before)?.as_ref().is_some_and(is_open);
        Ok(open || !self.waiting_for.take_back(before, task))
    }

    /// What stands at `index` of what `task` comes after has ended: it waits for the next of them that has not, or
    /// is due.
    fn before_ended(&self, task: Uuid, index: usize) {
        let waits = || -> Result<(), DiskError> {
            let Some(task) = self.store.get(task)?.filter(is_open) else { return Ok(()) };
            for (index, before) in task.before().enumerate().skip(index + 1) {
                let open = self.store.get(before)?.as_ref().is_some_and(is_open);
                if open && self.waits(before, task.uuid(), index)? {
                    return Ok(());
                }
            }
            self.agenda.at(now(), &task);
            Ok(())
        };
        if let Err(error) = waits() {
            tracing::error!("{error}");
            // Whoever takes it up looks at all that it comes after.
            self.agenda.at(now() + runner::UNREAD_MS, Entry::unread(task));
        }
    }

    fn read(&self, id: &str) -> Result<Task, Fault> {
        let known = self.store.get(uuid(id)?).map_err(|error| unread(&error))?;
        known.ok_or_else(|| no_such_task(id)).map(|task| {
            let seen = self.progress.lock();
            let progress = seen.get(&task.identity().as_u128()).and_then(|seen| seen.progress.clone());
            Task { progress, ..task }
        })
    }

    /// Tells when a task ends.
    fn ended(&self, task: &Task) -> oneshot::Receiver<()> {
        let (told, ended) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        let others = waiting.entry(task.uuid().as_u128()).or_default();
        // Calls that were given up meanwhile.
        others.retain(|other| !other.is_closed());
        others.push(told);
        ended
    }

    /// Forgets who waited for a task and does so no more.
    fn nobody_waits(&self, task: &Task) {
        let (mut waiting, id) = (self.waiting.lock(), task.uuid().as_u128());
        if let Some(others) = waiting.get_mut(&id) {
            others.retain(|other| !other.is_closed());
            if others.is_empty() {
                waiting.remove(&id);
            }
        }
    }

    /// A run has begun, and may say how far it is.
    pub(super) fn watch(&self, task: &Task) {
        let seen = Seen { task: task.id.clone(), progress: None, told: Instant::now() };
        self.progress.lock().insert(task.identity().as_u128(), seen);
    }

    /// A run is over.
    pub(super) fn unwatch(&self, task: &Task) {
        self.progress.lock().remove(&task.identity().as_u128());
    }

    /// A run says how far it is: passed on at most five times a second.
    pub(super) fn progressed(&self, identity: u128, progress: Progress) {
        let mut runs = self.progress.lock();
        let Some(seen) = runs.get_mut(&identity) else { return };
        let now = Instant::now();
        let told = (now.duration_since(seen.told) >= TOLD).then(|| {
            seen.told = now;
            json!({"id": seen.task, "done": progress.done, "total": progress.total, "text": progress.text})
        });
        seen.progress = Some(progress);
        drop(runs);
        if let (Some(emitter), Some(told)) = (self.emitter.get(), told)
            && let Err(fault) = emitter.emit("progress", &told)
        {
            tracing::debug!("{fault}");
        }
    }
}

fn no_such_task(id: &str) -> Fault {
    Fault::failed("no_such_task", format!("there is no task {id:?}"))
}

fn uuid(id: &str) -> Result<Uuid, Fault> {
    Uuid::try_parse(id).map_err(|_| Fault::wrong_parameter("id", "a UUID in hexadecimal digits"))
}

fn unread(error: &DiskError) -> Fault {
    error.fault("the ledger")
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Tasks for Ledger {
    async fn submit(
        &self,
        object: String,
        method: String,
        params: Option<Value>,
        options: Option<Options>,
    ) -> Result<String, Fault> {
        let (params, options) = (params.unwrap_or_default(), options.unwrap_or_default());
        let task = Task::new(&object, &method, params, options, now())?;
        let mut ids = self.shared.submit(vec![task]).await?;
        ids.pop().ok_or_else(|| Fault::new(Code::BROKEN_OBJECT, "no task was stored"))
    }

    async fn submit_all(&self, calls: Vec<Submission>) -> Result<Vec<String>, Fault> {
        if calls.is_empty() || calls.len() > SUBMITTED {
            return Err(Fault::wrong_parameter("calls", "1 to 1,000 calls"));
        }
        let task = |(index, call): (usize, Submission)| {
            let task = Task::new(&call.object, &call.method, call.params, call.options, now());
            task.map_err(|fault| Fault { message: format!("calls[{index}]: {}", fault.message), ..fault })
        };
        let tasks = calls.into_iter().enumerate().map(task).collect::<Result<_, _>>()?;
        self.shared.submit(tasks).await
    }

    async fn get(&self, id: String) -> Result<Task, Fault> {
        self.shared.read(&id)
    }

    async fn result(
        &self,
        id: String,
        wait_ms: Option<u64>,
        context: rantai_client::object::Context,
    ) -> Result<Task, Fault> {
        let task = self.shared.read(&id)?;
        if task.state.is_ended() {
            return Ok(task);
        }
        let ended = self.shared.ended(&task);
        // It may have ended before it was waited for.
        if !self.shared.read(&id)?.state.is_ended() {
            // A little before the caller's time is over, so that the answer still arrives.
            let most = context.time_left().mul_f64(0.9);
            let wait = wait_ms.map_or(most, |ms| Duration::from_millis(ms).min(most));
            let _ = timeout_at(Instant::now() + wait, ended).await;
        }
        self.shared.nobody_waits(&task);
        self.shared.read(&id)
    }

    async fn cancel(&self, id: String) -> Result<bool, Fault> {
        self.shared.read(&id)?;
        let id = uuid(&id)?;
        let cancel = |mut task: Task| {
            is_open(&task).then(|| {
                task.end(State::Cancelled, now());
                task
            })
        };
        let cancelled = self.shared.store.change(id, cancel).await.map_err(|error| unread(&error))?;
        let Some(task) = cancelled else { return Ok(false) };
        // On disk: now the run may stop.
        if let Some(running) = self.shared.running.lock().get(&id.as_u128()) {
            running.notify_one();
        }
        self.shared.announce(&task);
        Ok(true)
    }

    async fn list(&self, state: Option<State>, after: Option<String>) -> Result<Vec<Summary>, Fault> {
        let after = after.as_deref().map(uuid).transpose()?;
        let shared = self.shared.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let wanted = |task: &Task| state.is_none_or(|state| task.state == state);
            shared.store.list(after, LISTED as usize, wanted)
        });
        let listed = listed.await.map_err(|_| Fault::new(Code::BROKEN_OBJECT, "the method panicked"))?;
        Ok(listed.map_err(|error| unread(&error))?.iter().map(Summary::from).collect())
    }

    async fn retry(&self, id: String) -> Result<bool, Fault> {
        self.shared.read(&id)?;
        let again = |mut task: Task| {
            (task.state.is_ended() && task.state != State::Succeeded).then(|| {
                task.take_up(now());
                task
            })
        };
        let taken_up = self.shared.store.change(uuid(&id)?, again).await.map_err(|error| unread(&error))?;
        if let Some(task) = &taken_up {
            self.shared.agenda.add(task);
            self.shared.announce(task);
        }
        Ok(taken_up.is_some())
    }

    async fn schedule(
        &self,
        name: String,
        timing: Timing,
        object: String,
        method: String,
        params: Option<Value>,
        options: Option<Options>,
    ) -> Result<Schedule, Fault> {
        let (params, options) = (params.unwrap_or_default(), options.unwrap_or_default());
        let schedule = Schedule::new(name, timing, object, method, params, options, now())?;
        let most = self.shared.limits.schedules;
        if !self.shared.store.schedule(schedule.clone(), most).await.map_err(|error| unread(&error))? {
            let text = format!("the ledger keeps {most} schedules");
            return Err(Fault { message: text, ..Fault::busy(60_000) });
        }
        // It is on disk: where that cannot be read now, it is looked at again.
        self.shared.timetable.set_or_look_again(&self.shared.store, &schedule.name, now());
        Ok(schedule)
    }

    async fn unschedule(&self, name: String) -> Result<bool, Fault> {
        // Its time in the timetable leads to nothing then.
        self.shared.store.unschedule(name).await.map_err(|error| unread(&error))
    }

    async fn schedules(&self, after: Option<String>) -> Result<Vec<Schedule>, Fault> {
        let after = after.unwrap_or_default();
        self.shared.store.schedules(&after, LISTED as usize).map_err(|error| unread(&error))
    }
}
