//! Runner of tasks on the bus: connects, follows the registry, and starts again when its session has ended.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::Client;
use rantai_client::client::Builder;
use rantai_client::registry::Follower;
use rantai_client::session::{Filter, Status};
use rantai_client::wire::topic::EventTopic;
use tokio::time::sleep;

use super::executor::Executor;
use super::objects::BusObjects;
use super::shared::LedgerState;
use super::store::is_open;
use super::task::Task;

/// Runs until the future is dropped.
pub(super) async fn run(shared: Arc<LedgerState>, client: Builder) {
    loop {
        load(&shared).await;
        let runner = connected(&shared, &client).await;
        if runner.client.may_act_for_others() == Some(false) {
            tracing::warn!(
                "the ledger may not call for those who submit tasks: the broker refuses its calls; give its user acts_for = \
                 [\"*\"] in broker.toml"
            );
        }
        let mut status = runner.client.status();
        tokio::select! {
            biased;
            _ = async { tokio::join!(runner.executor.work(), runner.watch(), runner.hear()) } => {}
            _ = status.wait_for(|status| matches!(status, Status::Ended(_))) => {}
        }
        if let Status::Ended(reason) = &*status.borrow() {
            tracing::error!("tasks wait: {reason}");
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Adds all open tasks to the agenda.
pub(super) async fn load(shared: &LedgerState) {
    let mut after = None;
    loop {
        match shared.store.list(after, 1_000, is_open) {
            Ok(tasks) => {
                for task in &tasks {
                    shared.agenda.add(task);
                }
                after = tasks.last().map(Task::uuid);
                if tasks.len() < 1_000 {
                    return;
                }
            }
            Err(error) => {
                tracing::error!("the ledger cannot be read: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn connected(shared: &Arc<LedgerState>, client: &Builder) -> Runner {
    loop {
        let error = match client.clone().connect().await {
            Ok(client) => match client.registry().follow().await {
                Ok(follower) => return Runner::new(shared.clone(), client, follower),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        tracing::warn!("tasks wait: {error}");
        sleep(Duration::from_secs(1)).await;
    }
}

struct Runner {
    shared: Arc<LedgerState>,
    client: Client,
    follower: Arc<Follower>,
    executor: Executor<BusObjects>,
}

impl Runner {
    fn new(shared: Arc<LedgerState>, client: Client, follower: Follower) -> Self {
        let follower = Arc::new(follower);
        let objects = BusObjects { client: client.clone(), follower: follower.clone() };
        let executor = Executor::new(shared.clone(), objects);
        *shared.registry.lock() = Some(follower.clone());
        Self { shared, client, follower, executor }
    }

    /// Starts tasks whose object or node has become available.
    async fn watch(&self) {
        let mut changes = self.follower.changes();
        while changes.changed().await.is_ok() {
            self.executor.look_for_absent();
        }
    }

    /// Receives the progress of runs.
    async fn hear(&self) {
        let filter = EventTopic::every_for(self.client.root(), "progress", self.client.id());
        let mut events = match self.client.subscribe(vec![Filter::new(filter).live()]).await {
            Ok(events) => events,
            Err(error) => return tracing::warn!("how far tasks are is not known: {error}"),
        };
        while let Some(message) = events.next().await {
            let identity = message.properties.correlation.as_deref().and_then(|c| c.try_into().ok());
            let progress = serde_json::from_slice(&message.payload);
            if let (Some(identity), Ok(progress)) = (identity.map(u128::from_be_bytes), progress) {
                self.shared.progressed(identity, progress);
            }
        }
    }
}
