//! Descriptions of the objects on the bus, kept up to date as objects come and go.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::object::Description;
use rantai_client::registry::Follower;
use rantai_client::shares::{ShareLimits, Shares};
use rantai_client::wire::name::{BROKER, ClientId, ObjectName};
use rantai_client::{CallError, Client};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use uuid::Uuid;

/// Time limit for an object to describe itself.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for an object's first request, as silent objects delay the others.
const FIRST_DESCRIBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time for which a new gateway waits before it lists objects.
const START_TIMEOUT: Duration = Duration::from_secs(3);
/// Delay before a silent object is asked again.
const SILENT_RETRY_DELAY: Duration = Duration::from_secs(10);
/// Maximum number of objects that are asked at the same time.
const MAX_ASKED_AT_ONCE: u64 = 128;
/// Minimum interval between two scans of the whole registry.
const MIN_SCAN_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum number of known objects.
const MAX_KNOWN_OBJECTS: u64 = 10_000;

/// Descriptions of objects.
#[derive(Debug)]
pub(super) struct Catalog {
    client: Client,
    /// Names and prefixes of the objects that may be called.
    allowed: Vec<String>,
    described: Mutex<BTreeMap<String, Described>>,
    changed: watch::Sender<u64>,
    /// Registry as followed by the gateway, once it is known.
    follower: watch::Sender<Option<Arc<Follower>>>,
    /// Whether all objects that were served at the start have been asked.
    complete: watch::Sender<bool>,
    began: Instant,
}

/// Description of an object, with its node.
#[derive(Clone, Debug)]
struct Described {
    /// Node that serves the object, and its epoch.
    by: By,
    description: Arc<Description>,
}

/// Node of an object, and the epoch of that node.
type By = (String, String);

/// Reply to `rpc.discover`; `None` if it failed.
type Answered = Option<Arc<Description>>;

/// Objects that are being asked, or will be.
#[derive(Debug, Default)]
struct Asking {
    asked: JoinSet<Answered>,
    under_way: HashSet<String>,
    /// Object that each task asks, needed if the task panics.
    of_task: HashMap<Id, (String, By)>,
    queue: VecDeque<(String, By)>,
    /// Objects that did not answer: their node, their position in the order of all silent objects, and the time.
    silent: HashMap<String, (By, u64, Instant)>,
    /// Number of silent objects so far, for their order.
    number: u64,
}

impl Catalog {
    pub(super) fn new(client: Client, allowed: Vec<String>) -> Self {
        Self {
            client,
            allowed,
            described: Mutex::default(),
            changed: watch::Sender::new(0),
            follower: watch::Sender::new(None),
            complete: watch::Sender::new(false),
            began: Instant::now(),
        }
    }

    /// Checks whether an object may be called. The broker's own object is not called by gateways: it is for admins by
    /// connections of their own.
    pub(super) fn allows(&self, object: &str) -> bool {
        object != BROKER && allows(&self.allowed, object)
    }

    /// Returns all objects that are served now. Soon after the gateway's start, waits until they have been asked.
    pub(super) async fn all(&self) -> Vec<(String, Arc<Description>)> {
        let mut complete = self.complete.subscribe();
        let _ = timeout_at(self.began + START_TIMEOUT, complete.wait_for(|&complete| complete)).await;
        let described = self.described.lock();
        described.iter().map(|(name, known)| (name.clone(), known.description.clone())).collect()
    }

    /// Returns the number of changes so far.
    pub(super) fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Returns the description of an object, and asks for it if it is not known.
    ///
    /// # Errors
    ///
    /// The object's own error, or the error that there is no such object.
    pub(super) async fn of(&self, object: &str) -> Result<Arc<Description>, CallError> {
        let known = self.described.lock().get(object).map(|known| known.description.clone());
        match known {
            Some(known) => Ok(known),
            None => self.ask(object, None, DESCRIBE_TIMEOUT).await,
        }
    }

    /// Returns the replica to which all requests with this identity are sent, as each replica detects duplicates by itself;
    /// `None` unless there are several replicas.
    pub(super) async fn replica(&self, object: &str, identity: Uuid) -> Option<ClientId> {
        let object = ObjectName::any(object).ok()?;
        let mut following = self.follower.subscribe();
        let follower = following.wait_for(Option::is_some).await.ok()?.clone()?;
        let serving: Vec<String> =
            follower.look(|view| view.served(&object).map(|entry| entry.node.clone()).collect());
        if serving.len() < 2 {
            return None;
        }
        // Rendezvous hashing: replicas that come or go do not change the assignment of others.
        let weight = |node: &String| *blake3::hash(format!("{identity} {node}").as_bytes()).as_bytes();
        serving.into_iter().max_by_key(weight).and_then(|node| ClientId::new(&node).ok())
    }

