//! Objects that the ledger calls, from the ledger's point of view: available nodes, and calls that wait for an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rantai_client::{CallError, Response};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::disk::Disk;
use crate::objects::Objects;
use crate::task::Task;

/// Object whose methods may be executed twice.
pub(super) const PLAIN: &str = "printer";
/// Object whose methods are marked `once`.
pub(super) const ONCE: &str = "vault";
/// Object whose results are secret.
pub(super) const SECRET: &str = "safe";

pub(super) const OBJECTS: [&str; 3] = [PLAIN, ONCE, SECRET];
pub(super) const NODES: [&str; 3] = ["one", "two", "three"];

pub(super) type CallResult = Result<Response, CallError>;

/// Call without an answer so far.
pub(super) struct PendingCall {
    pub(super) task: Task,
    pub(super) answer: oneshot::Sender<CallResult>,
    /// Notified when its node is gone.
    pub(super) lost: Arc<Notify>,
}

/// All nodes, and the calls to them.
#[derive(Clone, Default)]
pub(super) struct FakeObjects {
    pub(super) state: Arc<Mutex<FakeState>>,
    /// Disk of the ledger. Once it has stopped, the ledger counts as killed, and calls no objects.
    disk: Disk,
}

#[derive(Default)]
pub(super) struct FakeState {
    /// Available nodes, by object.
    pub(super) nodes: BTreeMap<String, BTreeSet<String>>,
    /// Calls by number, from 1.
    pub(super) calls: BTreeMap<u64, PendingCall>,
    pub(super) made: u64,
    /// Runs that nodes were told to cancel, by identity.
    pub(super) cancelled: BTreeSet<Uuid>,
}

/// Removes a call on drop: when it is answered, or no longer waited for.
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
    /// Returns the same nodes, for a ledger on another disk.
    pub(super) fn of(&self, disk: Disk) -> Self {
        Self { state: self.state.clone(), disk }
    }
}

impl FakeState {
    /// Returns the number of the call that waits for an answer with this identity.
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
