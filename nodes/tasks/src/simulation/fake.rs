//! Objects of the simulation: nodes that remember what they have carried out, and calls that the world answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_client::{CallError, Response};
use tokio::sync::oneshot;

use crate::objects::Objects;
use crate::task::Task;

/// The object whose methods are marked `once`.
pub(super) const ONCE: &str = "vault";

pub(super) type CallResult = Result<Response, CallError>;

/// A call that has not been answered.
pub(super) struct PendingCall {
    pub(super) task: Task,
    pub(super) answer: oneshot::Sender<CallResult>,
}

/// All nodes, and the calls to them.
#[derive(Clone, Default)]
pub(super) struct FakeObjects {
    pub(super) state: Arc<Mutex<FakeState>>,
}

#[derive(Default)]
pub(super) struct FakeState {
    /// Nodes that are there, by object.
    pub(super) nodes: BTreeMap<String, BTreeSet<String>>,
    /// By their number, from 1.
    pub(super) calls: BTreeMap<u64, PendingCall>,
    pub(super) made: u64,
}

impl Objects for FakeObjects {
    fn nodes(&self, object: &str) -> Vec<String> {
        self.state.lock().nodes.get(object).into_iter().flatten().cloned().collect()
    }

    async fn call(&self, task: &Task) -> CallResult {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state.lock();
            state.made += 1;
            let number = state.made;
            state.calls.insert(number, PendingCall { task: task.clone(), answer });
        }
        answered.await.unwrap_or(Err(CallError::Lost))
    }

    async fn is_once(&self, task: &Task) -> Result<bool, CallError> {
        Ok(task.object == ONCE)
    }

    /// The world answers the calls of a node that is gone.
    async fn lost(&self, _: &Task) {
        std::future::pending::<()>().await;
    }

    async fn cancel(&self, _: &Task) {}
}
