//! A node: objects served on one session.

use std::collections::BTreeMap;
#[cfg(feature = "journal")]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::Client;
use rantai_client::client::{draw_id_of, random_id};
use rantai_client::object::{Calls, Object};
use rantai_client::session::{
    Address, ConnectError, Filter, Message, Options, Outlet, Publish, Receiver, Session, Status, Unsent, Will,
};
use rantai_client::wire::entry::{LIFETIME, NodeState, State};
use rantai_client::wire::features::BrokerFeatures;
use rantai_client::wire::name::{ClientId, ObjectName, Root};
use rantai_client::wire::topic::{RegistryTopic, TopicKind, requests_at};
use rantai_client::wire::user::User;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::announcer::{Announcer, Origin, draw_epoch, keep_announced};
use crate::bus::NodeBus;
use crate::dispatch::{Dispatcher, Out, Served};
#[cfg(feature = "journal")]
use crate::journal::Journal;
use crate::keeper::Keeper;
use crate::links::Links;
use crate::serving::{ServeError, ServeOptions};
#[cfg(feature = "journal")]
use rantai_commit::DiskError;

/// Why a node does not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// What methods marked `once` are asked cannot be kept.
    #[cfg(feature = "journal")]
    #[error("cannot open the journal {}", file.display())]
    Journal {
        /// In which file.
        file: PathBuf,
        /// What the system or library said.
        source: DiskError,
    },
}

/// Objects served on one session.
///
/// A node keeps its word by itself: it connects again, claims its names again, and publishes again what somebody
/// else has overwritten. [`drain`](Self::drain) ends it in order; dropped without it, its objects are lost.
#[derive(Debug)]
pub struct Node {
    session: Session,
    announcer: Arc<Announcer>,
    dispatcher: Arc<Dispatcher>,
    keepers: Mutex<BTreeMap<ObjectName, Keeper>>,
}

/// How to connect. Each node of a builder that was cloned draws a name of its own, unless one was given.
#[derive(Clone, Debug)]
pub struct Builder {
    options: Options,
    root: Root,
    calls: Calls,
    #[cfg(feature = "journal")]
    journal: Option<PathBuf>,
    admins: Vec<String>,
    name: Name,
}

/// Where the name of a node comes from.
#[derive(Clone, Debug)]
enum Name {
    Given,
    /// Random, behind this prefix.
    Drawn(String),
}

/// Default prefix of drawn names.
const KIND: &str = "node";
/// Maximum length of a prefix, so that with 12 random digits behind it a user's name of 20 characters fits in front.
const MAX_PREFIX_CHARS: usize = 29;

impl Builder {
    /// By this name, which is its MQTT client id; otherwise a random one is drawn. Two nodes by one name end each
    /// other.
    #[must_use]
    pub fn name(mut self, name: ClientId) -> Self {
        self.options.client_id = name;
        self.name = Name::Given;
        self
    }

    /// Draw the name with this prefix instead of `node`. Of the prefix, 29 characters at most are used, and those that are not
    /// valid in a client id are left out.
    #[must_use]
    pub fn name_prefix(mut self, prefix: &str) -> Self {
        let valid = prefix.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        let prefix: String = valid.take(MAX_PREFIX_CHARS).collect();
        self.name = Name::Drawn(if prefix.is_empty() { KIND.to_owned() } else { prefix });
        self
    }

    /// On this root of topics instead of `rantai`.
    #[must_use]
    pub fn root(mut self, root: Root) -> Self {
        self.root = root;
        self
    }

