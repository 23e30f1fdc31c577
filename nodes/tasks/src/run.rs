//! One run of a task: the call, and what follows from its answer.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::registry::Follower;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::json::levels;
use rantai_client::wire::name::{ClientId, ObjectName};
use rantai_client::{CallError, Client, Content, Response};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::sleep;
use uuid::Uuid;

use super::loads::Loads;
use super::runner::{settled, wait_for_disk};
use super::shared::{Shared, now};
use super::store::is_open;
use super::task::{DEEPEST, State, Task};

/// Waits before a call is made again that reached nobody, or whose answer was lost.
pub(super) const AGAIN_MS: u64 = 500;
/// How long a node may be away before its answer is not waited for any more.
const GRACE: Duration = Duration::from_secs(1);
/// The largest result kept, in bytes of JSON.
const LARGEST: usize = 256 << 10;

/// A task that is being carried out.
pub(super) struct Run {
    pub(super) task: Task,
    /// It was called before, and nobody knows what came of it.
    pub(super) again: bool,
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    pub(super) follower: Arc<Follower>,
    pub(super) loads: Arc<Loads>,
    pub(super) stop: Arc<Notify>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.shared.running.lock().remove(&self.task.uuid().as_u128());
        self.shared.progress.end(&self.task);
        for entry in self.loads.ended(&self.task) {
            self.shared.agenda.at(now(), entry);
        }
        self.shared.agenda.changed.notify_one();
    }
}

impl Run {
    pub(super) async fn carry_out(self) {
        let called = tokio::select! {
            called = self.call() => called,
            () = self.stop.notified() => return self.stop_it().await,
            () = self.lost() => Err(CallError::Lost),
        };
        let mut task = self.task.clone();
        match called {
            Ok(response) => {
                task.repeats += u32::from(response.repeated);
                match response.outcome {
                    Ok(content) => succeed(&mut task, content),
                    Err(fault) if self.again && reached_nobody(&fault) => return self.once_more(&fault),
                    Err(fault) => fail(&mut task, &fault),
                }
            }
            Err(CallError::Fault(fault)) if self.again && reached_nobody(&fault) => {
                return self.once_more(&fault);
            }
            Err(CallError::Fault(fault)) => fail(&mut task, &fault),
            // Whether it was carried out is not known: the same again, on the same node.
            Err(error) => {
                tracing::debug!(id = task.id, "{error}");
                return self.shared.agenda.at(now() + AGAIN_MS, &task);
            }
        }
        let (open, shared) = (is_open(&task), self.shared.clone());
        // What came of it waits for a disk that does not work: another call would be another run.
        loop {
            match settled(&shared, &task).await {
                Ok(stored) => {
                    if stored && open {
                        shared.agenda.add(&task);
                    }
                    return;
                }
                Err(error) if error.is_retryable() => sleep(error.retry_after()).await,
                Err(error) => return wait_for_disk(&shared, &task, &error),
            }
        }
    }

    async fn call(&self) -> Result<Response, CallError> {
        let Task { object, method, node, options, .. } = &self.task;
        let mut proxy = self.client.object(object).deadline(Duration::from_millis(options.timeout_ms));
        if let Some(node) = node.as_deref().and_then(|node| ClientId::new(node).ok()) {
            proxy = proxy.at(node);
        }
        let request = proxy.request(method).identity(self.task.identity());
        match self.task.payload() {
            Some(payload) => request.payload(payload.to_owned()).send().await,
            None => request.params(&self.task.params).send().await,
        }
    }

    /// Waits until the node is gone that carries it out: no answer will come from there.
    async fn lost(&self) {
        let mut changes = self.follower.changes();
        loop {
            let there = || {
                let Ok(object) = ObjectName::new(&self.task.object) else { return true };
                let node = self.task.node.as_deref();
                // A node that ends in order finishes what it has.
                self.follower.look(|view| view.finishers(&object).any(|there| Some(there.as_str()) == node))
            };
            if !there() {
                // One that comes back does so within a second.
                sleep(GRACE).await;
                if !there() {
                    return;
                }
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What came of the first call is still not known: it stays `running`.
    fn once_more(&self, fault: &Fault) {
        self.shared.agenda.at(now() + wait_after(fault), &self.task);
    }

    /// It was cancelled, and is so on disk: whoever carries it out is told.
    async fn stop_it(&self) {
        let Some(node) = self.task.node.as_deref().and_then(|node| ClientId::new(node).ok()) else { return };
        let identity = json!([self.task.identity().simple().to_string()]);
        let object = self.client.object(&self.task.object).at(node).deadline(Duration::from_secs(5));
        if let Err(error) = object.call::<Value>("rpc.cancel", &identity).await {
            tracing::debug!(id = self.task.id, "{error}");
        }
    }
}

/// Whether a call was not begun.
fn reached_nobody(fault: &Fault) -> bool {
    matches!(fault.code, Code::UNKNOWN_OBJECT | Code::LOST_OBJECT | Code::EXPIRED | Code::BUSY)
}

fn wait_after(fault: &Fault) -> u64 {
    fault.data.get("retry_after_ms").and_then(Value::as_u64).unwrap_or(AGAIN_MS)
}

fn fail(task: &mut Task, fault: &Fault) {
    if reached_nobody(fault) {
        // That was no run.
        task.runs = task.runs.saturating_sub(1);
        task.state = if task.runs == 0 { State::Queued } else { State::Retrying };
        task.due_ms = now() + wait_after(fault);
    } else {
        let chance = Uuid::new_v4().as_u128() as u32;
        task.failed(fault, now(), f64::from(chance) / f64::from(u32::MAX));
    }
}

fn succeed(task: &mut Task, content: Content) {
    let kept = match content {
        Content::Value(value) if value.to_string().len() > LARGEST => {
            Err("its result is too large to be kept")
        }
        Content::Value(value) if levels(&value) > DEEPEST => Err("its result nests too deep to be kept"),
        Content::Value(value) => Ok(value),
        Content::Binary(_) => Err("its result is binary, which is not kept"),
    };
    match kept {
        Ok(value) => {
            task.result = Some(value);
            task.error = None;
            task.end(State::Succeeded, now());
        }
        Err(text) => {
            let fault = Fault::failed("not_kept", text);
            task.error = serde_json::to_value(&fault).ok();
            task.end(State::Failed, now());
        }
    }
}

#[cfg(test)]
mod tests {
    use rantai_client::wire;

    use super::*;
    use crate::options::Options;

    #[test]
    fn whatever_comes_of_a_task_a_caller_can_read_it() {
        for (levels, state) in [(63, State::Succeeded), (64, State::Failed)] {
            let mut task = Task::new("pages", "add", json!([]), Options::default(), 0).expect("a task");
            let result = (0..levels).fold(json!(1), |value, _| json!([value]));
            succeed(&mut task, Content::Value(result));
            assert_eq!(task.state, state, "{levels} levels");
            assert!(wire::json::read(&serde_json::to_vec(&task).expect("JSON")).is_ok(), "{levels} levels");
        }
    }
}
