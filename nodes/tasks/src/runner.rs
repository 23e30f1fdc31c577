//! Calls objects when tasks are due, and decides what follows from the answer.
//!
//! A task is `running` on disk before it is called, with the node it is called on. Where the answer is lost, with
//! the connection, the node or the ledger, it is called again by the same identity on the same node, which then
//! recognises it.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::client::Builder;
use rantai_client::registry::Follower;
use rantai_client::session::{Filter, Status};
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::ObjectName;
use rantai_client::wire::topic::EventTopic;
use rantai_client::{CallError, Client};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::absent::Absent;
use super::after::{Outcomes, When};
use super::agenda::Entry;
use super::loads::Loads;
use super::run::{AGAIN_MS, Run};
use super::shared::{Shared, UNREAD_MS, now};
use super::store::is_open;
use super::task::{State, Task};
use rantai_commit::DiskError;

/// How often what is older is forgotten.
const SWEEP: Duration = Duration::from_mins(1);
/// How long an object may take to say what its methods are: everything else waits meanwhile.
const ASKED: Duration = Duration::from_secs(1);
/// And after how long it is asked again.
const ASKED_AGAIN_MS: u64 = 5_000;

/// Until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, client: Builder) {
    loop {
        load(&shared).await;
        let runner = connected(&shared, &client).await;
        let mut status = runner.client.status();
        tokio::select! {
            _ = async { tokio::join!(runner.work(), runner.watch(), runner.hear()) } => {}
            _ = status.wait_for(|status| matches!(status, Status::Ended(_))) => {}
        }
        if let Status::Ended(reason) = &*status.borrow() {
            tracing::error!("tasks wait: {reason}");
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Everything that is to be done.
async fn load(shared: &Shared) {
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

async fn connected(shared: &Arc<Shared>, client: &Builder) -> Runner {
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
    shared: Arc<Shared>,
    client: Client,
    follower: Arc<Follower>,
    places: Arc<Semaphore>,
    loads: Arc<Loads>,
    absent: Absent,
}

/// Why a task cannot begin that comes after others.
enum Unfed {
    Disk(DiskError),
    Fault(Fault),
}

impl From<DiskError> for Unfed {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<Fault> for Unfed {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn after_none(task: &Task, index: usize, came_to: &str) -> Fault {
    let before = task.options.after.get(index).map_or("", String::as_str);
    let text = format!("task {before}, which it comes after, {came_to}");
    Fault::failed("dependency_failed", text).with("task", before)
}

/// Where a task may be called.
enum Place {
    At(String),
    /// Nowhere, before this node is there again; without one any node will do.
    Nowhere(Option<String>),
    /// It is to be looked at again in a moment.
    Unknown,
    Full,
}

impl Runner {
    fn new(shared: Arc<Shared>, client: Client, follower: Follower) -> Self {
        let places = Arc::new(Semaphore::new(shared.limits.at_once));
        let loads = Arc::new(Loads::new(shared.limits.clone()));
        let follower = Arc::new(follower);
        Self { shared, client, follower, places, loads, absent: Absent::default() }
    }

    /// What was waited for may have come.
    async fn watch(&self) {
        let mut changes = self.follower.changes();
        while changes.changed().await.is_ok() {
            self.look_for_absent();
        }
    }

    /// What runs say of how far they are.
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

    async fn work(&self) {
        let mut sweep = Instant::now();
        loop {
            if Instant::now() >= sweep {
                sweep = Instant::now() + SWEEP;
                self.forget().await;
            }
            let place = self.places.clone().acquire_owned().await.expect("never closed");
            match self.shared.agenda.next(now()) {
                Ok(id) => {
                    if let Some(begun) = self.begin(id).await {
                        tokio::spawn(async move {
                            begun.carry_out().await;
                            drop(place);
                        });
                    }
                }
                Err(next) => {
                    drop(place);
                    let soon = next.map_or(SWEEP, |when| Duration::from_millis(when.saturating_sub(now())));
                    tokio::select! {
                        () = self.shared.agenda.changed.notified() => {}
                        () = sleep_until((Instant::now() + soon).min(sweep)) => {}
                    }
                }
            }
        }
    }

    /// Tasks whose object, or node, has come are due.
    fn look_for_absent(&self) {
        for entry in self.absent.take(|object| self.nodes(object)) {
            self.shared.agenda.at(now(), entry);
        }
    }

    fn nodes(&self, object: &str) -> Vec<String> {
        nodes(&self.follower, object)
    }

    async fn forget(&self) {
        loop {
            let kept = self.shared.limits.kept.as_millis() as u64;
            match self.shared.store.forget(now().saturating_sub(kept)).await {
                Ok(1_000) => {}
                Ok(_) => return,
                Err(error) => return tracing::error!("{error}"),
            }
        }
    }

    /// On disk as running, where it is to be carried out now.
    async fn begin(&self, id: Uuid) -> Option<Run> {
        let running = self.shared.running.lock().contains_key(&id.as_u128());
        let mut task = match self.shared.store.get(id) {
            Ok(task) => task.filter(is_open)?,
            Err(error) => {
                tracing::error!("{error}");
                self.shared.agenda.at(now() + UNREAD_MS, Entry::unread(id));
                return None;
            }
        };
        if running {
            // Its run is being ended, or is what this was about.
            self.shared.agenda.at(now() + 2 * AGAIN_MS, &task);
            return None;
        }
        if task.state != State::Running && task.expires_ms().is_some_and(|time| time <= now()) {
            task.end(State::Expired, now());
            settle(&self.shared, task).await;
            return None;
        }
        if task.state != State::Running && task.due_ms > now() {
            self.shared.agenda.add(&task);
            return None;
        }
        if task.state != State::Running && !task.options.after.is_empty() && !task.fed {
            match self.feed(task.clone()) {
                Ok(Some(fed)) => task = fed,
                Ok(None) => {
                    if let Some(time) = task.expires_ms() {
                        self.shared.agenda.at(time, &task);
                    }
                    return None;
                }
                Err(Unfed::Disk(error)) => {
                    wait_for_disk(&self.shared, &task, &error);
                    return None;
                }
                Err(Unfed::Fault(fault)) => {
                    task.error = serde_json::to_value(&fault).ok();
                    task.end(State::Failed, now());
                    settle(&self.shared, task).await;
                    return None;
                }
            }
        }
        match self.place(&task).await {
            Place::At(node) => {
                let again = task.state == State::Running;
                if !again {
                    (task.state, task.runs) = (State::Running, task.runs + 1);
                }
                task.node = Some(node);
                // Whoever cancels it from the moment on at which it is on disk finds what to stop.
                let stop = Arc::new(Notify::new());
                self.shared.running.lock().insert(id.as_u128(), stop.clone());
                self.shared.progress.begin(&task);
                self.loads.begun(&task);
                let (shared, client, loads) = (self.shared.clone(), self.client.clone(), self.loads.clone());
                let follower = self.follower.clone();
                let run = Run { task: task.clone(), again, shared, client, follower, loads, stop };
                settle(&self.shared, task).await.then_some(run)
            }
            // It waits for one of them to end.
            Place::Full => None,
            Place::Unknown => {
                self.shared.agenda.at(now() + ASKED_AGAIN_MS, &task);
                None
            }
            Place::Nowhere(node) => {
                if let Some(time) = task.expires_ms() {
                    self.shared.agenda.at(time, &task);
                }
                self.absent.add(&task, node);
                // Between the look and the note it may have come.
                self.look_for_absent();
                None
            }
        }
    }

    /// The task with what came of those it comes after; nothing where one of them has not ended.
    fn feed(&self, mut task: Task) -> Result<Option<Task>, Unfed> {
        let before: Vec<Uuid> = task.before().collect();
        let read = |index: usize| match self.shared.store.get(before[index])? {
            Some(before) => Ok(before),
            None => Err(Unfed::Fault(after_none(&task, index, "is not kept any more"))),
        };
        for (index, id) in before.iter().enumerate() {
            let one = read(index)?;
            if is_open(&one) {
                if self.shared.waits(*id, task.uuid(), index)? {
                    return Ok(None);
                }
            } else if one.state != State::Succeeded && task.options.when == When::Succeeded {
                let came_to = serde_json::to_value(one.state).unwrap_or_default();
                let came_to = format!("has {}", came_to.as_str().unwrap_or_default());
                return Err(Unfed::Fault(after_none(&task, index, &came_to)));
            }
        }
        let mut outcomes = Outcomes::gather(&task.params, before.len(), read)?;
        let params = outcomes.fill(task.params.clone())?;
        task.feed(params);
        Ok(Some(task))
    }

    async fn place(&self, task: &Task) -> Place {
        let nodes = self.nodes(&task.object);
        if !nodes.is_empty() && self.loads.is_full_for(task) {
            return Place::Full;
        }
        let begun = task.node.as_ref().filter(|_| task.state == State::Running);
        match begun {
            _ if nodes.is_empty() => Place::Nowhere(None),
            Some(node) if nodes.contains(node) => Place::At(node.clone()),
            // It may have been carried out where it was. What may not be carried out twice waits for that node.
            Some(node) => match self.is_once(task).await {
                Ok(true) => Place::Nowhere(Some(node.clone())),
                Ok(false) => Place::At(nodes[any_below(nodes.len())].clone()),
                Err(error) => {
                    tracing::debug!(id = task.id, "{error}");
                    Place::Unknown
                }
            },
            None => Place::At(nodes[any_below(nodes.len())].clone()),
        }
    }

    async fn is_once(&self, task: &Task) -> Result<bool, CallError> {
        let object = self.client.object(&task.object).deadline(ASKED);
        let document = object.call::<Value>("rpc.discover", ()).await?;
        let methods = document["methods"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(methods.iter().any(|method| method["name"] == *task.method && method["x-once"] == true))
    }
}

/// Who serves an object now.
fn nodes(follower: &Follower, object: &str) -> Vec<String> {
    let Ok(object) = ObjectName::new(object) else { return Vec::new() };
    follower.look(|view| view.served(&object).map(|entry| entry.node.clone()).collect())
}

/// A number below `most`, another one each time.
fn any_below(most: usize) -> usize {
    (Uuid::new_v4().as_u128() % most.max(1) as u128) as usize
}

/// Stores a task as it is now, and tells of it; false where it has ended meanwhile.
pub(super) async fn settled(shared: &Shared, task: &Task) -> Result<bool, DiskError> {
    let stored = shared.store.update(task.clone()).await?;
    if stored {
        shared.announce(task);
    }
    Ok(stored)
}

/// As [`settled`]; false too where the disk has failed, after which the task is looked at again.
async fn settle(shared: &Shared, task: Task) -> bool {
    settled(shared, &task).await.unwrap_or_else(|error| {
        wait_for_disk(shared, &task, &error);
        false
    })
}

pub(super) fn wait_for_disk(shared: &Shared, task: &Task, error: &DiskError) {
    tracing::error!("{error}");
    shared.agenda.at(now() + 5_000, task);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_node_is_chosen() {
        let seen: HashSet<usize> = (0..100).map(|_| any_below(3)).collect();
        assert_eq!(seen, HashSet::from([0, 1, 2]));
    }
}
