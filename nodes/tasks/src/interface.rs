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

/// A call to store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The object to call.
    pub object: String,
    /// The method to call.
    pub method: String,
    /// The parameters, as for `submit`.
    #[serde(default)]
    pub params: Value,
    /// Retries, times, priority and dependencies; defaults where it is left out.
    #[serde(default)]
    pub options: Options,
}

/// A task in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// The object to call.
    pub object: String,
    /// The method to call.
    pub method: String,
    /// Its state.
    pub state: State,
    /// How often it was called.
    pub runs: u32,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// The user it belongs to.
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
    #[method(read_only)]
    async fn get(&self, id: String) -> Result<Task, Fault>;

    /// A task once it has ended, or as it is after `wait_ms` or the caller's time.
    #[method(read_only)]
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
    #[method(read_only)]
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
    #[method(read_only)]
    async fn schedules(&self, after: Option<String>) -> Result<Vec<Schedule>, Fault>;
}
