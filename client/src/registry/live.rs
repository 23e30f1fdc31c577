//! Reading and following the registry on the bus.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::view::View;
use crate::client::Client;
use crate::error::CallError;
use crate::session::{Filter, Message};
use crate::subscription::{Follow, ListenerPlace, Sink};
use crate::wire::entry::Entry;
use crate::wire::fault::{Code, Fault};
use crate::wire::name::{ClientId, ObjectName, Root};
use crate::wire::topic::RegistryTopic;

/// Minimum time without a retained message after which all of them are taken to have arrived.
pub(crate) const QUIET: Duration = Duration::from_millis(150);
/// Maximum time for reading retained messages.
const MAX_READING_TIME: Duration = Duration::from_secs(30);

/// Reads the registry. Returned by [`Client::registry`].
///
/// The registry is a set of retained messages; MQTT does not signal when all of them have arrived. Reading ends when no
/// retained message has arrived for 150 ms, or for three times the round-trip time of the subscription if that is longer,
/// and after 30 s at most. Messages that are published during that time do not prolong it.
#[derive(Debug)]
pub struct Registry {
    client: Client,
}

/// View that follows the bus; starts anew after every reconnect.
#[derive(Debug)]
pub struct Follower {
    live: Arc<Live>,
    changed: watch::Receiver<u64>,
    /// Round-trip time of the subscription.
    answering: Duration,
    _place: ListenerPlace,
}

/// View that is fed with received messages.
#[derive(Debug)]
pub(crate) struct Live {
    root: Root,
    view: Mutex<View>,
    /// Number of messages, including those that change nothing.
    messages: watch::Sender<u64>,
    /// Number of messages that were retained before the subscription.
    retained: watch::Sender<u64>,
}

impl Live {
    fn new(root: Root) -> Arc<Self> {
        let (messages, retained) = (watch::Sender::new(0), watch::Sender::new(0));
        Arc::new(Self { view: Mutex::new(View::new(root.clone())), root, messages, retained })
    }
}

impl Follow for Live {
    fn message(&self, message: &Message) {
        if let Err(error) = self.view.lock().apply(&message.topic, &message.payload) {
            tracing::debug!(topic = &*message.topic, "{error}");
        }
        self.messages.send_modify(|count| *count += 1);
        if message.retain {
            self.retained.send_modify(|count| *count += 1);
        }
    }

    fn disconnected(&self) {
        *self.view.lock() = View::new(self.root.clone());
        self.messages.send_modify(|count| *count += 1);
        self.retained.send_modify(|count| *count += 1);
    }
}

// Defined here, so that the module of the client does not depend on this one.
impl Client {
    /// Returns a reader of the registry.
    pub fn registry(&self) -> Registry {
        Registry::new(self.clone())
    }
}

impl Registry {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads all entries and states, including those of lost nodes.
    ///
    /// # Errors
    ///
    /// The broker refused the subscription, or the connection was lost.
    pub async fn list(&self) -> Result<View, CallError> {
        let root = self.client.root();
        let filters = [RegistryTopic::entries(root), RegistryTopic::nodes(root)];
        let live = Live::new(root.clone());
        let began = Instant::now();
        let _place = self.client.listen(filters.map(Filter::new).into(), Sink::View(live.clone())).await?;
        quiet(&live, began.elapsed()).await;
        let view = std::mem::take(&mut *live.view.lock());
        Ok(view)
    }

    /// Reads the entries of one name and the states of their nodes.
    ///
    /// # Errors
    ///
    /// Same as [`list`](Self::list).
    pub async fn find(&self, object: &ObjectName) -> Result<View, CallError> {
        let root = self.client.root();
        let live = Live::new(root.clone());
        let began = Instant::now();
        let filter = Filter::new(RegistryTopic::entries_of(root, object));
        let place = self.client.listen(vec![filter], Sink::View(live.clone())).await?;
        let answering = began.elapsed();
        quiet(&live, answering).await;
        let states = states(root, &live.view.lock(), &mut BTreeSet::new());
        if !states.is_empty() {
            self.client.listen_more(&place, states).await?;
            quiet(&live, answering).await;
        }
        drop(place);
        let view = std::mem::take(&mut *live.view.lock());
        Ok(view)
    }

    /// Waits until an object is served, and returns the entry of the node that serves it. Waits on across lost connections.
    ///
    /// # Errors
    ///
    /// -32003 or -32004 if it is not served within `patience`; otherwise as [`list`](Self::list).
    pub async fn wait_for(&self, object: &ObjectName, patience: Duration) -> Result<Entry, CallError> {
        match self.served(object, None, Instant::now() + patience).await? {
            Ok(entry) => Ok(entry),
            Err(code) => {
                let text = format!("{object} was not served within {} s", patience.as_secs_f64());
                Err(Fault::new(code, text).into())
            }
        }
    }