    async fn ask(
        &self,
        object: &str,
        node: Option<&str>,
        patience: Duration,
    ) -> Result<Arc<Description>, CallError> {
        let mut proxy = self.client.object(object).deadline(patience).idempotent();
        if let Some(node) = node.and_then(|node| ClientId::new(node).ok()) {
            proxy = proxy.at(node);
        }
        let document: Value = proxy.call("rpc.discover", ()).await?;
        Ok(Arc::new(Description::from_open_rpc(&document)))
    }

    /// Follows the registry, until this future is dropped or the client has ended.
    pub(super) async fn follow(self: Arc<Self>) {
        let follower = loop {
            match self.client.registry().follow().await {
                Ok(follower) => break Arc::new(follower),
                Err(error) => {
                    tracing::warn!("objects are not known yet: {error}");
                    sleep(SILENT_RETRY_DELAY).await;
                }
            }
        };
        let (mut asking, mut changes) = (Asking::default(), follower.changes());
        follower.complete().await;
        // Only now: a repeat that saw some of the replicas would go to another one than the first request.
        self.follower.send_replace(Some(follower.clone()));
        let places = Shares::new(ShareLimits::new(MAX_ASKED_AT_ONCE));
        loop {
            self.forget(&follower);
            asking.look(self.new_ones(&follower));
            let until = Instant::now() + MIN_SCAN_INTERVAL;
            loop {
                self.ask_next(&mut asking, &places);
                if asking.asked.is_empty() {
                    self.complete.send_if_modified(|complete| !std::mem::replace(complete, true));
                }
                tokio::select! {
                    Some(answered) = asking.asked.join_next_with_id() => self.answered(&mut asking, answered),
                    more = changes.changed() => {
                        if more.is_err() {
                            return;
                        }
                        sleep_until(until).await;
                        break;
                    }
                    () = sleep(SILENT_RETRY_DELAY), if asking.asked.is_empty() && !asking.silent.is_empty() => break,
                }
            }
        }
    }

    /// Returns a node for each allowed object that is served. No node has more than its share of the known objects.
    fn served(&self, follower: &Follower) -> BTreeMap<String, By> {
        let limits = ShareLimits::new(MAX_KNOWN_OBJECTS);
        follower.look(|view| {
            let served = view.all().filter(|(entry, served)| *served && self.allows(&entry.object));
            let (mut by_name, mut by_node) = (BTreeMap::new(), HashMap::<&str, u64>::new());
            for (entry, _) in served {
                let of_node = by_node.entry(&entry.node).or_default();
                if by_name.contains_key(&entry.object) || !limits.admits(by_name.len() as u64, *of_node, 1) {
                    continue;
                }
                *of_node += 1;
                by_name.insert(entry.object.clone(), (entry.node.clone(), entry.epoch.clone()));
            }
            by_name
        })
    }

