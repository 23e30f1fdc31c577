//! Publishes the node's registry entries and repairs them when others overwrite them.
//!
//! Time is tokio's, which tests can pause; the bus is a trait, which tests can simulate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rantai_client::Environment;
use rantai_client::error_chain;
use rantai_client::registry::View;
use rantai_client::session::{Publish, Status, Unsent};
use rantai_client::wire::entry::{Entry, EntryError, LIFETIME, Mode, NodeState, State};
use rantai_client::wire::name::{ClientId, ObjectName, Root};
use rantai_client::wire::topic::RegistryTopic;
use rantai_client::wire::user::User;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::bus::Bus;
use crate::doubles::Doubles;
use crate::expiries::Expiries;
use crate::stamps::Stamps;

/// Interval at which entries and states are published again.
const REFRESH_INTERVAL: Duration = Duration::from_hours(8);
/// Minimum interval between two repairs of the node's own topics.
const REPAIR_INTERVAL: Duration = Duration::from_secs(1);

/// First token of messages whose acknowledgements the announcer tracks. The dispatcher's tokens are far below or above.
const FIRST_TOKEN: u128 = 1 << 126;
/// End of the announcer's tokens (exclusive).
const END_OF_TOKENS: u128 = FIRST_TOKEN << 1;

/// Time for the broker to remove the state of a node that ends because another one has its id.
const PARTING_TIMEOUT: Duration = Duration::from_secs(1);

/// Reason why one of the node's own topics must be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    /// The topic has the node's will, or an earlier message of the node.
    Outdated,
    /// Another client has written the topic.
    Forged,
}

/// Nodes that serve an object, with the epoch of each.
pub(crate) type Servers = BTreeMap<ClientId, String>;

/// Claim of other nodes to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tenure {
    /// No ready node has an entry.
    Vacant,
    /// A ready node claims the name, and has not settled yet.
    Claimed,
    /// A ready node holds the name.
    Held,
}

/// Metadata of a registry message.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// Remaining Message Expiry Interval, in seconds.
    pub(crate) expiry: Option<u32>,
    /// Publisher, if the broker stamps it.
    pub(crate) user: Option<User>,
    /// Whether it is a retained message, which the broker sends when a subscription begins.
    pub(crate) stored: bool,
}

/// Error of publishing an entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnounceError {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error(transparent)]
    Unsent(#[from] Unsent),
}

/// Topics of unacknowledged messages, by their tokens.
#[derive(Debug, Default)]
struct Sent {
    number: u128,
    topics: BTreeMap<u128, String>,
}

/// Publishes the node's registry entries, and follows those of other nodes.
#[derive(Debug)]
pub(crate) struct Announcer {
    pub(crate) root: Root,
    pub(crate) id: ClientId,
    pub(crate) epoch: String,
    pub(crate) bus: Box<dyn Bus>,
    /// Messages that the node's own topics must hold.
    words: Mutex<BTreeMap<String, Bytes>>,
    /// Own topics that hold another message.
    wrong: Mutex<BTreeMap<String, Wrong>>,
    heal: Notify,
    /// Unacknowledged messages on own topics, by their tokens.
    sent: Mutex<Sent>,
    /// View of the registry for the followed names.
    view: Mutex<View>,
    /// Expiry times of other nodes' messages.
    expiries: Expiries,
    /// Publishers of other nodes' entries.
    stamps: Stamps,
    /// Detection of another node with the same client id.
    doubles: Doubles,
    seen: watch::Sender<u64>,
    state: Mutex<State>,
    /// Whether the node ends because another one has its id.
    is_leaving: AtomicBool,
}

impl Announcer {
    pub(crate) fn new(root: Root, id: ClientId, epoch: String, bus: Box<dyn Bus>) -> Arc<Self> {
        Arc::new(Self {
            view: Mutex::new(View::new(root.clone())),
            root,
            id,
            epoch,
            bus,
            words: Mutex::default(),
            expiries: Expiries::default(),
            stamps: Stamps::default(),
            doubles: Doubles::default(),
            wrong: Mutex::default(),
            heal: Notify::new(),
            sent: Mutex::default(),
            seen: watch::Sender::new(0),
            state: Mutex::new(State::Ready),
            is_leaving: AtomicBool::new(false),
        })
    }

    /// Begins a connection: publishes the node's state, or removes it if the node ends because another one has its id.
    pub(crate) fn connected(&self) {
        if self.is_leaving.load(Ordering::Relaxed) {
            let _ = self.bus.send_now(retained(self.state_topic(), Bytes::new()), 0);
            return;
        }
        let state = *self.state.lock();
        self.announce_state(state);
    }