    /// Waits until an object is served, by `node` if one is given; returns its entry, or at `deadline` the code of its absence.
    ///
    /// # Errors
    ///
    /// The broker refused the subscription, or the session has ended.
    pub(crate) async fn served(
        &self,
        object: &ObjectName,
        node: Option<&ClientId>,
        deadline: Instant,
    ) -> Result<Result<Entry, Code>, CallError> {
        loop {
            match timeout_at(deadline, self.served_in_time(object, node, deadline)).await {
                // The connection was lost before the broker had granted the subscription.
                Ok(Err(CallError::Lost)) => {}
                Ok(served) => return served,
                Err(_) => return Ok(Err(Code::UNKNOWN_OBJECT)),
            }
        }
    }

    async fn served_in_time(
        &self,
        object: &ObjectName,
        node: Option<&ClientId>,
        deadline: Instant,
    ) -> Result<Result<Entry, Code>, CallError> {
        let root = self.client.root();
        let live = Live::new(root.clone());
        let mut changed = live.messages.subscribe();
        let filter = Filter::new(RegistryTopic::entries_of(root, object));
        let place = self.client.listen(vec![filter], Sink::View(live.clone())).await?;
        let mut watched = BTreeSet::new();
        loop {
            let (served, states) = {
                let view = live.view.lock();
                let mut served = view.served(object);
                let served = served.find(|entry| node.is_none_or(|node| node.as_str() == entry.node));
                (served.cloned(), states(root, &view, &mut watched))
            };
            if let Some(entry) = served {
                return Ok(Ok(entry));
            }
            if !states.is_empty() {
                self.client.listen_more(&place, states).await?;
                continue;
            }
            if timeout_at(deadline, changed.changed()).await.is_err() {
                let is_registered = live.view.lock().is_registered(object);
                return Ok(Err(if is_registered { Code::LOST_OBJECT } else { Code::UNKNOWN_OBJECT }));
            }
        }
    }

    /// Like [`wait_for`](Self::wait_for), with the name as a text.
    ///
    /// # Errors
    ///
    /// Same as [`wait_for`](Self::wait_for); an invalid name.
    pub async fn wait_for_name(&self, name: &str, patience: Duration) -> Result<Entry, CallError> {
        let object = ObjectName::any(name)?;
        self.wait_for(&object, patience).await
    }

    /// Follows the whole registry.
    ///
    /// # Errors
    ///
    /// Same as [`list`](Self::list).
    pub async fn follow(&self) -> Result<Follower, CallError> {
        let root = self.client.root();
        let filters = [RegistryTopic::entries(root), RegistryTopic::nodes(root)];
        let live = Live::new(root.clone());
        let changed = live.messages.subscribe();
        let began = Instant::now();
        let place = self.client.listen(filters.map(Filter::new).into(), Sink::View(live.clone())).await?;
        Ok(Follower { live, changed, answering: began.elapsed(), _place: place })
    }
}

impl Follower {
    /// Calls `look` with the current view. Must not block.
    pub fn look<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.live.view.lock())
    }

    /// Waits until the entries and states from before the subscription have arrived: until no more arrive for a while.
    pub async fn complete(&self) {
        quiet(&self.live, self.answering).await;
    }

    /// Returns a receiver that is notified of every message from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.live.messages.subscribe()
    }

    /// Waits until a message has arrived since the last call; returns `false` if the client has ended. Cancelling loses nothing.
    pub async fn changed(&mut self) -> bool {
        self.changed.changed().await.is_ok()
    }
}

/// Returns filters for the states of all nodes with entries, except those in `watched`, to which they are added.
fn states(root: &Root, view: &View, watched: &mut BTreeSet<ClientId>) -> Vec<Filter> {
    let nodes = view.all().filter_map(|(entry, _)| ClientId::new(&entry.node).ok());
    nodes
        .filter(|node| watched.insert(node.clone()))
        .map(|node| Filter::new(RegistryTopic::Node(node).format(root)))
        .collect()
}

async fn quiet(live: &Live, answering: Duration) {
    let patience = QUIET.max(answering * 3);
    let mut retained = live.retained.subscribe();
    let all = async { while timeout(patience, retained.changed()).await.is_ok() {} };
    let _ = timeout(MAX_READING_TIME, all).await;
}