    fn forget(&self, follower: &Follower) {
        let mut described = self.described.lock();
        let before = described.len();
        follower.look(|view| {
            described.retain(|name, known| {
                let Ok(object) = ObjectName::any(name) else { return false };
                view.served(&object).any(|entry| (&entry.node, &entry.epoch) == (&known.by.0, &known.by.1))
            });
        });
        if described.len() != before {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Returns the objects that are served but not known.
    fn new_ones(&self, follower: &Follower) -> Vec<(String, By)> {
        let served = self.served(follower);
        let described = self.described.lock();
        served.into_iter().filter(|(name, _)| !described.contains_key(name)).collect()
    }

    /// Asks queued objects, in their order: as many as may be asked at the same time, and of each node no more than its share.
    fn ask_next(self: &Arc<Self>, asking: &mut Asking, places: &Arc<Shares<String>>) {
        let mut later = VecDeque::new();
        while (places.taken() as u64) < MAX_ASKED_AT_ONCE
            && let Some((name, by)) = asking.queue.pop_front()
        {
            let Some(place) = places.take(&by.0) else {
                later.push_back((name, by));
                continue;
            };
            let patience =
                if asking.silent.contains_key(&name) { DESCRIBE_TIMEOUT } else { FIRST_DESCRIBE_TIMEOUT };
            asking.under_way.insert(name.clone());
            let catalog = self.clone();
            let asked = (name.clone(), by.clone());
            let task = asking.asked.spawn(async move {
                let said = catalog.ask(&name, Some(&by.0), patience).await;
                drop(place);
                let said = said.inspect_err(|error| tracing::debug!("{name} says nothing: {error}"));
                said.ok()
            });
            asking.of_task.insert(task.id(), asked);
        }
        later.append(&mut asking.queue);
        asking.queue = later;
    }

    /// Stores the description of an object; a silent object is asked again after all others.
    fn answered(&self, asking: &mut Asking, answered: Result<(Id, Answered), JoinError>) {
        let Some((name, by, said)) = asking.ended(answered) else { return };
        let Some(description) = said else {
            asking.number += 1;
            asking.silent.insert(name, (by, asking.number, Instant::now()));
            return;
        };
        asking.silent.remove(&name);
        self.described.lock().insert(name, Described { by, description });
        self.changed.send_modify(|version| *version += 1);
    }
}

impl Asking {
    /// Removes an object from those being asked; returns its answer, which is `None` if asking it panicked.
    fn ended(&mut self, answered: Result<(Id, Answered), JoinError>) -> Option<(String, By, Answered)> {
        let (task, said) = answered.unwrap_or_else(|panicked| (panicked.id(), None));
        let (name, by) = self.of_task.remove(&task)?;
        self.under_way.remove(&name);
        Some((name, by, said))
    }

    /// Queues the objects to be asked: first those that were not asked before, then silent ones, beginning with those that were
    /// asked longest ago.
    fn look(&mut self, new: Vec<(String, By)>) {
        let now = Instant::now();
        let known: BTreeMap<&str, &By> = new.iter().map(|(name, by)| (&**name, by)).collect();
        // An object whose node was restarted counts as new.
        self.silent.retain(|name, (by, ..)| known.get(&**name).is_some_and(|now| *now == by));
        let silent = |name: &str| self.silent.get(name);
        let mut queue: Vec<(u64, String, By)> = new
            .into_iter()
            .filter(|(name, _)| {
                !self.under_way.contains(name)
                    && silent(name).is_none_or(|(.., at)| now.duration_since(*at) >= SILENT_RETRY_DELAY)
            })
            .map(|(name, by)| (silent(&name).map_or(0, |(_, number, _)| *number), name, by))
            .collect();
        queue.sort_unstable_by_key(|(number, ..)| *number);
        self.queue = queue.into_iter().map(|(_, name, by)| (name, by)).collect();
    }
}

/// Checks whether a name matches one of these names and prefixes.
pub(super) fn allows(allowed: &[String], object: &str) -> bool {
    allowed.iter().any(|name| match name.strip_suffix('*') {
        Some(prefix) => object.starts_with(prefix),
        None => name == object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_objects_match_names_and_prefixes() {
        let allowed = ["calculator", "example.*"].map(ToOwned::to_owned);
        for (object, expected) in
            [("calculator", true), ("example.chain", true), ("calculators", false), ("tasks", false)]
        {
            assert_eq!(allows(&allowed, object), expected, "{object}");
        }
    }

    /// Regression: 3,000 silent names kept a new object out of the list for minutes.
    #[test]
    fn silent_objects_are_asked_after_all_others() {
        let by = |node: &str| (node.to_owned(), "1".to_owned());
        let entry = |name: &str, node: &str| (name.to_owned(), by(node));
        let mut asking = Asking::default();
        asking.look(vec![entry("a", "mute"), entry("b", "mute"), entry("new", "pi")]);
        let names =
            |asking: &Asking| -> Vec<String> { asking.queue.iter().map(|(name, _)| name.clone()).collect() };
        assert_eq!(names(&asking), ["a", "b", "new"]);
        let long_ago =
            Instant::now().checked_sub(2 * SILENT_RETRY_DELAY).expect("long after the start of the clock");
        asking.silent.insert("a".to_owned(), (by("mute"), 2, long_ago));
        asking.silent.insert("b".to_owned(), (by("mute"), 1, long_ago));
        asking.look(vec![entry("a", "mute"), entry("b", "mute"), entry("new", "pi")]);
        assert_eq!(names(&asking), ["new", "b", "a"], "the longest silent first of those");
        asking.silent.insert("b".to_owned(), (by("mute"), 3, Instant::now()));
        asking.under_way.insert("new".to_owned());
        asking.look(vec![entry("a", "another"), entry("b", "mute"), entry("new", "pi")]);
        assert_eq!(names(&asking), ["a"], "it is another one now, and the others are not asked yet");
        assert!(!asking.silent.contains_key("a"));
    }

    /// Regression: the object stayed in `under_way`, and was never asked again.
    #[tokio::test]
    async fn object_is_asked_again_after_a_panic() {
        let (mut asking, by) = (Asking::default(), ("node".to_owned(), "1".to_owned()));
        let task = asking.asked.spawn(async { panic!("while it was asked") });
        asking.under_way.insert("a".to_owned());
        asking.of_task.insert(task.id(), ("a".to_owned(), by.clone()));
        let answered = asking.asked.join_next_with_id().await.expect("one was asked");
        assert!(asking.ended(answered).is_some_and(|(name, _, said)| name == "a" && said.is_none()));
        asking.look(vec![("a".to_owned(), by)]);
        assert_eq!(asking.queue.len(), 1);
    }
}