    /// Ends a connection: discards what is known of other nodes. Names have to be claimed again.
    pub(crate) fn disconnected(&self) {
        *self.view.lock() = View::new(self.root.clone());
        self.expiries.clear();
        self.stamps.clear();
        self.doubles.closed();
        self.words.lock().clear();
        self.wrong.lock().clear();
        self.sent.lock().topics.clear();
        self.seen.send_modify(|count| *count += 1);
    }

    /// Publishes the node's state.
    pub(crate) fn announce_state(&self, state: State) {
        *self.state.lock() = state;
        let topic = self.state_topic();
        let payload = Bytes::from(NodeState::new(state, &self.epoch).write());
        self.words.lock().insert(topic.clone(), payload.clone());
        let token = self.token(&topic);
        if let Err(error) = self.bus.send_now(retained(topic, payload), token) {
            self.sent.lock().topics.remove(&token);
            tracing::debug!("the node's state was not sent: {error}");
        }
    }

    /// Returns a token for a message on one of the node's own topics.
    fn token(&self, topic: &str) -> u128 {
        let mut sent = self.sent.lock();
        let token = FIRST_TOKEN + sent.number;
        sent.number += 1;
        sent.topics.insert(token, topic.to_owned());
        token
    }

    /// Handles the result of a publish; returns false if its token is not one of the announcer's. A message that the
    /// broker had no room for is published again until it is accepted.
    pub(crate) fn settled(&self, token: u128, result: &Result<(), Unsent>) -> bool {
        if !(FIRST_TOKEN..END_OF_TOKENS).contains(&token) {
            return false;
        }
        if let Some(topic) = self.sent.lock().topics.remove(&token)
            && matches!(result, Err(Unsent::Busy))
        {
            self.wrong.lock().entry(topic).or_insert(Wrong::Outdated);
            self.heal.notify_one();
        }
        true
    }

    /// Removes the node's state, and waits for the broker's acknowledgement.
    pub(crate) async fn forget_state(&self) -> Result<(), Unsent> {
        self.clear(self.state_topic()).await
    }

    /// Publishes the entry of an object, and waits for the broker's acknowledgement.
    pub(crate) async fn announce(&self, object: &ObjectName, entry: &Entry) -> Result<(), AnnounceError> {
        let topic = self.entry_topic(object);
        let payload = Bytes::from(entry.write()?);
        self.words.lock().insert(topic.clone(), payload.clone());
        Ok(self.bus.publish(retained(topic, payload)).await?)
    }

    /// Removes the entry of an object.
    pub(crate) async fn forget_entry(&self, object: &ObjectName) -> Result<(), Unsent> {
        self.clear(self.entry_topic(object)).await
    }

    /// Announces an entry of an object until the guard is dropped. A repair then removes the entry, unless
    /// [`forget_entry`](Self::forget_entry) has.
    pub(crate) fn stands_for<'a>(&'a self, object: &'a ObjectName) -> Announcement<'a> {
        Announcement { announcer: self, object }
    }

    /// Publishes the state of another node as lost, in place of the will that its broker did not publish. If the node
    /// is alive, it repairs its state.
    pub(crate) async fn declare_lost(&self, holder: &Entry) -> Result<(), Unsent> {
        let Ok(node) = ClientId::new(&holder.node) else { return Ok(()) };
        let topic = RegistryTopic::Node(node.clone()).format(&self.root);
        let payload = Bytes::from(NodeState::new(State::Lost, &holder.epoch).write());
        self.bus.publish(retained(topic.clone(), payload.clone())).await?;
        tracing::warn!("node {node} did not answer: its state is set to lost");
        self.registry(&topic, &payload, Origin { expiry: Some(LIFETIME), ..Origin::default() });
        Ok(())
    }

    /// Publishes again what one of the node's own topics must hold. Does nothing without a connection: the next one
    /// begins by publishing the current state, which this would overwrite.
    async fn say(&self, status: &watch::Receiver<Status>, topic: String, word: Bytes) {
        if matches!(*status.borrow(), Status::Online(_)) {
            let token = self.token(&topic);
            if self.bus.send(retained(topic, word), token).await.is_err() {
                self.sent.lock().topics.remove(&token);
            }
        }
    }

    async fn clear(&self, topic: String) -> Result<(), Unsent> {
        self.words.lock().remove(&topic);
        self.bus.publish(retained(topic, Bytes::new())).await
    }

    fn state_topic(&self) -> String {
        RegistryTopic::Node(self.id.clone()).format(&self.root)
    }

    fn entry_topic(&self, object: &ObjectName) -> String {
        RegistryTopic::Name(object.clone(), self.id.clone()).format(&self.root)
    }

