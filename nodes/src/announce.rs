//! What a node says of itself in the registry, and that it stays true.
//!
//! [`Announcer`] knows what is to stand on the node's own topics and puts it right where it does not. A [`Keeper`]
//! per object claims its name whenever no other node holds it, and withdraws where another has the better right.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rantai_client::registry::View;
use rantai_client::session::{Filter, Outlet, Publish, Status, SubscribeError, Unsent};
use rantai_client::wire::entry::{Entry, EntryError, Mode, NodeState, State, VERSION};
use rantai_client::wire::name::{ClientId, MethodName, ObjectName, Root};
use rantai_client::wire::topic::{CallTopic, RegistryTopic, Target, call_filters};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::connection::{connection, over};
use crate::contenders::{Contenders, Tenure};
use crate::dispatch::Served;
use crate::expiries::Expiries;
use crate::node::{ServeError, ServeOptions, idle, retained};

/// For how long a claim may be contested.
const CONTEST: Duration = Duration::from_secs(1);
/// How often entries and states are published again.
const UPKEEP: Duration = Duration::from_hours(8);
/// What is not its own word is put right at most this often.
const HEAL: Duration = Duration::from_secs(1);
/// How long a holder has to give a name up.
const YIELD: Duration = Duration::from_secs(5);

/// The node's word.
#[derive(Debug)]
pub(crate) struct Announcer {
    pub(crate) root: Root,
    pub(crate) id: ClientId,
    epoch: String,
    pub(crate) outlet: Outlet,
    /// What is to stand on the node's own topics.
    word: Mutex<HashMap<String, Bytes>>,
    /// Topics on which something else was seen.
    wrong: Mutex<BTreeSet<String>>,
    heal: Notify,
    /// What others say of the names that are followed.
    view: Mutex<View>,
    /// Until when it stands.
    expiries: Expiries,
    seen: watch::Sender<u64>,
    state: Mutex<State>,
}

impl Announcer {
    pub(crate) fn new(root: Root, id: ClientId, epoch: String, outlet: Outlet) -> Arc<Self> {
        Arc::new(Self {
            view: Mutex::new(View::new(root.clone())),
            root,
            id,
            epoch,
            outlet,
            word: Mutex::default(),
            expiries: Expiries::default(),
            wrong: Mutex::default(),
            heal: Notify::new(),
            seen: watch::Sender::new(0),
            state: Mutex::new(State::Ready),
        })
    }

    /// The first thing the bus hears.
    pub(crate) fn connected(&self) {
        let state = *self.state.lock();
        self.announce_state(state);
    }

    /// Others may have come meanwhile: what is known of them is of the past, and entries are claimed anew.
    pub(crate) fn disconnected(&self) {
        *self.view.lock() = View::new(self.root.clone());
        self.expiries.clear();
        self.word.lock().clear();
        self.seen.send_modify(|count| *count += 1);
    }

    pub(crate) fn announce_state(&self, state: State) {
        *self.state.lock() = state;
        let topic = RegistryTopic::Node(self.id.clone()).format(&self.root);
        let payload = Bytes::from(NodeState::new(state, &self.epoch).write());
        self.word.lock().insert(topic.clone(), payload.clone());
        if let Err(error) = self.outlet.send_now(retained(topic, payload), 0) {
            tracing::debug!("the node's state was not sent: {error}");
        }
    }

    pub(crate) async fn forget_state(&self) -> Result<(), Unsent> {
        let topic = RegistryTopic::Node(self.id.clone()).format(&self.root);
        self.clear(topic).await
    }

    async fn announce(&self, object: &ObjectName, entry: &Entry) -> Result<(), Announced> {
        let topic = self.entry_topic(object);
        let payload = Bytes::from(entry.write()?);
        self.word.lock().insert(topic.clone(), payload.clone());
        Ok(self.outlet.publish(retained(topic, payload)).await?)
    }

    async fn clear(&self, topic: String) -> Result<(), Unsent> {
        self.word.lock().remove(&topic);
        self.outlet.publish(retained(topic, Bytes::new())).await
    }

    fn entry_topic(&self, object: &ObjectName) -> String {
        RegistryTopic::Name(object.clone(), self.id.clone()).format(&self.root)
    }

