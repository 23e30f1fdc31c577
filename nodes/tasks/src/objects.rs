//! Objects that tasks call: on the bus, or in a simulation.

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

/// How long a node may be absent before its reply is given up.
const GRACE: Duration = Duration::from_secs(1);
/// Time limit for an object to describe its methods. It is short because other tasks wait in the meantime.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit for notifying a node of a cancelled task.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Operations on objects that the executor needs.
pub(super) trait Objects: Send + Sync + 'static {
    /// Returns the nodes that serve an object now, sorted by name.
    fn nodes(&self, object: &str) -> Vec<String>;

    /// Calls the method of the task's current run on its node, and waits for the reply.
    fn call(&self, task: &Task) -> impl Future<Output = Result<Response, CallError>> + Send;

    /// Returns whether the method of a task is marked `once`.
    fn is_once(&self, task: &Task) -> impl Future<Output = Result<bool, CallError>> + Send;

    /// Waits until the node that executes the task is gone, so that no reply will arrive.
    fn lost(&self, task: &Task) -> impl Future<Output = ()> + Send;

    /// Notifies the node that executes the task that the task was cancelled.
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
        // The call has the rights of the task's owner, not those of the ledger.
        proxy = match &task.user {
            Some(user) => {
                let user = User::new(user).map_err(|error| Fault::new(Code::DENIED, error.to_string()))?;
                proxy.for_user(&user)
            }
            None => proxy.for_nobody(),
        };
        // The ledger stores a single result, so the reply must not be a stream.
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
                // A node that shuts down in order finishes its calls first.
                self.follower.look(|view| view.finishers(&object).any(|there| Some(there.as_str()) == node))
            };
            if !there() {
                // A node that reconnects does so within this time.
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
