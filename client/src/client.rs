//! Connection of a caller to the bus.

use std::sync::Arc;

use tokio::sync::watch;

use crate::environment::Environment;
use crate::error::CallError;
use crate::pending::{Arrived, Pending, key, reply_key};
use crate::presence::Presence;
use crate::proxy::Forms;
use crate::session::{
    Address, ConnectError, Filter, Message, Options, Outlet, Publish, QoS, Receiver, Session, Status,
    SubscribeError, Unsent,
};
use crate::subscription::{ListenerPlace, Listeners, Sink, Subscription};
use crate::wire::accepted::{ACCEPTED, Accepted};
use crate::wire::name::{ClientId, Root};
use crate::wire::topic::{EventTopic, ReplyTopic};

/// Prefix of random client ids.
const ID_PREFIX: &str = "client";

/// Connection to the bus. Cheap to clone; all clones share one MQTT session, which reconnects by itself until the last clone is
/// dropped.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = rantai_client::Client::connect("mqtt://localhost").await?;
/// let sum: f64 = client.object("calculator").call("add", (2, 3)).await?;
/// assert_eq!(sum, 5.0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<ClientState>,
}

#[derive(Debug)]
struct ClientState {
    session: Session,
    outlet: Outlet,
    root: Root,
    id: ClientId,
    environment: Environment,
    pending: Arc<Pending>,
    listeners: Arc<Listeners>,
    presence: Arc<Presence>,
    forms: Forms,
}

/// Options of a connection. Each connection made from a cloned builder has a random client id of its own, unless one was set.
#[derive(Clone, Debug)]
pub struct Builder {
    options: Options,
    root: Root,
    /// Whether the client id was set.
    named: bool,
}

impl Builder {
    /// Sets the client id. Default: a random one. Two clients with one id disconnect each other.
    #[must_use]
    pub fn client_id(mut self, id: ClientId) -> Self {
        self.options.client_id = id;
        self.named = true;
        self
    }

    /// Sets a client id that belongs to the user of the address ([`own_id`]).
    #[must_use]
    pub fn own_id(&self, id: ClientId) -> ClientId {
        own_id(self.options.address.user(), id)
    }

    /// Sets the root of all topics. Default: `rantai`.
    #[must_use]
    pub fn root(mut self, root: Root) -> Self {
        self.root = root;
        self
    }

    /// Sets the keep alive in seconds. Default: 30.
    #[must_use]
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.options.keep_alive = seconds;
        self
    }

    /// Retries the first connection until it succeeds, instead of failing.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.options.patient = true;
        self
    }

    /// Logs for debugging only that the broker is lost: another session of the process logs it.
    #[must_use]
    pub fn secondary(mut self) -> Self {
        self.options.is_secondary = true;
        self
    }

    /// Returns the options of a session of another kind to the same broker, with a random client id, and the root.
    pub(crate) fn further_session(&self, kind: &str) -> (Options, Root) {
        let Self { options, root, .. } = self.clone();
        let client_id = draw_id_of(options.address.user(), kind, &options.environment);
        (Options { client_id, ..options }, root)
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// The broker cannot be reached, or refuses the connection or the subscription to replies.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let Self { mut options, root, named } = self;
        if !named {
            // Drawn here and not in `Client::builder`, as clones of one builder would have the same id and disconnect each other.
            options.client_id = draw_id_of(options.address.user(), ID_PREFIX, &options.environment);
        }
        let (id, environment) = (options.client_id.clone(), options.environment.clone());
        let pending = Arc::new(Pending::default());
        let listeners = Arc::new(Listeners::default());
        let presence = Arc::new(Presence::default());
        let replies = Replies {
            root: root.clone(),
            id: id.clone(),
            pending: pending.clone(),
            listeners: listeners.clone(),
            presence: presence.clone(),
        };
        let session = Session::connect(options, |_| replies).await?;
        let filter = Filter::new(ReplyTopic::filter(&root, &id)).live();
        session.begin(vec![filter]).await?;
        let outlet = session.outlet();
        Ok(Client {
            inner: Arc::new(ClientState {
                session,
                outlet,
                root,
                id,
                environment,
                pending,
                listeners,
                presence,
                forms: Forms::default(),
            }),
        })
    }
}

