//! The objects that the ledger calls, as the ledger sees them: nodes that are there, and calls that wait for an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_client::{CallError, Response};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::disk::Disk;
use crate::objects::Objects;
use crate::task::Task;

/// An object whose methods may be carried out twice.
pub(super) const PLAIN: &str = "printer";
/// The object whose methods are marked `once`.
pub(super) const ONCE: &str = "vault";
/// The object whose results are secret.
pub(super) const SECRET: &str = "safe";

pub(super) const OBJECTS: [&str; 3] = [PLAIN, ONCE, SECRET];
pub(super) const NODES: [&str; 3] = ["one", "two", "three"];

pub(super) type CallResult = Result<Response, CallError>;

/// A call that has not been answered.
pub(super) struct PendingCall {
    pub(super) task: Task,
    pub(super) answer: oneshot::Sender<CallResult>,
    /// Its node is gone.
    pub(super) lost: Arc<Notify>,
}

/// All nodes, and the calls to them.
#[derive(Clone, Default)]
pub(super) struct FakeObjects {
    pub(super) state: Arc<Mutex<FakeState>>,
    /// Once it has stopped, the ledger has been killed and calls nobody.
    disk: Disk,
}

#[derive(Default)]
pub(super) struct FakeState {
    /// Nodes that are there, by object.
    pub(super) nodes: BTreeMap<String, BTreeSet<String>>,
    /// By their number, from 1.
    pub(super) calls: BTreeMap<u64, PendingCall>,
    pub(super) made: u64,
    /// Runs that nodes were told to stop, by identity.
    pub(super) cancelled: BTreeSet<Uuid>,
}

/// Forgets a call that is answered, or not waited for any more.
struct Waiting {
    state: Arc<Mutex<FakeState>>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.state.lock().calls.remove(&self.number);
    }
}

impl FakeObjects {
    /// The same nodes, for a ledger on another disk.
    pub(super) fn of(&self, disk: Disk) -> Self {
        Self { state: self.state.clone(), disk }
    }
}

impl FakeState {
    /// The number of the call that waits for an answer to this identity.
    pub(super) fn waiting_for(&self, identity: Uuid) -> Option<u64> {
        self.calls.iter().find(|(_, call)| call.task.identity() == identity).map(|(number, _)| *number)
    }
}

impl Objects for FakeObjects {
    fn nodes(&self, object: &str) -> Vec<String> {
        self.state.lock().nodes.get(object).into_iter().flatten().cloned().collect()
    }

    async fn call(&self, task: &Task) -> CallResult {
        if self.disk.is_stopped() {
            std::future::pending::<()>().await;
        }
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut state = self.state.lock();
            state.made += 1;
            let number = state.made;
            state.calls.insert(number, PendingCall { task: task.clone(), answer, lost: Arc::default() });
            number
        };
        let _waiting = Waiting { state: self.state.clone(), number };
        answered.await.unwrap_or(Err(CallError::Lost))
    }

    async fn is_once(&self, task: &Task) -> Result<bool, CallError> {
        Ok(task.object == ONCE)
    }

    async fn lost(&self, task: &Task) {
        let lost = {
            let state = self.state.lock();
            let number = state.waiting_for(task.identity());
            number.and_then(|number| state.calls.get(&number)).map(|call| call.lost.clone())
        };
        match lost {
            Some(lost) => lost.notified().await,
            None => std::future::pending().await,
        }
    }

    async fn cancel(&self, task: &Task) {
        self.state.lock().cancelled.insert(task.identity());
    }
}
