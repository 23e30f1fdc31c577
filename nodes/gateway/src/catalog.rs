//! What the objects on the bus say of themselves, kept current as they come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::object::Description;
use rantai_client::registry::Follower;
use rantai_client::wire::name::{ClientId, ObjectName};
use rantai_client::{CallError, Client};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

/// How long an object has to describe itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// The wait before it is asked again after it did not.
const AGAIN: Duration = Duration::from_secs(10);
/// Objects that are asked at the same time.
const AT_ONCE: usize = 16;
/// The most objects that are known.
const KNOWN: usize = 10_000;

/// What the objects say of themselves.
#[derive(Debug)]
pub(super) struct Catalog {
    client: Client,
    /// Which may be called at all.
    allowed: Vec<String>,
    described: Mutex<BTreeMap<String, Described>>,
    changed: watch::Sender<u64>,
    /// Who is there, once that is known.
    follower: watch::Sender<Option<Arc<Follower>>>,
}

/// What an object said, and who it was.
#[derive(Clone, Debug)]
struct Described {
    /// The node, and of which start.
    by: (String, String),
    description: Arc<Description>,
}

/// An object that was asked, its node and that node's start, and what it said.
type Answered = (String, (String, String), Option<Arc<Description>>);

impl Catalog {
    pub(super) fn new(client: Client, allowed: Vec<String>) -> Self {
        let (changed, follower) = (watch::Sender::new(0), watch::Sender::new(None));
        Self { client, allowed, described: Mutex::default(), changed, follower }
    }

    /// Whether an object may be called.
    pub(super) fn allows(&self, object: &str) -> bool {
        allows(&self.allowed, object)
    }

    /// Every object that is served now.
    pub(super) fn all(&self) -> Vec<(String, Arc<Description>)> {
        let described = self.described.lock();
        described.iter().map(|(name, known)| (name.clone(), known.description.clone())).collect()
    }

    /// How often what is known has changed.
    pub(super) fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// What an object says of itself; it is asked where that is not known.
    ///
    /// # Errors
    ///
    /// Whatever it answers instead, and that there is no such object.
    pub(super) async fn of(&self, object: &str) -> Result<Arc<Description>, CallError> {
        let known = self.described.lock().get(object).map(|known| known.description.clone());
        match known {
            Some(known) => Ok(known),
            None => self.ask(object, None).await,
        }
    }

    /// The one of several replicas that every request of this identity goes to, as each of them remembers for itself;
    /// nothing where there are not several.
    pub(super) async fn replica(&self, object: &str, identity: Uuid) -> Option<ClientId> {
        let object = ObjectName::any(object).ok()?;
        let mut following = self.follower.subscribe();
        let follower = following.wait_for(Option::is_some).await.ok()?.clone()?;
        let serving: Vec<String> =
            follower.look(|view| view.served(&object).map(|entry| entry.node.clone()).collect());
        if serving.len() < 2 {
            return None;
        }
        // Those that come and go leave the others' as they are.
        let weight = |node: &String| *blake3::hash(format!("{identity} {node}").as_bytes()).as_bytes();
        serving.into_iter().max_by_key(weight).and_then(|node| ClientId::new(&node).ok())
    }

    async fn ask(&self, object: &str, node: Option<&str>) -> Result<Arc<Description>, CallError> {
        let mut proxy = self.client.object(object).deadline(PATIENCE).idempotent();
        if let Some(node) = node.and_then(|node| ClientId::new(node).ok()) {
            proxy = proxy.at(node);
        }
        let document: Value = proxy.call("rpc.discover", ()).await?;
        Ok(Arc::new(Description::from_open_rpc(&document)))
    }

    /// Follows the registry, until it is dropped or the client has ended.
    pub(super) async fn follow(self: Arc<Self>) {
        let follower = loop {
            match self.client.registry().follow().await {
                Ok(follower) => break Arc::new(follower),
                Err(error) => {
                    tracing::warn!("objects are not known yet: {error}");
                    sleep(AGAIN).await;
                }
            }
        };
        self.follower.send_replace(Some(follower.clone()));
        let (mut asked, mut changes) = (JoinSet::new(), follower.changes());
        loop {
            self.forget(&follower);
            let complete = self.ask_for_new(&follower, &mut asked).await;
            tokio::select! {
                more = changes.changed() => if more.is_err() { return },
                () = sleep(AGAIN), if !complete => {}
            }
        }
    }

    /// Whoever serves what may be called: one node each.
    fn served(&self, follower: &Follower) -> BTreeMap<String, (String, String)> {
        follower.look(|view| {
            let served = view.all().filter(|(entry, served)| *served && self.allows(&entry.object));
            let mut by_name = BTreeMap::new();
            for (entry, _) in served {
                by_name
                    .entry(entry.object.clone())
                    .or_insert_with(|| (entry.node.clone(), entry.epoch.clone()));
                if by_name.len() >= KNOWN {
                    break;
                }
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

    /// Asks those that are not known; whether all of them have answered.
    async fn ask_for_new(self: &Arc<Self>, follower: &Follower, asked: &mut JoinSet<Answered>) -> bool {
        let served = self.served(follower);
        let new: Vec<_> = {
            let described = self.described.lock();
            served.into_iter().filter(|(name, _)| !described.contains_key(name)).collect()
        };
        let mut complete = true;
        let mut new = new.into_iter();
        loop {
            while asked.len() < AT_ONCE
                && let Some((name, by)) = new.next()
            {
                let catalog = self.clone();
                asked.spawn(async move {
                    let said = catalog.ask(&name, Some(&by.0)).await;
                    let said = said.inspect_err(|error| tracing::debug!("{name} says nothing: {error}"));
                    (name, by, said.ok())
                });
            }
            let Some(answered) = asked.join_next().await else { return complete };
            let Ok((name, by, Some(description))) = answered else {
                complete = false;
                continue;
            };
            self.described.lock().insert(name, Described { by, description });
            self.changed.send_modify(|version| *version += 1);
        }
    }
}

fn allows(allowed: &[String], object: &str) -> bool {
    allowed.iter().any(|name| match name.strip_suffix('*') {
        Some(prefix) => object.starts_with(prefix),
        None => name == object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes() {
        let allowed = ["calculator", "example.*"].map(ToOwned::to_owned);
        for (object, expected) in
            [("calculator", true), ("example.chain", true), ("calculators", false), ("tasks", false)]
        {
            assert_eq!(allows(&allowed, object), expected, "{object}");
        }
    }
}
