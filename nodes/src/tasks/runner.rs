//! Calls objects when tasks are due, and decides what follows from the answer.
//!
//! A task is `running` on disk before it is called, with the node it is called on. Where the answer is lost, with
//! the connection, the node or the ledger, it is called again by the same identity on the same node, which then
//! recognises it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::client::Builder;
use rantai_client::registry::Follower;
use rantai_client::session::Filter;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::{ClientId, ObjectName};
use rantai_client::wire::topic::EventTopic;
use rantai_client::{CallError, Client, Content, Response};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::ledger::{Shared, now};
use super::store::is_open;
use super::task::{State, Task};
use crate::commit::DiskError;

/// Tasks carried out at the same time, and of one object.
const AT_ONCE: usize = 64;
const OF_ONE_OBJECT: usize = 32;
/// How long ended tasks are kept.
const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// How often what is older is forgotten.
const SWEEP: Duration = Duration::from_mins(1);
/// Waits before a call is made again that reached nobody, or whose answer was lost.
const AGAIN_MS: u64 = 500;
/// How long a node may be away before its answer is not waited for any more.
const GRACE: Duration = Duration::from_secs(1);
/// The largest result kept, in bytes of JSON.
const LARGEST: usize = 256 << 10;

/// What is to be done, and when.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// When, the priority the wrong way round, and which.
    due: Mutex<BTreeSet<(u64, u8, u128)>>,
    changed: Notify,
}

impl Agenda {
    pub(super) fn add(&self, task: &Task) {
        self.at(task.due_ms, task);
    }

    fn at(&self, when: u64, task: &Task) {
        self.due.lock().insert((when, 9 - task.options.priority, task.uuid().as_u128()));
        self.changed.notify_one();
    }

    /// Of what is due, what has the highest priority; or when something will be.
    fn next(&self, now: u64) -> Result<Uuid, Option<u64>> {
        let mut due = self.due.lock();
        // Those that are due stand in front; a thousand of them are enough to choose from.
        let chosen = due.iter().take_while(|(when, ..)| *when <= now).take(1_000);
        let chosen = chosen.min_by_key(|(when, priority, _)| (*priority, *when)).copied();
        match chosen {
            Some(chosen) => {
                due.remove(&chosen);
                Ok(Uuid::from_u128(chosen.2))
            }
            None => Err(due.first().map(|(when, ..)| *when)),
        }
    }
}

