//! Interface `tasks`, and the types of its parameters and results.

use rantai_client::interface;
use rantai_client::object::Progress;
use rantai_client::wire::fault::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::options::Options;
use crate::schedule::{Schedule, Timing};
use crate::task::{State, Task};

/// Call to store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// Object to call.
    pub object: String,
    /// Method to call.
    pub method: String,
    /// Parameters, as for `submit`.
    #[serde(default)]
    pub params: Value,
    /// Retries, times, priority and dependencies; missing ones have defaults.
    #[serde(default)]
    pub options: Options,
}

/// Task in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Id of the task.
    pub id: String,
    /// Object to call.
    pub object: String,
    /// Method to call.
    pub method: String,
    /// State of the task.
    pub state: State,
    /// Number of runs so far.
    pub runs: u32,
    /// Time of the submission, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// Time of the end, in milliseconds since 1970.
    pub ended_ms: Option<u64>,
    /// User that the task belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
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
            user: task.user.clone(),
        }
    }
}

/// Stored calls, which are executed once their object is available.
#[interface(version = "1.0.0", tags("tasks"), event(state: Summary), event(progress: Progress))]
pub trait Tasks {
    /// Stores a call, and returns its id once it is on disk. `params` are as in a request: a list by position, an
    /// object by name, null for none, anything else is the only parameter; `[null]` is a single null, and `{"$payload":
    /// TEXT}` a payload as is.
    async fn submit(
        &self,
        object: String,
        method: String,
        params: Option<Value>,
        options: Option<Options>,
    ) -> Result<String, Fault>;

    /// Stores calls, all of them or none, and returns their ids. The calls may depend on each other, as in a group or a
    /// chain.
    async fn submit_all(&self, calls: Vec<Submission>) -> Result<Vec<String>, Fault>;

    /// Returns a task in its current state.
    #[method(read_only)]
    async fn get(&self, id: String) -> Result<Task, Fault>;

    /// Returns a task once it has ended, or in its current state after `wait_ms` or at the caller's deadline.
    #[method(read_only)]
    async fn result(
        &self,
        id: String,
        wait_ms: Option<u64>,
        context: rantai_client::object::Context,
    ) -> Result<Task, Fault>;

    /// Cancels a task; returns `false` if it has ended already.
    #[method(idempotent)]
    async fn cancel(&self, id: String) -> Result<bool, Fault>;

    /// Lists tasks, oldest first, 200 per page: those in `state`, after the task `after`.
    #[method(read_only)]
    async fn list(&self, state: Option<State>, after: Option<String>) -> Result<Vec<Summary>, Fault>;

    /// Queues a task again that has failed, was cancelled or has expired; returns `false` if it has not ended, or has
    /// succeeded.
    async fn retry(&self, id: String) -> Result<bool, Fault>;

    /// Creates a schedule, or replaces the one of this name. It submits the call as a task again and again. Returns the
    /// schedule, with the time of its next task.
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

    /// Removes a schedule; returns `false` if there is none of this name.
    #[method(idempotent)]
    async fn unschedule(&self, name: String) -> Result<bool, Fault>;

    /// Lists schedules by name, 200 per page, after the name `after`.
    #[method(read_only)]
    async fn schedules(&self, after: Option<String>) -> Result<Vec<Schedule>, Fault>;
}
