//! Methods of the object `tasks`.

use std::time::Duration;

use rantai_client::object::Context;
use rantai_client::shares::ShareLimits;
use rantai_client::wire::fault::{Code, Fault};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::interface::{Submission, Summary, Tasks};
use super::ledger::Ledger;
use super::options::Options;
use super::schedule::{Schedule, Timing};
use super::shared::{unread, uuid};
use super::store::is_open;
use super::task::{State, Task};

/// Maximum number of tasks or schedules in one list.
const LIST_LIMIT: u32 = 200;
/// Maximum number of calls in one submission.
const SUBMIT_LIMIT: usize = 1_000;

impl Ledger {
    fn new_task(&self, object: &str, method: &str, params: Value, options: Options) -> Result<Task, Fault> {
        let (id, now) = (self.shared.environment.ordered_id(), self.shared.now());
        let task = Task::new(id, object, method, params, options, now)?;
        Ok(Task { user: self.asking.user.clone(), ..task })
    }

    fn read(&self, id: &str) -> Result<Task, Fault> {
        self.shared.read(&self.asking, id)
    }

    /// Returns the task with its secret result, which is returned only once, and only to its owner: an admin does not
    /// consume it.
    fn with_secret(&self, task: Task) -> Task {
        if !task.secret || task.state != State::Succeeded || task.user != self.asking.user {
            return task;
        }
        let result = self.shared.secrets.take(&task);
        Task { result, ..task }
    }

