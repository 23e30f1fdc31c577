//! Run of a task: the call, and the handling of its outcome.

use std::sync::Arc;

use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::json::levels;
use rantai_client::{CallError, Content, Environment};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::loads::Loads;
use super::objects::Objects;
use super::secrets::Secrets;
use super::shared::LedgerState;
use super::store::is_open;
use super::task::{MAX_DEPTH, State, Task};

/// Delay before a call is repeated that reached no object or whose reply was lost, in milliseconds.
pub(super) const AGAIN_MS: u64 = 500;
/// Maximum size of a stored result, in bytes of JSON.
const MAX_RESULT_BYTES: usize = 256 << 10;

/// Task that is being executed.
pub(super) struct Run<O: Objects> {
    pub(super) task: Task,
    /// Whether the task was called before, with an unknown outcome.
    pub(super) again: bool,
    pub(super) shared: Arc<LedgerState>,
    pub(super) objects: Arc<O>,
    pub(super) loads: Arc<Loads>,
    pub(super) stop: Arc<Notify>,
}

impl<O: Objects> Drop for Run<O> {
    fn drop(&mut self) {
        self.shared.running.lock().remove(&self.task.uuid().as_u128());
        self.shared.progress.end(&self.task);
        for entry in self.loads.ended(&self.task) {
            self.shared.agenda.at(self.shared.now(), entry);
        }
        self.shared.agenda.changed.notify_one();
    }
}

impl<O: Objects> Run<O> {
    pub(super) async fn carry_out(self) {
        let called = tokio::select! {
            biased;
            called = self.objects.call(&self.task) => called,
            // The task was cancelled on disk: the node that executes it is notified.
            () = self.stop.notified() => return self.objects.cancel(&self.task).await,
            () = self.objects.lost(&self.task) => Err(CallError::Lost),
        };
        let mut task = self.task.clone();
        match called {
            Ok(response) => {
                task.repeats += u32::from(response.repeated);
                match response.outcome {
                    Ok(content) => {
                        let secret = response.secret.then_some(&self.shared.secrets);
                        succeed(&mut task, content, secret, self.shared.now());
                    }
                    Err(fault) if self.again && reached_nobody(&fault) => return self.once_more(&fault),
                    // The node has shut down in order, and has ended the method: handled as if it had been killed.
                    Err(fault) if ended_with_node(&fault, response.node.as_deref()) => {
                        return self.shared.agenda.at(self.shared.now() + AGAIN_MS, &task);
                    }
                    Err(fault) => fail(&mut task, &fault, &self.shared.environment),
                }
            }
            Err(CallError::Fault(fault)) if self.again && reached_nobody(&fault) => {
                return self.once_more(&fault);
            }
            Err(CallError::Fault(fault)) if !fault.maybe_executed() => {
                fail(&mut task, &fault, &self.shared.environment);
            }
            // It is not known whether the task was executed: the same call is repeated on the same node.
            Err(error) => {
                tracing::debug!(id = task.id, "{error}");
                return self.shared.agenda.at(self.shared.now() + AGAIN_MS, &task);
            }
        }
        let (open, shared) = (is_open(&task), self.shared.clone());
        // The outcome waits until the disk works again, because another call would be another run.
        loop {
            match shared.settle(&task).await {
                Ok(stored) => {
                    if stored && open {
                        shared.agenda.add(&task);
                    }
                    return;
                }
                Err(error) if error.is_retryable() => sleep(error.retry_after()).await,
                Err(error) => return shared.wait_for_disk(&task, &error),
            }
        }
    }

    /// Schedules the same call again: the outcome of the first call is still not known, so the task stays `running`.
    fn once_more(&self, fault: &Fault) {
        self.shared.agenda.at(self.shared.now() + wait_after(fault), &self.task);
    }
}

/// Returns whether the fault means that the method was not started.
fn reached_nobody(fault: &Fault) -> bool {
    let names_it =
        matches!(fault.code, Code::UNKNOWN_OBJECT | Code::LOST_OBJECT | Code::EXPIRED | Code::BUSY);
    names_it && !fault.maybe_executed()
}

/// Returns whether the fault, sent by `node`, means that this node has ended while it executed the method.
fn ended_with_node(fault: &Fault, node: Option<&str>) -> bool {
    fault.code == Code::LOST_OBJECT
        && fault.maybe_executed()
        && fault.data.get("node").and_then(Value::as_str) == node
}

fn wait_after(fault: &Fault) -> u64 {
    fault.data.get("retry_after_ms").and_then(Value::as_u64).unwrap_or(AGAIN_MS)
}

fn fail(task: &mut Task, fault: &Fault, environment: &Environment) {
    if reached_nobody(fault) {
        // This does not count as a run.
        task.runs = task.runs.saturating_sub(1);
        task.state = if task.runs == 0 { State::Queued } else { State::Retrying };
        task.due_ms = environment.now_ms() + wait_after(fault);
    } else {
        task.failed(fault, environment.now_ms(), environment.random_fraction());
    }
}

fn succeed(task: &mut Task, content: Content, secrets: Option<&Secrets>, now: u64) {
    let kept = match content {
        Content::Value(value) if value.to_string().len() > MAX_RESULT_BYTES => {
            Err("its result is too large to be kept")
        }
        Content::Value(value) if levels(&value) > MAX_DEPTH => Err("its result nests too deep to be kept"),
        Content::Value(value) => Ok(value),
        Content::Binary(_) => Err("its result is binary, which is not kept"),
    };
    match kept {
        Ok(value) => {
            match secrets {
                Some(secrets) => {
                    task.secret = true;
                    secrets.put(task, &value);
                }
                None => task.result = Some(value),
            }
            task.error = None;
            task.end(State::Succeeded, now);
        }
        Err(text) => {
            let fault = Fault::failed("not_kept", text);
            task.error = serde_json::to_value(&fault).ok();
            task.end(State::Failed, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use rantai_client::wire;

    use super::*;
    use crate::options::Options;
    use serde_json::json;
    use uuid::Uuid;

    #[test]
    fn every_outcome_of_a_task_is_readable_by_callers() {
        for (levels, state) in [(63, State::Succeeded), (64, State::Failed)] {
            let mut task =
                Task::new(Uuid::now_v7(), "pages", "add", json!([]), Options::default(), 0).expect("a task");
            let result = (0..levels).fold(json!(1), |value, _| json!([value]));
            succeed(&mut task, Content::Value(result), None, 1);
            assert_eq!(task.state, state, "{levels} levels");
            assert!(wire::json::read(&serde_json::to_vec(&task).expect("JSON")).is_ok(), "{levels} levels");
        }
    }
}