    /// Handles a message of the registry.
    pub(crate) fn registry(&self, topic: &str, payload: &[u8], origin: Origin) {
        let (node, is_state) = match RegistryTopic::parse(&self.root, topic) {
            Some(RegistryTopic::Name(_, node)) => (node, false),
            Some(RegistryTopic::Node(node)) => (node, true),
            None => return,
        };
        if node == self.id {
            if is_state
                && let Ok(state) = NodeState::read(payload)
                && state.epoch != self.epoch
            {
                self.doubles.other_start(state.epoch > self.epoch);
            }
            let is_mine = self.words.lock().get(topic).map_or(payload.is_empty(), |word| word == payload);
            if !is_mine {
                let is_forged = !origin.stored && self.is_forged(topic, payload, is_state);
                let wrong = if is_forged { Wrong::Forged } else { Wrong::Outdated };
                self.wrong
                    .lock()
                    .entry(topic.to_owned())
                    .and_modify(|known| *known = wrong.max(*known))
                    .or_insert(wrong);
                self.heal.notify_one();
            }
            return;
        }
        self.expiries.note(topic, origin.expiry.filter(|_| !payload.is_empty()));
        if !is_state {
            match payload {
                [] => self.stamps.remove(topic),
                _ => self.stamps.note(topic, origin.user, origin.stored),
            }
        }
        if let Err(error) = self.view.lock().apply(topic, payload) {
            tracing::debug!(topic, "{}", error_chain(&error));
        }
        self.seen.send_modify(|count| *count += 1);
    }

    /// Returns whether another client has written a payload that is not empty on one of the node's own topics, on which
    /// the node has published. False for a lost state, which the broker (as the will) or a claimant may publish, and
    /// for the node's own earlier messages, which may arrive late.
    fn is_forged(&self, topic: &str, payload: &[u8], is_state: bool) -> bool {
        if payload.is_empty() || !self.words.lock().contains_key(topic) {
            return false;
        }
        let epoch = match RegistryTopic::parse(&self.root, topic) {
            Some(RegistryTopic::Name(object, node)) if !is_state => {
                Entry::read(&object, &node, payload).map(|entry| entry.epoch)
            }
            _ => NodeState::read(payload).map(|state| state.epoch),
        };
        !epoch.is_ok_and(|epoch| epoch == self.epoch)
    }

    /// Returns a receiver that is notified of every change of the view.
    pub(crate) fn seen(&self) -> watch::Receiver<u64> {
        self.seen.subscribe()
    }

    /// Returns the other nodes that have an entry for a name.
    pub(crate) fn claimants(&self, object: &ObjectName) -> Vec<ClientId> {
        let view = self.view.lock();
        view.claims(object).filter_map(|(entry, _)| ClientId::new(&entry.node).ok()).collect()
    }

    /// Returns whether another node claims a name by an entry that this user published. `None` is a client that has not
    /// logged in; it matches everyone if the broker does not stamp publishers.
    pub(crate) fn is_claimed_by(&self, object: &ObjectName, user: Option<&User>) -> bool {
        self.claimants(object).into_iter().any(|node| {
            let topic = RegistryTopic::Name(object.clone(), node).format(&self.root);
            self.stamps.is_by(&topic, user)
        })
    }

    /// Returns whether a node serves a followed object, or finishes its calls before it ends.
    pub(crate) fn is_served(&self, object: &ObjectName) -> bool {
        self.words.lock().contains_key(&self.entry_topic(object)) || self.view.lock().is_served(object)
    }

    /// Returns the nodes that serve a followed object, or finish its calls before they end.
    pub(crate) fn servers(&self, object: &ObjectName) -> Servers {
        let view = self.view.lock();
        let finishers: BTreeSet<&ClientId> = view.finishers(object).collect();
        let entries = view.entries(object).filter(|(node, _)| finishers.contains(node));
        entries.map(|(node, entry)| (node.clone(), entry.epoch.clone())).collect()
    }

    /// Returns the settled entries of other nodes that serve a replicated object now.
    pub(crate) fn replicas(&self, object: &ObjectName) -> Vec<Entry> {
        let view = self.view.lock();
        let served = view.claims(object).filter(|(entry, alive)| *alive && entry.settled);
        served.filter(|(entry, _)| entry.mode == Mode::Replica).map(|(entry, _)| entry.clone()).collect()
    }

