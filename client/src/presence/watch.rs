//! Subscription to the registry entries of one object and the states of its nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{self, watch};
use tokio::time::Instant;

use super::seen::{ObjectState, Since};
use crate::client::Client;
use crate::registry::{QUIET, View};
use crate::session::{Filter, Message, SubscribeError};
use crate::subscription::{Follow, ListenerPlace, Sink};
use crate::wire::entry::{LIFETIME, NodeState, State};
use crate::wire::name::{ClientId, ObjectName, Root};
use crate::wire::topic::RegistryTopic;

/// Limit of node states followed per object.
const MAX_WATCHED_NODES: usize = 64;

/// Subscription to one object's registry entries. Dropping it unsubscribes.
#[derive(Debug)]
pub(super) struct ObjectWatch {
    live: Arc<Live>,
    place: ListenerPlace,
    /// Nodes whose states are subscribed to. Locked while others are added.
    nodes: sync::Mutex<BTreeSet<ClientId>>,
    /// Round-trip time of the subscription.
    answering: Duration,
}

#[derive(Debug)]
struct Live {
    root: Root,
    watched: Mutex<ObjectState>,
    /// Number of messages received.
    messages: watch::Sender<u64>,
}

impl Follow for Live {
    fn message(&self, message: &Message) {
        {
            let mut watched = self.watched.lock();
            let node = match RegistryTopic::parse(&self.root, &message.topic) {
                Some(RegistryTopic::Node(node)) => Some(node),
                _ => None,
            };
            // A state that is only refreshed keeps its time.
            let kind = |state: &NodeState| (state.epoch.clone(), state.state == State::Lost);
            let before = node.as_ref().and_then(|node| watched.view.state(node)).map(kind);
            if let Err(error) = watched.view.apply(&message.topic, &message.payload) {
                tracing::debug!(topic = &*message.topic, "{error}");
            }
            if let Some(node) = node
                && watched.view.state(&node).map(kind) != before
            {
                match published_at(message) {
                    Some(since) => watched.since.insert(node, since),
                    None => watched.since.remove(&node),
                };
            }
        }
        self.messages.send_modify(|count| *count += 1);
    }

    fn disconnected(&self) {
        *self.watched.lock() = ObjectState { view: View::new(self.root.clone()), ..ObjectState::default() };
        self.messages.send_modify(|count| *count += 1);
    }
}

/// Returns when a state was published, from its remaining Message Expiry Interval.
fn published_at(message: &Message) -> Option<Since> {
    let now = Instant::now();
    if !message.retain {
        return Some(Since::Seen(now));
    }
    let age = LIFETIME.checked_sub(message.properties.expiry?)?;
    now.checked_sub(Duration::from_secs(age.into())).map(Since::Retained)
}

impl ObjectWatch {
    /// Subscribes to the entries of `object`.
    ///
    /// # Errors
    ///
    /// The broker refuses the subscription, or the connection is lost.
    pub(super) async fn begin(client: &Client, object: &ObjectName) -> Result<Arc<Self>, SubscribeError> {
        let root = client.root().clone();
        let watched = ObjectState { view: View::new(root.clone()), ..ObjectState::default() };
        let filter = Filter::new(RegistryTopic::entries_of(&root, object));
        let live = Arc::new(Live { root, watched: Mutex::new(watched), messages: watch::Sender::new(0) });
        let began = Instant::now();
        let place = client.listen(vec![filter], Sink::View(live.clone())).await?;
        let answering = began.elapsed();
        Ok(Arc::new(Self { live, place, nodes: sync::Mutex::default(), answering }))
    }

    /// Subscribes to the states of all nodes with an entry, and of `node`.
    pub(super) async fn follow_nodes(
        &self,
        client: &Client,
        node: Option<&ClientId>,
    ) -> Result<(), SubscribeError> {
        let mut followed = self.nodes.lock().await;
        let mut new: BTreeSet<ClientId> = {
            let watched = self.live.watched.lock();
            let named = watched.view.all().filter_map(|(entry, _)| ClientId::new(&entry.node).ok());
            named
                .filter(|node| !followed.contains(node))
                .take(MAX_WATCHED_NODES.saturating_sub(followed.len()))
                .collect()
        };
        new.extend(node.filter(|node| !followed.contains(node)).cloned());
        if new.is_empty() {
            return Ok(());
        }
        let state = |node: &ClientId| Filter::new(RegistryTopic::Node(node.clone()).format(&self.live.root));
        client.listen_more(&self.place, new.iter().map(state).collect()).await?;
        followed.append(&mut new);
        Ok(())
    }

    /// Reads the current state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&ObjectState) -> T) -> T {
        look(&self.live.watched.lock())
    }

    /// Returns a receiver that is notified of every message.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.live.messages.subscribe()
    }

    /// Time without retained messages after which all of them have arrived.
    pub(super) fn quiet(&self) -> Duration {
        QUIET.max(self.answering * 3)
    }
}
