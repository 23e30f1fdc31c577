//! Executor of due tasks: decides whether to call each, on which node and with which parameters.
//!
//! A task is stored as `running`, with its node, before it is called. If the reply is lost, because of the connection,
//! the node or the ledger, the task is called again with the same identity on the same node, which detects the repeat.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::wire::fault::Fault;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::absent::Absent;
use super::after::{Outcomes, When};
use super::agenda::AgendaEntry;
use super::loads::Loads;
use super::objects::Objects;
use super::run::{AGAIN_MS, Run};
use super::shared::{LedgerState, UNREAD_MS};
use super::store::is_open;
use super::task::{State, Task, check_method};
use rantai_commit::DiskError;

/// Interval of removing tasks that ended long ago.
const FORGET_INTERVAL: Duration = Duration::from_mins(1);
/// Delay before an object that did not describe its methods is asked again, in milliseconds.
const DESCRIBE_RETRY_MS: u64 = 5_000;

/// Executor of tasks.
pub(super) struct Executor<O: Objects> {
    shared: Arc<LedgerState>,
    objects: Arc<O>,
    places: Arc<Semaphore>,
    loads: Arc<Loads>,
    absent: Absent,
}

/// Reason why a task cannot begin although its dependencies have ended.
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

/// Decision about the node of a task.
enum NodeChoice {
    At(String),
    /// No node: the task waits for this one, or for any if that is `None`.
    Nowhere(Option<String>),
    /// Not known: the task is checked again after a delay.
    Unknown,
    Full,
}

impl<O: Objects> Executor<O> {
    pub(super) fn new(shared: Arc<LedgerState>, objects: O) -> Self {
        let places = Arc::new(Semaphore::new(shared.limits.at_once));
        let loads = Arc::new(Loads::new(shared.limits.clone()));
        Self { shared, objects: Arc::new(objects), places, loads, absent: Absent::default() }
    }