    /// Ping after this many seconds of silence, instead of 30.
    #[must_use]
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.options.keep_alive = seconds;
        self
    }

    /// Objects call others by this connection, which the node binds to its broker where it is not bound yet; without it
    /// by one of the node's own. Either connects at the first call.
    #[must_use]
    pub fn calls(mut self, calls: Calls) -> Self {
        self.calls = calls;
        self
    }

    /// Keep in this file what methods marked `once` are asked and answer. Without it they are carried out once
    /// for as long as the process runs.
    #[cfg(feature = "journal")]
    #[must_use]
    pub fn journal(mut self, file: PathBuf) -> Self {
        self.journal = Some(file);
        self
    }

    /// `rpc.stats` names all callers to these users, and other users to nobody else.
    #[must_use]
    pub fn admins(mut self, users: Vec<String>) -> Self {
        self.admins = users;
        self
    }

    /// Wait for a broker that is not there yet.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.options.patient = true;
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// Where the broker cannot be reached or refuses, and where the journal cannot be opened.
    pub async fn connect(self) -> Result<Node, NodeError> {
        let Self { mut options, root, calls, admins, name, .. } = self;
        if let Name::Drawn(prefix) = &name {
            options.client_id = draw_id_of(options.address.user(), prefix, &options.environment);
        }
        let environment = options.environment.clone();
        #[cfg(feature = "journal")]
        let journal = match self.journal {
            Some(file) => Journal::open(&file, environment.clone())
                .map_err(|source| NodeError::Journal { file, source })?,
            None => Journal::in_memory(environment.clone())
                .map_err(|source| NodeError::Journal { file: PathBuf::from("in memory"), source })?,
        };
        let id = options.client_id.clone();
        let epoch = draw_epoch(&environment);
        options.notices_standstill = true;
        options.will = Some(Will {
            topic: RegistryTopic::Node(id.clone()).format(&root),
            payload: NodeState::new(State::Lost, &epoch).write().into(),
            expiry: Some(LIFETIME),
        });
        calls.bind(Client::builder(options.address.clone()).root(root.clone()).secondary());
        let mut parts = None;
        let session = Session::connect(options, |outlet| {
            let bus = NodeBus { outlet: outlet.clone(), calls: calls.clone() };
            let announcer = Announcer::new(root.clone(), id.clone(), epoch, Box::new(bus));
            let links = Links::new(announcer.clone());
            let out = Outbound { outlet: outlet.clone(), links: links.clone(), announcer: announcer.clone() };
            let dispatcher = Dispatcher::new(root.clone(), id.clone(), Box::new(out), calls);
            let served = Arc::downgrade(&dispatcher);
            links.tell_of_losses(move |loss| {
                if let Some(dispatcher) = served.upgrade() {
                    dispatcher.server_lost(loss);
                }
            });
            dispatcher.name_callers_to(admins);
            #[cfg(feature = "journal")]
            dispatcher.keep_journal(journal);
            parts = Some((announcer.clone(), dispatcher.clone()));
            Inbound { announcer, dispatcher, outlet }
        })
        .await?;
        let (announcer, dispatcher) = parts.expect("made above");
        let mine = [
            Filter::new(RegistryTopic::Node(id.clone()).format(&root)),
            Filter::new(RegistryTopic::entries_on(&root, &id)),
            Filter::new(requests_at(&root, &id)).live(),
        ];
        session.begin(mine.to_vec()).await?;
        tokio::spawn(keep_announced(announcer.clone(), session.status()));
        Ok(Node { session, announcer, dispatcher, keepers: Mutex::default() })
    }
}

impl Node {
    /// Connects with the defaults.
    ///
    /// # Errors
    ///
    /// As [`Builder::connect`], and an address that is none.
    pub async fn connect(address: &str) -> Result<Self, NodeError> {
        Self::builder(address.parse().map_err(ConnectError::from)?).connect().await
    }

    /// Sets what is to be other than the default.
    pub fn builder(address: Address) -> Builder {
        let options = Options::new(address, random_id(KIND));
        Builder {
            options,
            root: Root::default(),
            calls: Calls::default(),
            #[cfg(feature = "journal")]
            journal: None,
            admins: Vec::new(),
            name: Name::Drawn(KIND.to_owned()),
        }
    }

    /// Its name on the bus.
    pub fn name(&self) -> &ClientId {
        &self.announcer.id
    }