    /// A message on one of the registry's topics, which stands for `expiry` seconds or until there is another.
    pub(crate) fn registry(&self, topic: &str, payload: &[u8], expiry: Option<u32>) {
        let mine = match RegistryTopic::parse(&self.root, topic) {
            Some(RegistryTopic::Name(_, node) | RegistryTopic::Node(node)) => node == self.id,
            None => return,
        };
        if mine {
            let right = self.word.lock().get(topic).map_or(payload.is_empty(), |word| word == payload);
            if !right {
                self.wrong.lock().insert(topic.to_owned());
                self.heal.notify_one();
            }
            return;
        }
        self.expiries.note(topic, expiry.filter(|_| !payload.is_empty()));
        if let Err(error) = self.view.lock().apply(topic, payload) {
            tracing::debug!(topic, "{error}");
        }
        self.seen.send_modify(|count| *count += 1);
    }

    /// Tells of every change of the view.
    pub(crate) fn seen(&self) -> watch::Receiver<u64> {
        self.seen.subscribe()
    }

    /// Other nodes with an entry for a name.
    pub(crate) fn claimants(&self, object: &ObjectName) -> Vec<ClientId> {
        let view = self.view.lock();
        view.claims(object).filter_map(|(entry, _)| ClientId::new(&entry.node).ok()).collect()
    }

    /// Whether somebody serves an object that is followed, or finishes what it took before it ends.
    pub(crate) fn is_served(&self, object: &ObjectName) -> bool {
        self.word.lock().contains_key(&self.entry_topic(object)) || self.view.lock().is_served(object)
    }

    /// How far other nodes are with a name that is claimed in `mode`.
    pub(crate) fn tenure(&self, object: &ObjectName, mode: Mode) -> Tenure {
        let view = self.view.lock();
        let others = view.claims(object).filter(|(entry, alive)| *alive && !together(mode, entry));
        let tenures = others.map(|(entry, _)| if entry.settled { Tenure::Held } else { Tenure::Claimed });
        tenures.max().unwrap_or(Tenure::Vacant)
    }

    /// Who has the better right to a name than `mine`, of those whose node is ready.
    fn rival(&self, object: &ObjectName, mine: &Entry) -> Option<Entry> {
        let view = self.view.lock();
        let rivals = view.claims(object).filter(|(_, alive)| *alive).map(|(entry, _)| entry);
        rivals.filter(|other| !together(mine.mode, other)).find(|other| other.beats(mine)).cloned()
    }
}

/// Whether a node that claims a name in `mode` may serve it together with `other`.
fn together(mode: Mode, other: &Entry) -> bool {
    mode == Mode::Replica && other.mode == Mode::Replica
}

/// Keeps the node's word until the session ends: puts right what is wrong, and refreshes what would expire.
pub(crate) async fn keep_word(announcer: Arc<Announcer>, mut status: watch::Receiver<Status>) {
    let mut refresh = Instant::now() + UPKEEP;
    let ended = async move {
        let _ = status.wait_for(|s| matches!(s, Status::Ended(_))).await;
    };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return,
            () = announcer.heal.notified() => {
                let wrong = std::mem::take(&mut *announcer.wrong.lock());
                for topic in wrong {
                    // An entry of an earlier start, or of an object that is not served, is taken away.
                    let word = announcer.word.lock().get(&topic).cloned().unwrap_or_default();
                    tracing::debug!(topic, "puts its own word back");
                    let _ = announcer.outlet.send(retained(topic, word), 0).await;
                }
                sleep(HEAL).await;
            }
            topic = announcer.expiries.ended() => announcer.registry(&topic, b"", None),
            () = tokio::time::sleep_until(refresh) => {
                refresh += UPKEEP;
                let word: Vec<(String, Bytes)> =
                    announcer.word.lock().iter().map(|(topic, word)| (topic.clone(), word.clone())).collect();
                for (topic, word) in word {
                    let _ = announcer.outlet.send(retained(topic, word), 0).await;
                }
            }
        }
    }
}

/// Keeps one object served.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: oneshot::Sender<Duration>,
    task: JoinHandle<()>,
}

/// What comes of a claim.
enum Claimed {
    Held(Box<Entry>),
    Taken(String),
    Refused(ServeError),
    /// The connection was lost.
    Lost,
}

/// What a node that does not hold a name waits for before it claims it again.
enum Until {
    /// The next connection.
    Connection,
    /// The end of the other holders.
    Vacancy,
    /// A successor, and its end.
    Succession,
}

/// Why an entry does not stand.
#[derive(Debug, thiserror::Error)]
enum Announced {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error(transparent)]
    Unsent(#[from] Unsent),
}