    /// Executes due tasks, until the future is dropped.
    pub(super) async fn work(&self) {
        let mut forget_at = Instant::now();
        loop {
            if Instant::now() >= forget_at {
                forget_at = Instant::now() + FORGET_INTERVAL;
                self.forget().await;
            }
            let place = self.places.clone().acquire_owned().await.expect("never closed");
            match self.shared.agenda.next(self.shared.now()) {
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
                    let soon = next.map_or(FORGET_INTERVAL, |when| {
                        Duration::from_millis(when.saturating_sub(self.shared.now()))
                    });
                    tokio::select! {
                        biased;
                        () = self.shared.agenda.changed.notified() => {}
                        () = sleep_until((Instant::now() + soon).min(forget_at)) => {}
                    }
                }
            }
        }
    }

    /// Makes tasks due whose object or node has become available.
    pub(super) fn look_for_absent(&self) {
        for entry in self.absent.take(|object| self.objects.nodes(object)) {
            self.shared.agenda.at(self.shared.now(), entry);
        }
    }

    /// Removes tasks that ended longer ago than they are kept.
    pub(super) async fn forget(&self) {
        loop {
            let kept = u64::try_from(self.shared.limits.kept.as_millis()).unwrap_or(u64::MAX);
            match self.shared.store.forget(self.shared.now().saturating_sub(kept)).await {
                Ok(1_000) => {}
                Ok(_) => return,
                Err(error) => return tracing::error!("{error}"),
            }
        }
    }

    /// Stores a task as running, and returns its run. `None` if it is not to be called now.
    pub(super) async fn begin(&self, id: Uuid) -> Option<Run<O>> {
        let begun = self.begin_one(id).await;
        // If the task held a place and does not use it, another task may have it.
        for entry in self.loads.passed_over(id) {
            self.shared.agenda.at(self.shared.now(), entry);
        }
        begun
    }

    async fn begin_one(&self, id: Uuid) -> Option<Run<O>> {
        let running = self.shared.running.lock().contains_key(&id.as_u128());
        let mut task = match self.shared.store.get(id) {
            Ok(task) => task.filter(is_open)?,
            Err(error) => {
                tracing::error!("{error}");
                self.shared.agenda.at(self.shared.now() + UNREAD_MS, AgendaEntry::unread(id));
                return None;
            }
        };
        if running {
            // The run is about to end, or is the one that this call was meant to start.
            self.shared.agenda.at(self.shared.now() + 2 * AGAIN_MS, &task);
            return None;
        }
        if task.state != State::Running && task.expires_ms().is_some_and(|time| time <= self.shared.now()) {
            task.end(State::Expired, self.shared.now());
            self.settle(task).await;
            return None;
        }
        if task.state != State::Running && task.due_ms > self.shared.now() {
            self.shared.agenda.add(&task);
            return None;
        }
        if let Err(fault) = check_method(&task.method) {
            // An earlier version accepted the method.
            task.error = serde_json::to_value(&fault).ok();
            task.end(State::Failed, self.shared.now());
            self.settle(task).await;
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
                    self.shared.wait_for_disk(&task, &error);
                    return None;
                }
                Err(Unfed::Fault(fault)) => {
                    task.error = serde_json::to_value(&fault).ok();
                    task.end(State::Failed, self.shared.now());
                    self.settle(task).await;
                    return None;
                }
            }
        }
        match self.place(&task).await {
            NodeChoice::At(node) => {
                let again = task.state == State::Running;
                if !again {
                    task.begin_run(self.shared.draw_correlation());
                }
                task.node = Some(node);
                // The run is registered before it is stored as running, so that a cancel finds what to stop.
                let stop = Arc::new(Notify::new());
                self.shared.running.lock().insert(id.as_u128(), stop.clone());
                self.shared.progress.begin(&task);
                self.loads.begun(&task);
                let (shared, objects, loads) =
                    (self.shared.clone(), self.objects.clone(), self.loads.clone());
                let run = Run { task: task.clone(), again, shared, objects, loads, stop };
                self.settle(task).await.then_some(run)
            }
            // The task waits for another one to end.
            NodeChoice::Full => None,
            NodeChoice::Unknown => {
                self.shared.agenda.at(self.shared.now() + DESCRIBE_RETRY_MS, &task);
                None
            }
            NodeChoice::Nowhere(node) => {
                // A task that was called does not expire: it waits for its node, however long.
                if task.state != State::Running
                    && let Some(time) = task.expires_ms()
                {
                    self.shared.agenda.at(time, &task);
                }
                self.absent.add(&task, node);
                // The node may have become available between the check and the registration.
                self.look_for_absent();
                None
            }
        }
    }

    /// Returns the task with the results of its dependencies in its parameters; `None` if a dependency has not ended.
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

    async fn place(&self, task: &Task) -> NodeChoice {
        let nodes = self.objects.nodes(&task.object);
        if !nodes.is_empty() && self.loads.is_full_for(task) {
            return NodeChoice::Full;
        }
        let begun = task.node.as_ref().filter(|_| task.state == State::Running);
        match begun {
            _ if nodes.is_empty() => NodeChoice::Nowhere(None),
            Some(node) if nodes.contains(node) => NodeChoice::At(node.clone()),
            // The task may have been executed on that node. A `once` method must wait for that node; others may be
            // repeated elsewhere.
            Some(node) => match self.objects.is_once(task).await {
                Ok(true) => NodeChoice::Nowhere(Some(node.clone())),
                Ok(false) => NodeChoice::At(self.any(nodes)),
                Err(error) => {
                    tracing::debug!(id = task.id, "{error}");
                    NodeChoice::Unknown
                }
            },
            None => NodeChoice::At(self.any(nodes)),
        }
    }

    /// Returns one of the nodes, chosen at random.
    fn any(&self, mut nodes: Vec<String>) -> String {
        let index = self.shared.environment.random_below(nodes.len() as u64);
        nodes.swap_remove(index as usize)
    }

    /// Stores the current state of a task, and announces it. Returns false if the task has ended in the meantime, or if
    /// the disk has failed, in which case the task is checked again later.
    async fn settle(&self, task: Task) -> bool {
        self.shared.settle(&task).await.unwrap_or_else(|error| {
            self.shared.wait_for_disk(&task, &error);
            false
        })
    }
}