    /// Returns the row of a schedule: `NAME` is the caller's own, `USER/NAME` belongs to that user, and `/NAME` to no
    /// user. Only admins may name those of others.
    fn schedule_row(&self, name: &str) -> Result<String, Fault> {
        let Some((owner, own_name)) = name.rsplit_once('/') else {
            return Ok(Schedule::row(self.asking.user.as_deref(), name));
        };
        let owner = (!owner.is_empty()).then_some(owner);
        if !self.asking.may_see(owner) {
            return Err(Fault::wrong_parameter("name", "a name without a slash; admins name USER/NAME"));
        }
        Ok(Schedule::row(owner, own_name))
    }
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
        let task = self.new_task(&object, &method, params, options)?;
        let mut ids = self.shared.submit(&self.asking, vec![task]).await?;
        ids.pop().ok_or_else(|| Fault::new(Code::BROKEN_OBJECT, "no task was stored"))
    }

    async fn submit_all(&self, calls: Vec<Submission>) -> Result<Vec<String>, Fault> {
        if calls.is_empty() || calls.len() > SUBMIT_LIMIT {
            return Err(Fault::wrong_parameter("calls", "1 to 1,000 calls"));
        }
        let task = |(index, call): (usize, Submission)| {
            let task = self.new_task(&call.object, &call.method, call.params, call.options);
            task.map_err(|fault| Fault { message: format!("calls[{index}]: {}", fault.message), ..fault })
        };
        let tasks = calls.into_iter().enumerate().map(task).collect::<Result<_, _>>()?;
        self.shared.submit(&self.asking, tasks).await
    }

    async fn get(&self, id: String) -> Result<Task, Fault> {
        let task = self.with_secret(self.read(&id)?);
        let is_waiting = matches!(task.state, State::Queued | State::Retrying);
        Ok(Task { waits: is_waiting.then(|| self.shared.unserved(&task.object)).flatten(), ..task })
    }

    async fn result(&self, id: String, wait_ms: Option<u64>, context: Context) -> Result<Task, Fault> {
        let task = self.read(&id)?;
        if task.state.is_ended() {
            return Ok(self.with_secret(task));
        }
        let ended = self.shared.ended(&task);
        // The task may have ended before `ended` was registered.
        if !self.read(&id)?.state.is_ended() {
            // Ends slightly before the caller's deadline, so that the reply still arrives.
            let most = context.time_left().mul_f64(0.9);
            let wait = wait_ms.map_or(most, |ms| Duration::from_millis(ms).min(most));
            let _ = timeout_at(Instant::now() + wait, ended).await;
        }
        self.shared.nobody_waits(&task);
        Ok(self.with_secret(self.read(&id)?))
    }

    async fn cancel(&self, id: String) -> Result<bool, Fault> {
        self.read(&id)?;
        let (id, now) = (uuid(&id)?, self.shared.now());
        let cancel = move |mut task: Task| {
            is_open(&task).then(|| {
                task.end(State::Cancelled, now);
                task
            })
        };
        let cancelled = self.shared.store.change(id, cancel).await.map_err(|error| unread(&error))?;
        let Some(task) = cancelled else { return Ok(false) };
        // The cancellation is on disk, so the run may stop.
        if let Some(running) = self.shared.running.lock().get(&id.as_u128()) {
            running.notify_one();
        }
        self.shared.announce(&task);
        Ok(true)
    }

    async fn list(&self, state: Option<State>, after: Option<String>) -> Result<Vec<Summary>, Fault> {
        let after = after.as_deref().map(uuid).transpose()?;
        let (shared, asking) = (self.shared.clone(), self.asking.clone());
        let listed = tokio::task::spawn_blocking(move || {
            let wanted = |task: &Task| state.is_none_or(|state| task.state == state);
            let most = LIST_LIMIT as usize;
            if asking.is_admin {
                return shared.store.list(after, most, wanted);
            }
            shared.store.list_of(asking.user.as_deref(), after, most, wanted)
        });
        let listed = listed.await.map_err(|_| Fault::new(Code::BROKEN_OBJECT, "the method panicked"))?;
        Ok(listed.map_err(|error| unread(&error))?.iter().map(Summary::from).collect())
    }

    async fn retry(&self, id: String) -> Result<bool, Fault> {
        self.read(&id)?;
        let now = self.shared.now();
        let again = move |mut task: Task| {
            (task.state.is_ended() && task.state != State::Succeeded).then(|| {
                task.take_up(now);
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
        let schedule = Schedule::new(name, timing, object, method, params, options, self.shared.now())?;
        let schedule = Schedule { user: self.asking.user.clone(), ..schedule };
        let most = self.shared.limits.schedules;
        let caller = Some(self.asking.share_of.to_string());
        let stored = self.shared.store.schedule(schedule.clone(), caller, ShareLimits::new(most)).await;
        if !stored.map_err(|error| unread(&error))? {
            self.shared.schedule_log.refused("the schedules that the ledger keeps", &self.asking.share_of);
            let text = format!("the ledger keeps {most} schedules, and a share of them for each caller");
            return Err(Fault { message: text, ..Fault::busy(60_000) });
        }
        // The schedule is on disk. If it cannot be read now, the timetable retries.
        let row = Schedule::row(schedule.user.as_deref(), &schedule.name);
        self.shared.timetable.set_or_look_again(&self.shared.store, &row, self.shared.now());
        Ok(Schedule { waits: self.shared.unserved(&schedule.object), ..schedule })
    }

    async fn unschedule(&self, name: String) -> Result<bool, Fault> {
        // The timetable may still contain its time, which then has no effect.
        self.shared.store.unschedule(self.schedule_row(&name)?).await.map_err(|error| unread(&error))
    }

    async fn schedules(&self, after: Option<String>) -> Result<Vec<Schedule>, Fault> {
        let after = after.map_or_else(|| Ok(String::new()), |after| self.schedule_row(&after))?;
        let wanted = |schedule: &Schedule| self.asking.may_see(schedule.user.as_deref());
        let schedules = self.shared.store.schedules(&after, LIST_LIMIT as usize, wanted);
        let schedules = schedules.map_err(|error| unread(&error))?;
        Ok(schedules.into_iter().map(|schedule| Schedule { owner: None, ..schedule }).collect())
    }
}