impl Keeper {
    /// Starts it; the receiver is told what the first claim came to.
    pub(crate) fn start(
        announcer: Arc<Announcer>,
        status: watch::Receiver<Status>,
        served: Arc<Served>,
        options: ServeOptions,
    ) -> (Self, oneshot::Receiver<Result<(), ServeError>>) {
        let (told, first) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let claim = Claim { announcer, served, options };
        let task = tokio::spawn(claim.keep(status, told, stopped));
        (Self { stop, task }, first)
    }

    /// Withdraws the object, when what runs has finished or `patience` is over.
    pub(crate) async fn stop(self, patience: Duration) {
        if self.stop.send(patience).is_ok() {
            let _ = self.task.await;
        }
    }
}

/// One object and the right to its name.
struct Claim {
    announcer: Arc<Announcer>,
    served: Arc<Served>,
    options: ServeOptions,
}

impl Claim {
    async fn keep(
        self,
        mut status: watch::Receiver<Status>,
        told: oneshot::Sender<Result<(), ServeError>>,
        mut stopped: oneshot::Receiver<Duration>,
    ) {
        let mut told = Some(told);
        loop {
            // A connection of its own each time.
            let connection = tokio::select! {
                connection = connection(&mut status) => connection,
                // The broker has said that the node is lost; there is nothing to take back.
                patience = &mut stopped => return idle(&self.served, patience.unwrap_or_default()).await,
            };
            let Some(connection) = connection else {
                if let Some(told) = told.take() {
                    let _ = told.send(Err(ServeError::Ended));
                }
                return;
            };
            let over = || over(status.clone(), connection);
            let mut contenders = Contenders::new(self.announcer.clone(), self.served.name.clone());
            let claimed = tokio::select! {
                claimed = self.claim(&mut contenders) => claimed,
                () = over() => Claimed::Lost,
                patience = &mut stopped => {
                    return self.leave(patience.unwrap_or_default(), over()).await;
                }
            };
            let until = match claimed {
                Claimed::Lost => {
                    over().await;
                    continue;
                }
                Claimed::Refused(error) => {
                    if let Some(told) = told.take() {
                        let _ = told.send(Err(error));
                        return;
                    }
                    tracing::error!("{}: {error}", self.served.name);
                    Until::Connection
                }
                Claimed::Taken(holder) => {
                    if let Some(told) = told.take() {
                        let object = self.served.name.to_string();
                        let _ = told.send(Err(ServeError::Taken { object, holder }));
                        return;
                    }
                    let name = &self.served.name;
                    tracing::error!("{name} is served by node {holder}; it is claimed here when that ends");
                    Until::Vacancy
                }
                Claimed::Held(entry) => {
                    if let Some(told) = told.take() {
                        let _ = told.send(Ok(()));
                    } else {
                        tracing::info!("{}: served again", self.served.name);
                    }
                    let unasked = self.served.begin();
                    tokio::select! {
                        holder = self.contested(&entry, &mut contenders) => {
                            drop(unasked);
                            tracing::error!("{}: gives way to node {holder}", self.served.name);
                            self.withdraw().await;
                            Until::Vacancy
                        }
                        () = self.served.yielded.notified() => {
                            drop(unasked);
                            tracing::warn!("{}: given up, as another node has asked", self.served.name);
                            self.withdraw().await;
                            Until::Succession
                        }
                        () = over() => continue,
                        patience = &mut stopped => {
                            drop(unasked);
                            return self.leave(patience.unwrap_or_default(), over()).await;
                        }
                    }
                }
            };
            let free = async {
                match until {
                    Until::Connection => std::future::pending().await,
                    Until::Vacancy => contenders.vacancy(self.options.mode).await,
                    Until::Succession => contenders.succession(self.options.mode).await,
                }
            };
            tokio::select! {
                () = over() => {}
                () = free => {}
                patience = &mut stopped => return idle(&self.served, patience.unwrap_or_default()).await,
            }
        }
    }

    /// Takes no more calls, finishes what runs, and takes the entry away; of that what needs the broker only
    /// until the connection is over.
    async fn leave(&self, patience: Duration, over: impl Future<Output = ()>) {
        tokio::pin!(over);
        let connected = tokio::select! {
            () = self.unsubscribe() => true,
            () = &mut over => false,
        };
        idle(&self.served, patience).await;
        if connected {
            tokio::select! {
                () = self.withdraw() => {}
                () = over => {}
            }
        }
    }