/// Until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, client: Builder) {
    let mut after = None;
    loop {
        match shared.store.list(after, 1_000, is_open) {
            Ok(tasks) => {
                for task in &tasks {
                    shared.agenda.add(task);
                }
                after = tasks.last().map(Task::uuid);
                if tasks.len() < 1_000 {
                    break;
                }
            }
            Err(error) => {
                tracing::error!("the ledger cannot be read: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
    loop {
        let error = match client.clone().connect().await {
            Ok(client) => match client.registry().follow().await {
                Ok(follower) => {
                    let runner = Arc::new(Runner::new(shared, client, follower));
                    tokio::join!(runner.work(), runner.watch(), runner.hear());
                    return;
                }
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
    /// Tasks whose object nobody serves.
    absent: Arc<Mutex<HashMap<String, Vec<Task>>>>,
}

/// Where a task may be called.
enum Place {
    At(String),
    Nowhere,
    Full,
}

impl Runner {
    fn new(shared: Arc<Shared>, client: Client, follower: Follower) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let follower = Arc::new(follower);
        Self { shared, client, follower, places, loads: Arc::default(), absent: Arc::default() }
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

    /// Tasks whose object has come are due.
    fn look_for_absent(&self) {
        let mut absent = self.absent.lock();
        absent.retain(|object, tasks| {
            if self.nodes(object).is_empty() {
                return true;
            }
            for task in tasks {
                self.shared.agenda.at(now(), task);
            }
            false
        });
    }

    fn nodes(&self, object: &str) -> Vec<String> {
        nodes(&self.follower, object)
    }

    async fn forget(&self) {
        loop {
            match self.shared.store.forget(now().saturating_sub(KEPT_MS)).await {
                Ok(1_000) => {}
                Ok(_) => return,
                Err(error) => return tracing::error!("{error}"),
            }
        }
    }

    /// On disk as running, where it is to be carried out now.
    async fn begin(&self, id: Uuid) -> Option<Begun> {
        let running = self.shared.running.lock().contains_key(&id.as_u128());
        let mut task = match self.shared.store.get(id) {
            Ok(task) => task.filter(is_open)?,
            Err(error) => {
                tracing::error!("{error}");
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
        match self.place(&task).await {
            Place::At(node) => {
                let again = task.state == State::Running;
                if !again {
                    (task.state, task.runs) = (State::Running, task.runs + 1);
                }
                task.node = Some(node);
                if !settle(&self.shared, task.clone()).await {
                    return None;
                }
                self.loads.begun(&task);
                let stop = Arc::new(Notify::new());
                self.shared.running.lock().insert(id.as_u128(), stop.clone());
                self.shared.watch(&task);
                let (shared, client, loads) = (self.shared.clone(), self.client.clone(), self.loads.clone());
                let follower = self.follower.clone();
                Some(Begun { task, again, shared, client, follower, loads, stop })
            }
            // It waits for one of them to end.
            Place::Full => None,
            Place::Nowhere => {
                if let Some(time) = task.expires_ms() {
                    self.shared.agenda.at(time, &task);
                }
                self.absent.lock().entry(task.object.clone()).or_default().push(task.clone());
                // Between the look and the note it may have come.
                self.look_for_absent();
                None
            }
        }
    }

    async fn place(&self, task: &Task) -> Place {
        let nodes = self.nodes(&task.object);
        if !nodes.is_empty() && self.loads.is_full_for(task) {
            return Place::Full;
        }
        let begun = task.node.as_ref().filter(|_| task.state == State::Running);
        match begun {
            _ if nodes.is_empty() => Place::Nowhere,
            Some(node) if nodes.contains(node) => Place::At(node.clone()),
            // It may have been carried out where it was. What may not be carried out twice waits for that node.
            Some(_) if self.is_once(task).await => Place::Nowhere,
            _ => Place::At(nodes[any_below(nodes.len())].clone()),
        }
    }

    async fn is_once(&self, task: &Task) -> bool {
        let document = self.client.object(&task.object).call::<Value>("rpc.discover", ()).await;
        let Ok(document) = document else { return true };
        let methods = document["methods"].as_array().map(Vec::as_slice).unwrap_or_default();
        methods.iter().any(|method| method["name"] == *task.method && method["x-once"] == true)
    }
}

/// How much each object has to do.
#[derive(Debug, Default)]
struct Loads {
    by_object: Mutex<HashMap<String, Load>>,
}

#[derive(Debug, Default)]
struct Load {
    running: usize,
    /// Tasks that are due, and wait for a place.
    waiting: VecDeque<Task>,
}

impl Loads {
    /// Whether the task's object has enough to do; the task waits then.
    fn is_full_for(&self, task: &Task) -> bool {
        let mut loads = self.by_object.lock();
        let Some(load) = loads.get_mut(&task.object).filter(|load| load.running >= OF_ONE_OBJECT) else {
            return false;
        };
        load.waiting.push_back(task.clone());
        true
    }

    fn begun(&self, task: &Task) {
        self.by_object.lock().entry(task.object.clone()).or_default().running += 1;
    }

    /// Tasks that may be looked at again, as one of their object has ended.
    fn ended(&self, task: &Task) -> Vec<Task> {
        let mut loads = self.by_object.lock();
        let Some(load) = loads.get_mut(&task.object) else { return Vec::new() };
        load.running = load.running.saturating_sub(1);
        // Some of them may have been cancelled: when nothing runs any more, nobody would free a place for the rest.
        let places = if load.running == 0 { load.waiting.len() } else { OF_ONE_OBJECT - load.running };
        let next = load.waiting.drain(..places.min(load.waiting.len())).collect();
        if load.running == 0 {
            loads.remove(&task.object);
        }
        next
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

/// Stores a task as it is now, and tells of it; false where it has ended meanwhile, or the disk has failed.
async fn settle(shared: &Shared, task: Task) -> bool {
    match shared.store.update(task.clone()).await {
        Ok(true) => {
            shared.announce(&task);
            true
        }
        Ok(false) => false,
        Err(error) => {
            wait_for_disk(shared, &task, &error);
            false
        }
    }
}

fn wait_for_disk(shared: &Shared, task: &Task, error: &DiskError) {
    tracing::error!("{error}");
    shared.agenda.at(now() + 5_000, task);
}

/// A task that is being carried out.
struct Begun {
    task: Task,
    /// It was called before, and nobody knows what came of it.
    again: bool,
    shared: Arc<Shared>,
    client: Client,
    follower: Arc<Follower>,
    loads: Arc<Loads>,
    stop: Arc<Notify>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.shared.running.lock().remove(&self.task.uuid().as_u128());
        self.shared.unwatch(&self.task);
        for task in self.loads.ended(&self.task) {
            self.shared.agenda.at(now(), &task);
        }
        self.shared.agenda.changed.notify_one();
    }
}

impl Begun {
    async fn carry_out(self) {
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
        if settle(&shared, task.clone()).await && open {
            shared.agenda.add(&task);
        }
    }

    async fn call(&self) -> Result<Response, CallError> {
        let Task { object, method, params, node, options, .. } = &self.task;
        let mut proxy = self.client.object(object).deadline(Duration::from_millis(options.timeout_ms));
        if let Some(node) = node.as_deref().and_then(|node| ClientId::new(node).ok()) {
            proxy = proxy.at(node);
        }
        let request = proxy.request(method).identity(self.task.identity());
        request.params(params).send().await
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
        Content::Value(value) if value.to_string().len() <= LARGEST => Ok(value),
        Content::Value(_) => Err("its result is too large to be kept"),
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
    use super::super::task::Options;
    use super::*;

    #[test]
    fn tasks_of_a_busy_object_wait_and_are_let_go_as_others_end() {
        let (loads, mut running) = (Loads::default(), Vec::new());
        let task = || Task::new("pages", "add", json!([]), Options::default(), 0).expect("a task");
        for _ in 0..OF_ONE_OBJECT {
            let task = task();
            assert!(!loads.is_full_for(&task));
            loads.begun(&task);
            running.push(task);
        }
        let waiting: Vec<Task> = (0..40).map(|_| task()).collect();
        assert!(waiting.iter().all(|task| loads.is_full_for(task)));
        assert_eq!(loads.ended(&running.pop().expect("one")), [waiting[0].clone()]);
        // Those that were let go have been cancelled: nothing of theirs will end.
        let mut let_go = 1;
        while let Some(task) = running.pop() {
            let_go += loads.ended(&task).len();
        }
        assert_eq!(let_go, 40);
        assert!(loads.by_object.lock().is_empty());
    }

    #[test]
    fn of_what_is_due_the_highest_goes_first() {
        let agenda = Agenda::default();
        let task = |priority, delay_ms| {
            let options = Options { delay_ms, priority, ..Options::default() };
            Task::new("pages", "add", json!([]), options, 0).expect("a task")
        };
        let tasks = [task(5, 10), task(9, 20), task(1, 0), task(9, 5_000)];
        for task in &tasks {
            agenda.add(task);
        }
        let order: Vec<Uuid> = (0..3).map(|_| agenda.next(100).expect("due")).collect();
        assert_eq!(order, [tasks[1].uuid(), tasks[0].uuid(), tasks[2].uuid()]);
        assert_eq!(agenda.next(100), Err(Some(5_000)));
        assert_eq!(agenda.next(5_000), Ok(tasks[3].uuid()));
        assert_eq!(agenda.next(u64::MAX), Err(None));
        let seen: std::collections::HashSet<usize> = (0..100).map(|_| any_below(3)).collect();
        assert_eq!(seen, std::collections::HashSet::from([0, 1, 2]));
    }
}
