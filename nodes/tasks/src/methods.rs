//! The methods of the object `tasks`.

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
use super::shared::{Shared, unread, uuid};
use super::store::is_open;
use super::task::{State, Task};

/// Most tasks, and schedules, in one list.
const LIST_LIMIT: u32 = 200;
/// Most calls in one submission.
const SUBMIT_LIMIT: usize = 1_000;

fn new_task(
    shared: &Shared,
    object: &str,
    method: &str,
    params: Value,
    options: Options,
) -> Result<Task, Fault> {
    Task::new(shared.environment.ordered_id(), object, method, params, options, shared.now())
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
        let task = new_task(&self.shared, &object, &method, params, options)?;
        let mut ids = self.shared.submit(&self.caller, vec![task]).await?;
        ids.pop().ok_or_else(|| Fault::new(Code::BROKEN_OBJECT, "no task was stored"))
    }

    async fn submit_all(&self, calls: Vec<Submission>) -> Result<Vec<String>, Fault> {
        if calls.is_empty() || calls.len() > SUBMIT_LIMIT {
            return Err(Fault::wrong_parameter("calls", "1 to 1,000 calls"));
        }
        let task = |(index, call): (usize, Submission)| {
            let task = new_task(&self.shared, &call.object, &call.method, call.params, call.options);
            task.map_err(|fault| Fault { message: format!("calls[{index}]: {}", fault.message), ..fault })
        };
        let tasks = calls.into_iter().enumerate().map(task).collect::<Result<_, _>>()?;
        self.shared.submit(&self.caller, tasks).await
    }

    async fn get(&self, id: String) -> Result<Task, Fault> {
        self.shared.read(&id)
    }

    async fn result(&self, id: String, wait_ms: Option<u64>, context: Context) -> Result<Task, Fault> {
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
        let (id, now) = (uuid(&id)?, self.shared.now());
        let cancel = move |mut task: Task| {
            is_open(&task).then(|| {
                task.end(State::Cancelled, now);
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
            shared.store.list(after, LIST_LIMIT as usize, wanted)
        });
        let listed = listed.await.map_err(|_| Fault::new(Code::BROKEN_OBJECT, "the method panicked"))?;
        Ok(listed.map_err(|error| unread(&error))?.iter().map(Summary::from).collect())
    }

    async fn retry(&self, id: String) -> Result<bool, Fault> {
        self.shared.read(&id)?;
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
        let most = self.shared.limits.schedules;
        let caller = Some(self.caller.to_string());
        let stored = self.shared.store.schedule(schedule.clone(), caller, ShareLimits::new(most)).await;
        if !stored.map_err(|error| unread(&error))? {
            self.shared.schedule_log.refused("the schedules that the ledger keeps", &self.caller);
            let text = format!("the ledger keeps {most} schedules, and a share of them for each caller");
            return Err(Fault { message: text, ..Fault::busy(60_000) });
        }
        // It is on disk: where that cannot be read now, it is looked at again.
        self.shared.timetable.set_or_look_again(&self.shared.store, &schedule.name, self.shared.now());
        Ok(schedule)
    }

    async fn unschedule(&self, name: String) -> Result<bool, Fault> {
        // Its time in the timetable leads to nothing then.
        self.shared.store.unschedule(name).await.map_err(|error| unread(&error))
    }

    async fn schedules(&self, after: Option<String>) -> Result<Vec<Schedule>, Fault> {
        let after = after.unwrap_or_default();
        let schedules = self.shared.store.schedules(&after, LIST_LIMIT as usize);
        let schedules = schedules.map_err(|error| unread(&error))?;
        Ok(schedules.into_iter().map(|schedule| Schedule { owner: None, ..schedule }).collect())
    }
}