    fn entry(&self, settled: bool) -> Entry {
        let description = &self.served.description;
        Entry {
            v: VERSION,
            object: self.served.name.to_string(),
            node: self.announcer.id.to_string(),
            epoch: self.announcer.epoch.clone(),
            mode: self.options.mode,
            settled,
            version: description.version.clone(),
            summary: description.summary.clone(),
            tags: description.tags.clone(),
            methods: description.methods.iter().map(|m| m.name.clone()).collect(),
            events: description.events.iter().map(|e| e.name.clone()).collect(),
        }
    }

    /// From looking who is there to being served.
    async fn claim(&self, contenders: &mut Contenders) -> Claimed {
        // Takes away a request to give up that came while the name was not held.
        pin!(self.served.yielded.notified()).enable();
        match self.try_claim(contenders).await {
            Ok(claimed) => claimed,
            Err(SubscribeError::Refused { filter, reason }) => {
                Claimed::Refused(ServeError::Refused(SubscribeError::Refused { filter, reason }))
            }
            Err(_) => Claimed::Lost,
        }
    }

    async fn try_claim(&self, contenders: &mut Contenders) -> Result<Claimed, SubscribeError> {
        let Self { announcer, served, options } = self;
        let name = &served.name;
        contenders.look().await?;
        let unsettled = self.entry(false);
        if let Some(mut holder) = announcer.rival(name, &unsettled) {
            if options.replace && holder.settled && options.mode == Mode::Exclusive {
                self.ask_to_yield(&holder).await;
                let deadline = Instant::now() + YIELD;
                let mut seen = announcer.seen();
                while let Some(still) = announcer.rival(name, &unsettled) {
                    holder = still;
                    if timeout_at(deadline, seen.changed()).await.is_err() {
                        return Ok(Claimed::Taken(holder.node));
                    }
                }
            } else {
                return Ok(Claimed::Taken(holder.node));
            }
        }
        if options.mode == Mode::Exclusive {
            if let Err(error) = announcer.announce(name, &unsettled).await {
                return Ok(self.unannounced(error));
            }
            if let Ok(holder) = timeout(CONTEST, self.contested(&unsettled, contenders)).await {
                self.withdraw().await;
                return Ok(Claimed::Taken(holder));
            }
        }
        // The requests to this node are subscribed to once, for all of its objects.
        let [call, _, all] = call_filters(&announcer.root, &announcer.id, name);
        let filters = [call, all].map(|filter| Filter::new(filter).live().passing());
        announcer.outlet.subscribe(filters.to_vec()).await?;
        let settled = self.entry(true);
        *served.entry.lock() = Some(settled.clone());
        if let Err(error) = announcer.announce(name, &settled).await {
            return Ok(self.unannounced(error));
        }
        Ok(Claimed::Held(Box::new(settled)))
    }

    fn unannounced(&self, error: Announced) -> Claimed {
        match error {
            Announced::Unsent(Unsent::Lost | Unsent::Ended) => Claimed::Lost,
            Announced::Unsent(source) => {
                let object = self.served.name.to_string();
                Claimed::Refused(ServeError::Unregistered { object, source })
            }
            Announced::Entry(error) => Claimed::Refused(error.into()),
        }
    }

    /// Waits until somebody has the better right; who.
    async fn contested(&self, mine: &Entry, contenders: &mut Contenders) -> String {
        contenders.until(|announcer| announcer.rival(&self.served.name, mine).map(|rival| rival.node)).await
    }

    async fn ask_to_yield(&self, holder: &Entry) {
        let (Ok(node), Ok(method)) = (ClientId::new(&holder.node), MethodName::new("rpc.yield")) else {
            return;
        };
        let object = self.served.name.clone();
        let topic = CallTopic { target: Target::Node(node), object, method: Some(method) };
        let mut publish = Publish::new(topic.format(&self.announcer.root), Bytes::new()).once();
        publish.properties.user.push(("oneway".to_owned(), "1".to_owned()));
        let _ = self.announcer.outlet.publish(publish).await;
    }

    async fn unsubscribe(&self) {
        let [call, _, all] = call_filters(&self.announcer.root, &self.announcer.id, &self.served.name);
        let _ = timeout(YIELD, self.announcer.outlet.unsubscribe(vec![call, all])).await;
    }

    /// Takes no more calls, and takes the entry away.
    async fn withdraw(&self) {
        self.unsubscribe().await;
        *self.served.entry.lock() = None;
        let topic = self.announcer.entry_topic(&self.served.name);
        let _ = timeout(YIELD, self.announcer.clear(topic)).await;
    }
}