    /// Follows how its connection is.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.session.status()
    }

    /// Serves an object alone, and waits until the bus knows it.
    ///
    /// # Errors
    ///
    /// As [`serve_with`](Self::serve_with).
    pub async fn serve(&self, name: &str, object: impl Object) -> Result<(), ServeError> {
        self.serve_with(name, Arc::new(object), ServeOptions::default()).await
    }

    /// Serves an object, and waits until it is registered and callable: about a second for an exclusive name,
    /// which others may contest that long. Waits for the broker too.
    ///
    /// # Errors
    ///
    /// Where the name is taken, or the broker does not allow it. Later the node claims it again after every
    /// reconnect; what goes wrong then is logged.
    pub async fn serve_with(
        &self,
        name: &str,
        object: Arc<dyn Object>,
        options: ServeOptions,
    ) -> Result<(), ServeError> {
        let name = ObjectName::any(name)?;
        let served = Served::new(name.clone(), object, options.limits);
        if !self.dispatcher.add(served.clone()) {
            let (object, holder) = (name.to_string(), self.name().to_string());
            return Err(ServeError::Taken { object, holder });
        }
        let (keeper, first) = Keeper::start(self.announcer.clone(), self.session.status(), served, options);
        self.keepers.lock().insert(name.clone(), keeper);
        let result = first.await.unwrap_or(Err(ServeError::Ended));
        if result.is_err() {
            self.dispatcher.remove(&name);
            self.keepers.lock().remove(&name);
        }
        result
    }

    /// Stops serving one object, when what runs has finished or `patience` is over.
    pub async fn withdraw(&self, name: &ObjectName, patience: Duration) {
        let keeper = self.keepers.lock().remove(name);
        if let Some(keeper) = keeper {
            keeper.stop(patience).await;
        }
        self.dispatcher.remove(name);
    }

    /// Ends it in order: nothing new is taken, what runs may finish within `patience`, the registry forgets it,
    /// and it says goodbye.
    pub async fn drain(&self, patience: Duration) {
        self.announcer.announce_state(State::Draining);
        let keepers: Vec<Keeper> = std::mem::take(&mut *self.keepers.lock()).into_values().collect();
        let stops: Vec<_> = keepers.into_iter().map(|keeper| tokio::spawn(keeper.stop(patience))).collect();
        for stop in stops {
            let _ = stop.await;
        }
        let mut status = self.session.status();
        tokio::select! {
            _ = timeout(Duration::from_secs(5), self.announcer.forget_state()) => {}
            // The broker has said itself that the node is lost.
            _ = status.wait_for(|s| !matches!(s, Status::Online(_))) => {}
        }
        self.session.close().await;
    }

    /// The objects it serves.
    pub fn objects(&self) -> Vec<Arc<Served>> {
        self.dispatcher.objects()
    }
}

/// From the dispatcher to the session.
struct Outbound {
    outlet: Outlet,
    links: Arc<Links>,
    announcer: Arc<Announcer>,
}

impl Out for Outbound {
    fn send(&self, publish: Publish, token: u128) -> Result<(), Unsent> {
        self.outlet.send_now(publish, token)
    }

    fn backlog(&self) -> usize {
        self.outlet.backlog()
    }

    fn features(&self) -> BrokerFeatures {
        self.outlet.features()
    }

    fn is_served(&self, object: &ObjectName) -> Option<bool> {
        self.links.served(object)
    }

    fn is_claimed_by(&self, object: &ObjectName, user: Option<&User>) -> bool {
        self.announcer.is_claimed_by(object, user)
    }
}

/// From the session to the dispatcher and the announcer.
struct Inbound {
    announcer: Arc<Announcer>,
    dispatcher: Arc<Dispatcher>,
    outlet: Outlet,
}

impl Receiver for Inbound {
    fn connected(&mut self) {
        self.announcer.connected();
    }

    fn disconnected(&mut self) {
        self.announcer.disconnected();
    }

    fn message(&mut self, message: Message) {
        match TopicKind::of(&self.announcer.root, &message.topic) {
            Some((TopicKind::Name | TopicKind::Node, _)) => {
                let user = message.properties.user("caller").filter(|_| self.outlet.features().caller());
                let origin = Origin {
                    expiry: message.properties.expiry,
                    user: user.and_then(|user| User::new(user).ok()),
                    stored: message.retain,
                };
                self.announcer.registry(&message.topic, &message.payload, origin);
            }
            _ => self.dispatcher.message(&message),
        }
    }

    fn settled(&mut self, token: u128, result: Result<(), Unsent>) {
        if !self.announcer.settled(token, &result) {
            self.dispatcher.settled(token, result);
        }
    }
}
