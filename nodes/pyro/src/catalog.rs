//! Objects on the bus: which are served, and their descriptions, which are kept until they change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::object::{Description, Method};
use rantai_client::registry::Follower;
use rantai_client::wire::fault::{Code, Fault};
use rantai_client::wire::name::{BROKER, ObjectName};
use rantai_client::{CallError, Client};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Time limit for an object to describe itself, and for the registry to be read after a start.
const PATIENCE: Duration = Duration::from_secs(5);
/// Delay before the registry is read again after an error.
const AGAIN: Duration = Duration::from_secs(5);
/// Maximum number of descriptions that are kept.
const KNOWN: usize = 1_000;

/// Objects on the bus.
#[derive(Debug)]
pub(crate) struct Catalog {
    client: Client,
    /// Names and prefixes of the objects that may be called.
    allowed: Vec<String>,
    follower: watch::Sender<Option<Arc<Follower>>>,
    described: Mutex<HashMap<ObjectName, Described>>,
}

/// Description with the node that has sent it, and the epoch of that node.
#[derive(Debug)]
struct Described {
    by: (String, String),
    description: Arc<Description>,
}

impl Catalog {
    pub(crate) fn new(client: Client, allowed: Vec<String>) -> Self {
        Self { client, allowed, follower: watch::Sender::new(None), described: Mutex::default() }
    }

    /// Follows the registry until this future is dropped.
    pub(crate) async fn follow(self: Arc<Self>) {
        let follower = loop {
            match self.client.registry().follow().await {
                Ok(follower) => break Arc::new(follower),
                Err(error) => {
                    tracing::warn!("the Pyro gateway does not know the objects yet: {error}");
                    sleep(AGAIN).await;
                }
            }
        };
        follower.complete().await;
        self.follower.send_replace(Some(follower));
        std::future::pending::<()>().await;
    }

    /// Returns whether an object may be called. The broker's own object is not called by gateways.
    pub(crate) fn allows(&self, object: &str) -> bool {
        object != BROKER && allows(&self.allowed, object)
    }

    async fn follower(&self) -> Option<Arc<Follower>> {
        let mut following = self.follower.subscribe();
        let known = timeout(PATIENCE, following.wait_for(Option::is_some)).await.ok()?.ok()?;
        known.clone()
    }

    /// Returns the objects that are served and may be called, with their tags. Soon after a start, waits until they are known.
    pub(crate) async fn served(&self) -> BTreeMap<String, Vec<String>> {
        let Some(follower) = self.follower().await else { return BTreeMap::new() };
        follower.look(|view| {
            let served = view.all().filter(|(entry, is_served)| *is_served && self.allows(&entry.object));
            served.map(|(entry, _)| (entry.object.clone(), entry.tags.clone())).collect()
        })
    }

    /// Returns the nodes that claim a name on the bus and are ready.
    pub(crate) async fn claimants(&self, object: &ObjectName) -> Vec<String> {
        let Some(follower) = self.follower().await else { return Vec::new() };
        follower.look(|view| {
            let ready = view.claims(object).filter(|(_, is_ready)| *is_ready);
            ready.map(|(entry, _)| entry.node.clone()).collect()
        })
    }

    /// Returns the description of an object; asks the object if it is not known, or another node or another start of its node
    /// serves it now.
    ///
    /// # Errors
    ///
    /// The object may not be called, is not served, or does not answer within 5 s.
    pub(crate) async fn of(&self, object: &str) -> Result<Arc<Description>, CallError> {
        if !self.allows(object) {
            let text = format!("no object {object:?} here");
            return Err(Fault::new(Code::UNKNOWN_OBJECT, text).into());
        }
        let name = ObjectName::any(object)?;
        let by: Vec<(String, String)> = match self.follower().await {
            Some(follower) => follower.look(|view| {
                view.served(&name).map(|entry| (entry.node.clone(), entry.epoch.clone())).collect()
            }),
            None => Vec::new(),
        };
        if let Some(known) = self.described.lock().get(&name)
            && by.contains(&known.by)
        {
            return Ok(known.description.clone());
        }
        let description = Arc::new(self.ask(&name).await?);
        if let Some(by) = by.into_iter().next() {
            let mut described = self.described.lock();
            if described.len() >= KNOWN {
                described.clear();
            }
            described.insert(name, Described { by, description: description.clone() });
        }
        Ok(description)
    }

    async fn ask(&self, object: &ObjectName) -> Result<Description, CallError> {
        let proxy = self.client.object(object.as_str()).deadline(PATIENCE).idempotent();
        match proxy.call::<Value>("rpc.discover", ()).await {
            Ok(document) => Ok(Description::from_open_rpc(&document)),
            // A device may leave `rpc.discover` out; its entry names its methods.
            Err(error) if error.code() == Some(Code::NO_SUCH_METHOD) => {
                self.described_by_entry(object).await.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn described_by_entry(&self, object: &ObjectName) -> Option<Description> {
        let follower = self.follower().await?;
        follower.look(|view| {
            let entry = view.served(object).next()?;
            let method = |name: &String| Method { name: name.clone(), ..Method::default() };
            let methods = entry.methods.iter().map(method).collect();
            Some(Description { methods, ..Description::default() })
        })
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
    fn names_and_prefixes_are_allowed() {
        let allowed = ["calculator".to_owned(), "lab.*".to_owned()];
        for (object, expected) in
            [("calculator", true), ("lab.lamp", true), ("lab", false), ("calculators", false)]
        {
            assert_eq!(allows(&allowed, object), expected, "{object}");
        }
    }
}