    /// Returns the claim of other nodes to a name, for a node that claims it in `mode`.
    pub(crate) fn tenure(&self, object: &ObjectName, mode: Mode) -> Tenure {
        let view = self.view.lock();
        let others = view.claims(object).filter(|(entry, alive)| *alive && !together(mode, entry));
        let tenures = others.map(|(entry, _)| if entry.settled { Tenure::Held } else { Tenure::Claimed });
        tenures.max().unwrap_or(Tenure::Vacant)
    }

    /// Returns an entry of a ready node that wins over `mine`. A claim that has not settled in time never wins.
    pub(crate) fn rival(&self, object: &ObjectName, mine: &Entry) -> Option<Entry> {
        let view = self.view.lock();
        let rivals = view.claims(object).filter(|(_, alive)| *alive).map(|(entry, _)| entry);
        let mut rivals = rivals.filter(|other| !together(mine.mode, other) && other.beats(mine));
        rivals.find(|other| other.settled || self.is_fresh(other)).cloned()
    }

    fn is_fresh(&self, claim: &Entry) -> bool {
        let (Ok(object), Ok(node)) = (ObjectName::any(&claim.object), ClientId::new(&claim.node)) else {
            return false;
        };
        self.stamps.is_fresh(&RegistryTopic::Name(object, node).format(&self.root))
    }
}

/// Guard of an object's entry. A claim that ends at the same time as its connection may announce its entry once more,
/// after the end of the connection has removed it from the node's topics.
#[derive(Debug)]
pub(crate) struct Announcement<'a> {
    announcer: &'a Announcer,
    object: &'a ObjectName,
}

impl Drop for Announcement<'_> {
    fn drop(&mut self) {
        let topic = self.announcer.entry_topic(self.object);
        if self.announcer.words.lock().remove(&topic).is_some() {
            self.announcer.wrong.lock().insert(topic, Wrong::Outdated);
            self.announcer.heal.notify_one();
        }
    }
}

/// Draws an epoch for a node that starts. Random, because of two simultaneous claims the one with the lower epoch wins.
pub(crate) fn draw_epoch(environment: &Environment) -> String {
    format!("{:016x}{:016x}", environment.random(), environment.random())
}

/// Returns whether a node that claims a name in `mode` may serve it together with `other`.
fn together(mode: Mode, other: &Entry) -> bool {
    mode == Mode::Replica && other.mode == Mode::Replica
}

/// Repairs the node's own topics when others overwrite them, and publishes them again before they expire, until the
/// session ends.
pub(crate) async fn keep_announced(announcer: Arc<Announcer>, status: watch::Receiver<Status>) {
    let mut refresh = Instant::now() + REFRESH_INTERVAL;
    let mut ending = status.clone();
    let ended = async move {
        let _ = ending.wait_for(|s| matches!(s, Status::Ended(_))).await;
    };
    tokio::pin!(ended);
    let mut may_repair = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = &mut ended => return,
            () = announcer.doubles.found() => {
                let reason = format!("another node connects as {:?}; give each node an id of its own", announcer.id.as_str());
                tracing::error!("{reason}");
                // The state of this node would look like a third node to the other one if it stayed.
                announcer.is_leaving.store(true, Ordering::Relaxed);
                let _ = timeout(PARTING_TIMEOUT, announcer.forget_state()).await;
                announcer.bus.end(&reason);
                return;
            }
            () = async { sleep_until(may_repair).await; announcer.heal.notified().await } => {
                let wrong = std::mem::take(&mut *announcer.wrong.lock());
                for (topic, wrong) in wrong {
                    // An entry of an earlier start, or of an object that is not served, is removed.
                    let word = announcer.words.lock().get(&topic).cloned().unwrap_or_default();
                    match wrong {
                        Wrong::Outdated => tracing::debug!(topic, "repairs its own topic"),
                        Wrong::Forged => {
                            tracing::warn!(topic, "somebody else has written on the node's own topic; it is put right");
                        }
                    }
                    announcer.say(&status, topic, word).await;
                }
                may_repair = Instant::now() + REPAIR_INTERVAL;
            }
            topic = announcer.expiries.ended() => announcer.registry(&topic, b"", Origin::default()),
            () = sleep_until(refresh) => {
                refresh += REFRESH_INTERVAL;
                let word: Vec<(String, Bytes)> =
                    announcer.words.lock().iter().map(|(topic, word)| (topic.clone(), word.clone())).collect();
                for (topic, word) in word {
                    announcer.say(&status, topic, word).await;
                }
            }
        }
    }
}

/// A retained message of the registry; an empty payload removes it.
fn retained(topic: String, payload: Bytes) -> Publish {
    let mut publish = Publish::new(topic, payload).retain();
    if !publish.payload.is_empty() {
        publish.properties.expiry = Some(LIFETIME);
    }
    publish
}
