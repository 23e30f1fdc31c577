//! The objects that tasks call: on the bus, or in a simulation.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::registry::Follower;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::{ClientId, ObjectName};
use rantai_client::wire::stream::STREAM_PROPERTY;
use rantai_client::wire::user::User;
use rantai_client::{CallError, Client, Response};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::task::Task;

/// How long a node may be away before its answer is not waited for any more.
const GRACE: Duration = Duration::from_secs(1);
/// Time limit for an object to describe its methods: everything else waits meanwhile.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit for telling a node that a task was cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// What carrying out tasks needs of the objects.
pub(super) trait Objects: Send + Sync + 'static {
    /// Nodes that serve an object now, in the order of their names.
    fn nodes(&self, object: &str) -> Vec<String>;

    /// Makes the present run of a task on its node, and waits for the answer.
    fn call(&self, task: &Task) -> impl Future<Output = Result<Response, CallError>> + Send;

    /// Whether the method of a task is marked `once`.
    fn is_once(&self, task: &Task) -> impl Future<Output = Result<bool, CallError>> + Send;

    /// Waits until the node that carries a task out is gone, so that no answer will come from it.
    fn lost(&self, task: &Task) -> impl Future<Output = ()> + Send;

    /// Tells the node that carries a task out that it was cancelled.
    fn cancel(&self, task: &Task) -> impl Future<Output = ()> + Send;
}

/// Objects on the bus.
pub(super) struct BusObjects {
    pub(super) client: Client,
    pub(super) follower: Arc<Follower>,
}

impl Objects for BusObjects {
    fn nodes(&self, object: &str) -> Vec<String> {
        let Ok(object) = ObjectName::new(object) else { return Vec::new() };
        self.follower.look(|view| view.served(&object).map(|entry| entry.node.clone()).collect())
    }

    async fn call(&self, task: &Task) -> Result<Response, CallError> {
        let Task { object, method, node, options, .. } = task;
        let mut proxy = self.client.object(object).deadline(Duration::from_millis(options.timeout_ms));
        if let Some(node) = node.as_deref().and_then(|node| ClientId::new(node).ok()) {
            proxy = proxy.at(node);
        }
        // With the owner's rights, and not with those of the ledger.
        proxy = match &task.user {
            Some(user) => {
                let user = User::new(user).map_err(|error| Fault::new(Code::DENIED, error.to_string()))?;
                proxy.for_user(&user)
            }
            None => proxy.for_nobody(),
        };
        // What it keeps is one result.
        let request = proxy.request(method).identity(task.identity()).property(STREAM_PROPERTY, "0");
        match task.payload() {
            Some(payload) => request.payload(payload.to_owned()).send().await,
            None => request.params(&task.params).send().await,
        }
    }

    async fn is_once(&self, task: &Task) -> Result<bool, CallError> {
        let object = self.client.object(&task.object).deadline(DESCRIBE_TIMEOUT);
        let document = object.call::<Value>("rpc.discover", ()).await?;
        let methods = document["methods"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(methods.iter().any(|method| method["name"] == *task.method && method["x-once"] == true))
    }

    async fn lost(&self, task: &Task) {
        let mut changes = self.follower.changes();
        loop {
            let there = || {
                let Ok(object) = ObjectName::new(&task.object) else { return true };
                let node = task.node.as_deref();
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

    async fn cancel(&self, task: &Task) {
        let Some(node) = task.node.as_deref().and_then(|node| ClientId::new(node).ok()) else { return };
        let identity = json!([task.identity().simple().to_string()]);
        let object = self.client.object(&task.object).at(node).deadline(CANCEL_TIMEOUT);
        if let Err(error) = object.call::<Value>("rpc.cancel", &identity).await {
            tracing::debug!(id = task.id, "{error}");
        }
    }
}