impl Client {
    /// Connects with default options.
    ///
    /// # Errors
    ///
    /// Same as [`Builder::connect`]; an invalid address.
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        Self::builder(address.parse()?).connect().await
    }

    /// Returns a builder for other options.
    pub fn builder(address: Address) -> Builder {
        Builder { options: Options::new(address, random_id(ID_PREFIX)), root: Root::default(), named: false }
    }

    /// Subscribes to topics, as for events. Dropping the subscription unsubscribes.
    ///
    /// # Errors
    ///
    /// The broker refused the subscription, or the session has ended.
    pub async fn subscribe(&self, filters: Vec<Filter>) -> Result<Subscription, CallError> {
        let (sink, receiver, missed) = Subscription::channel();
        let place = self.listen(filters, sink).await?;
        Ok(Subscription { receiver, missed, _place: place })
    }

    pub(crate) async fn listen(
        &self,
        filters: Vec<Filter>,
        sink: Sink,
    ) -> Result<ListenerPlace, SubscribeError> {
        let topics = filters.iter().map(|f| f.topic.clone()).collect();
        // The listener is added first, as retained messages may arrive before the SUBACK.
        let place = self.inner.listeners.add(self.inner.outlet.clone(), topics, sink);
        self.inner.session.subscribe(filters).await?;
        Ok(place)
    }

    pub(crate) async fn listen_more(
        &self,
        place: &ListenerPlace,
        filters: Vec<Filter>,
    ) -> Result<(), SubscribeError> {
        let topics: Vec<String> = filters.iter().map(|f| f.topic.clone()).collect();
        self.inner.listeners.extend(place, &topics);
        self.inner.session.subscribe(filters).await
    }

    /// Publishes a message and waits for the broker's acknowledgement.
    ///
    /// # Errors
    ///
    /// The message was refused, or the connection was lost before the acknowledgement.
    pub async fn publish(&self, publish: Publish) -> Result<(), Unsent> {
        self.inner.session.publish(publish).await
    }

    /// Publishes a command to the broker itself at QoS 1, and returns the Reason String of its PUBACK, empty if there is none.
    ///
    /// # Errors
    ///
    /// Same as [`publish`](Self::publish).
    pub async fn command(&self, publish: Publish) -> Result<String, Unsent> {
        self.inner.session.command(publish).await
    }

    /// Returns the client id. Replies arrive on `{root}/reply/{object}/{id}`.
    pub fn id(&self) -> &ClientId {
        &self.inner.id
    }

    /// Returns the root of all topics.
    pub fn root(&self) -> &Root {
        &self.inner.root
    }

    /// Returns the number of pending calls.
    pub fn in_flight(&self) -> usize {
        self.inner.pending.len()
    }

    /// Returns a receiver of the connection status.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.session.status()
    }

    /// Disconnects from the broker, for all clones.
    pub async fn close(&self) {
        self.inner.session.close().await;
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    pub(crate) fn outlet(&self) -> &Outlet {
        &self.inner.outlet
    }

    pub(crate) fn forms(&self) -> &Forms {
        &self.inner.forms
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.inner.presence
    }

    /// Subscribes to `accepted` events of its calls, once.
    pub(crate) fn subscribe_to_accepted(&self) {
        if self.inner.presence.claim_accepted_subscription() {
            // If the subscription is refused, calls detect the loss of a node only by the registry.
            let accepted = Filter::new(EventTopic::every_for(self.root(), ACCEPTED, self.id()));
            self.inner.outlet.subscribe_now(vec![accepted.qos(QoS::AtMostOnce).live().passing()]);
        }
    }

    pub(crate) fn pending(&self) -> &Arc<Pending> {
        &self.inner.pending
    }
}

/// Returns a random client id: `kind` and 12 hexadecimal digits.
pub fn random_id(kind: &str) -> ClientId {
    draw_id(kind, &Environment::default())
}

/// Same as [`random_id`], with the random numbers of an environment.
pub fn draw_id(kind: &str, environment: &Environment) -> ClientId {
    let random = environment.random() & 0xFFFF_FFFF_FFFF;
    ClientId::new(&format!("{kind}-{random:012x}")).expect("letters, digits and a hyphen")
}

/// Same as [`draw_id`], for a client that logs in: the id begins with `USER--`, which brokers can reserve for the user. A user
/// name that is too long or not valid in a client id is left out.
pub fn draw_id_of(user: Option<&str>, kind: &str, environment: &Environment) -> ClientId {
    own_id(user, draw_id(kind, environment))
}

/// Prefixes a client id with `USER--`, unless it begins so. Returns it unchanged without a user, and if the user's name is too
/// long or not valid in a client id.
pub fn own_id(user: Option<&str>, id: ClientId) -> ClientId {
    let Some(user) = user.filter(|user| !user.is_empty()) else { return id };
    let before = format!("{user}--");
    if id.as_str().starts_with(&before) {
        return id;
    }
    ClientId::new(&format!("{before}{id}")).unwrap_or(id)
}

/// Dispatches received messages to pending calls and subscriptions.
struct Replies {
    root: Root,
    id: ClientId,
    pending: Arc<Pending>,
    listeners: Arc<Listeners>,
    presence: Arc<Presence>,
}

impl Receiver for Replies {
    fn message(&mut self, message: Message) {
        let topic = message.topic.clone();
        if let Some(object) = ReplyTopic::object_of(&self.root, &self.id, &topic)
            && let Some(key) = reply_key(&message)
        {
            // Dropped if no call waits for this reply any more.
            self.pending.replied(key, object, message);
            return;
        }
        if EventTopic::event_for(&self.root, &self.id, &topic) == Some(ACCEPTED)
            && let Some(key) = key(message.properties.correlation.as_deref())
            && let Some(accepted) = Accepted::read(&message.payload)
        {
            self.pending.accepted(key, accepted);
        }
        self.listeners.message(&message);
    }

    fn settled(&mut self, token: u128, result: Result<(), Unsent>) {
        if let Err(error) = result {
            if error == Unsent::NobodyThere {
                self.presence.unreceived();
            }
            self.pending.arrived(token, Arrived::Failed(error));
        }
    }

    fn connected(&mut self) {
        self.presence.connected();
    }

    fn disconnected(&mut self) {
        self.presence.disconnected();
        self.listeners.disconnected();
        self.pending.disconnected();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_ids_belong_to_the_user_who_logs_in() {
        let environment = Environment::default();
        let drawn = |user| draw_id_of(user, ID_PREFIX, &environment).to_string();
        assert!(drawn(Some("ada")).starts_with("ada--client-"));
        let long = "a".repeat(64);
        for user in [None, Some(""), Some("$local"), Some("ada lovelace"), Some(&*long)] {
            assert!(drawn(user).starts_with("client-"), "{user:?}");
        }
        let kept = |id| own_id(Some("ada"), ClientId::new(id).expect("an id")).to_string();
        assert_eq!((kept("node-1"), kept("ada--1")), ("ada--node-1".to_owned(), "ada--1".to_owned()));
    }
}
