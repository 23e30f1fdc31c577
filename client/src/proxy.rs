//! Calling an object.

mod acting;
mod items;
mod response;
mod unheard;

pub use items::{Items, Opened};
use response::response;
pub use response::{Content, Response};
use unheard::Unheard;

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::client::Client;
use crate::error::CallError;
use crate::pending::{Arrived, Collected};
use crate::presence::{CallLoss, PendingCall, SUBSCRIBE_AFTER, WATCH_AFTER};
use crate::registry::{View, lost};
use crate::session::{Publish, QoS, Unsent};
use crate::wire::fault::{Code, Fault};
use crate::wire::name::{ClientId, MethodName, NameError, ObjectName};
use crate::wire::request::{DEFAULT_TTL_MS, LONGEST_TTL_MS, properties};
use crate::wire::topic::{CallTopic, ReplyTopic, Target};
use crate::wire::{BINARY, json};

/// Nodes that end one after the other while they have the same call, until that is the answer.
const MOST_NODES: usize = 8;

/// An object on the bus, by its name; cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxy {
    client: Client,
    object: Result<ObjectName, NameError>,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    deadline: Duration,
    /// No call lasts beyond it.
    until: Option<Instant>,
    qos: QoS,
    target: Target,
    idempotent: bool,
    /// On whose behalf, instead of that of the connection's user; empty for clients that did not log in.
    caller: Option<String>,
    /// User properties of every request.
    user: Vec<(String, String)>,
}

// Defined here, so that the module of the client does not depend on this one.
impl Client {
    /// An object by its name, which is looked at when it is called.
    pub fn object(&self, name: &str) -> Proxy {
        let name = ObjectName::any(name);
        Proxy::new(self.clone(), name)
    }
}

impl Proxy {
    pub(crate) fn new(client: Client, object: Result<ObjectName, NameError>) -> Self {
        let settings = Settings {
            deadline: Duration::from_millis(DEFAULT_TTL_MS),
            until: None,
            qos: QoS::AtLeastOnce,
            target: Target::Any,
            idempotent: false,
            caller: None,
            user: Vec::new(),
        };
        Self { client, object, settings }
    }

    /// Every call ends within this time, instead of 30 s; at most one hour.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline.min(Duration::from_millis(LONGEST_TTL_MS));
        self
    }

    /// Every call ends by this instant, if its [`deadline`](Self::deadline) is not earlier.
    #[must_use]
    pub fn until(mut self, instant: Instant) -> Self {
        self.settings.until = Some(instant);
        self
    }

    /// Adds a user property to every request.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.settings.user.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Requests go at this QoS. At 0 they are a little faster, and on another broker than `rantai`'s an object that is not there
    /// shows only after about two seconds, by the registry.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.settings.qos = qos;
        self
    }

    /// The instance on this node, and no other.
    #[must_use]
    pub fn at(mut self, node: ClientId) -> Self {
        self.settings.target = Target::Node(node);
        self
    }

    /// Requests may be carried out twice: after a reconnect, and to another instance where their node is lost, they are sent
    /// again by themselves, where they would otherwise end with [`CallError::Lost`] or with -32004 and `maybe_executed`.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.settings.idempotent = true;
        self
    }

    /// Calls a method and reads its result.
    ///
    /// `params` is written as JSON: a tuple, an array or a list is taken by position, a struct or a map by name,
    /// `()` is none, anything else is one parameter. A single list is put into a tuple: `(list,)`.
    ///
    /// # Errors
    ///
    /// Whatever the object says, and whatever keeps the call from reaching it. Ends by the deadline in any case.
    pub async fn call<R: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Serialize,
    ) -> Result<R, CallError> {
        self.request(method).params(params).send().await?.read()
    }

    /// A call to be described further.
    pub fn request(&self, method: &str) -> Request {
        let mut proxy = self.clone();
        let user = std::mem::take(&mut proxy.settings.user);
        if let Some(until) = proxy.settings.until {
            let left = until.saturating_duration_since(Instant::now());
            proxy.settings.deadline = proxy.settings.deadline.min(left);
        }
        Request {
            proxy,
            method: MethodName::new(method).map_err(CallError::from),
            payload: Bytes::new(),
            binary: false,
            user,
            identity: None,
        }
    }

    /// Waits until somebody serves the object, on whatever node, and returns at once where somebody does.
    ///
    /// # Errors
    ///
    /// -32003 or -32004 where nobody does within `patience`, and a text that is no name. Cancelling is safe.
    pub async fn wait_for(&self, patience: Duration) -> Result<(), CallError> {
        let object = self.object.clone()?;
        self.client.registry().wait_for(&object, patience).await.map(drop)
    }

    /// The object's name, where it is one.
    pub fn name(&self) -> Option<&ObjectName> {
        self.object.as_ref().ok()
    }

    /// The client it is called through.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// A call under construction.
#[derive(Clone, Debug)]
pub struct Request {
    proxy: Proxy,
    method: Result<MethodName, CallError>,
    payload: Bytes,
    binary: bool,
    user: Vec<(String, String)>,
    identity: Option<u128>,
}

impl Request {
    /// With these parameters; see [`Proxy::call`].
    #[must_use]
    pub fn params(mut self, params: impl Serialize) -> Self {
        match serde_json::to_value(params) {
            Ok(Value::Null) => self.payload = Bytes::new(),
            Ok(value) => {
                let written = serde_json::to_vec(&json::portable(value)).expect("a JSON value is JSON");
                self.payload = written.into();
            }
            Err(error) => self.method = Err(CallError::Parameters(error.to_string())),
        }
        self
    }

    /// With a payload as it stands: JSON, or a text.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }

    /// With one binary parameter.
    #[must_use]
    pub fn binary(mut self, bytes: impl Into<Bytes>) -> Self {
        self.payload = bytes.into();
        self.binary = true;
        self
    }

    /// By this identity instead of a new one: a repeat is recognised by the instance that had it before.
    #[must_use]
    pub fn identity(mut self, identity: Uuid) -> Self {
        self.identity = Some(identity.as_u128());
        self
    }

    /// With a user property besides.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.user.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends it, and waits for the reply.
    ///
    /// Dropping the future cancels the call: a node that still carries it out drops it, and tells the method
    /// ([`Context::cancelled`](crate::object::Context::cancelled)). A method marked `once` is told and goes on. Nothing is
    /// cancelled where an [`identity`](Self::identity) was given, as the request may be sent again to hear its reply.
    ///
    /// # Errors
    ///
    /// What keeps it from a reply. What the object itself says is in the response.
    pub async fn send(self) -> Result<Response, CallError> {
        let key = self.key();
        let deadline = self.deadline();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(key, deadline).await {
                Err(error) if self.goes_again(&error) => {}
                // The node has said itself that it ends.
                Ok(response) if tries < MOST_NODES && self.goes_elsewhere(&response) => {}
                result => return result,
            }
        }
    }

    /// Whether a request goes to another instance, as the one that had it has ended.
    fn goes_elsewhere(&self, response: &Response) -> bool {
        let Settings { idempotent, target, .. } = &self.proxy.settings;
        *idempotent
            && *target == Target::Any
            && response.outcome.as_ref().is_err_and(|fault| is_of_lost_node(fault))
    }

    /// When a call that begins now is over.
    fn deadline(&self) -> Instant {
        let Settings { deadline, until, .. } = &self.proxy.settings;
        let own = Instant::now() + *deadline;
        until.map_or(own, |until| own.min(until))
    }

    /// The identity it was given, or a new one.
    fn key(&self) -> u128 {
        self.identity.unwrap_or_else(|| self.proxy.client.environment().ordered_id().as_u128())
    }

    /// On one connection.
    async fn attempt(&self, key: u128, deadline: Instant) -> Result<Response, CallError> {
        let (object, publish) = self.ready(key, deadline, false).await?;
        let client = &self.proxy.client;
        let (_ticket, mut arrived) = client.pending().one(key, object.clone());
        client.outlet().send_now(publish, key)?;
        let unheard = Unheard::new(self, &object, key, deadline);
        let reply = self.reply((&object, key), deadline, &mut arrived).await;
        unheard.ends();
        reply
    }

    /// The reply to a request that was sent.
    async fn reply(
        &self,
        (object, key): (&ObjectName, u128),
        deadline: Instant,
        arrived: &mut oneshot::Receiver<Arrived>,
    ) -> Result<Response, CallError> {
        let client = &self.proxy.client;
        let sent = Instant::now();
        let watched = sent + WATCH_AFTER;
        if watched < deadline {
            if let Ok(arrived) = timeout_at(sent + SUBSCRIBE_AFTER, &mut *arrived).await {
                return self.arrived(object, deadline, Ok(arrived)).await;
            }
            client.subscribe_to_accepted();
            if let Ok(arrived) = timeout_at(watched, &mut *arrived).await {
                return self.arrived(object, deadline, Ok(arrived)).await;
            }
            let Settings { qos, target, .. } = &self.proxy.settings;
            let call = PendingCall { key, object, target, qos: *qos, sent };
            let loss = tokio::select! {
                biased;
                arrived = timeout_at(deadline, &mut *arrived) => {
                    return self.arrived(object, deadline, arrived).await;
                }
                loss = client.presence().wait_for_loss(client, &call) => loss,
            };
            return Err(match loss {
                CallLoss::Absent => self.missing(object, deadline).await,
                CallLoss::Lost(node) => lost(object, &node).into(),
            });
        }
        let arrived = timeout_at(deadline, arrived).await;
        self.arrived(object, deadline, arrived).await
    }

    /// What has come of a request that was sent.
    async fn arrived(
        &self,
        object: &ObjectName,
        deadline: Instant,
        arrived: Result<Result<Arrived, RecvError>, Elapsed>,
    ) -> Result<Response, CallError> {
        match arrived {
            Err(_) => Err(self.timed_out(object)),
            Ok(Err(_)) => Err(CallError::Unsent(Unsent::Ended)),
            Ok(Ok(Arrived::Reply(message))) => Ok(response(&message.payload, &message.properties)),
            Ok(Ok(Arrived::Failed(Unsent::NobodyThere))) => Err(self.missing(object, deadline).await),
            Ok(Ok(Arrived::Failed(error))) => Err(error.into()),
        }
    }

    /// Sends it as a request that gets no reply, and waits for the broker's acknowledgement alone.
    ///
    /// # Errors
    ///
    /// What keeps it from the object; what the object makes of it shows only in its `rpc.stats`.
    pub async fn oneway(self) -> Result<(), CallError> {
        let key = self.key();
        let deadline = self.deadline();
        loop {
            let (object, publish) = self.ready(key, deadline, true).await?;
            let published = timeout_at(deadline, self.proxy.client.publish(publish)).await;
            let error = match published {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Unsent::NobodyThere)) => self.missing(&object, deadline).await,
                Ok(Err(error)) => error.into(),
                Err(_) => self.expired(&object),
            };
            if !self.goes_again(&error) {
                return Err(error);
            }
        }
    }

    /// Sends it to every instance, and collects what they answer until the deadline. Dropping the future cancels the call, as
    /// with [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// What keeps it from all of them.
    pub async fn all(mut self) -> Result<Vec<Response>, CallError> {
        let key = self.key();
        self.proxy.settings.target = Target::All;
        let deadline = self.deadline();
        let (object, publish) = self.ready(key, deadline, false).await?;
        let client = &self.proxy.client;
        let (_ticket, mut arrived) = client.pending().many(key, object.clone());
        client.outlet().send_now(publish, key)?;
        let unheard = Unheard::new(&self, &object, key, deadline);
        let replies = self.replies(&object, deadline, &mut arrived).await;
        unheard.ends();
        replies
    }

    /// The replies to a request that was sent to every instance.
    async fn replies(
        &self,
        object: &ObjectName,
        deadline: Instant,
        arrived: &mut Collected,
    ) -> Result<Vec<Response>, CallError> {
        let mut responses = Vec::new();
        while let Ok(Some(next)) = timeout_at(deadline, arrived.recv()).await {
            match next {
                Arrived::Reply(message) => responses.push(response(&message.payload, &message.properties)),
                Arrived::Failed(Unsent::NobodyThere) => return Err(self.missing(object, deadline).await),
                Arrived::Failed(error) => return Err(error.into()),
            }
        }
        Ok(responses)
    }

    /// Whether a request that did not get through goes out again: where it was not sent at all, and where it
    /// may be carried out twice.
    fn goes_again(&self, error: &CallError) -> bool {
        match error {
            CallError::Unsent(Unsent::Offline) => true,
            CallError::Lost => self.proxy.settings.idempotent,
            // Where there is another instance it goes there; where there is none, that is the answer.
            CallError::Fault(fault) => self.proxy.settings.idempotent && is_of_lost_node(fault),
            _ => false,
        }
    }

    /// Waits for a connection, and writes the request with the time that is left then.
    async fn ready(
        &self,
        key: u128,
        deadline: Instant,
        oneway: bool,
    ) -> Result<(ObjectName, Publish), CallError> {
        let Self { proxy, method, payload, binary, user, .. } = self;
        let Settings { qos, target, caller, .. } = &proxy.settings;
        let object = proxy.object.clone()?;
        let method = method.clone()?;
        match timeout_at(deadline, proxy.client.outlet().room()).await {
            Ok(room) => room?,
            Err(_) => return Err(self.expired(&object)),
        }
        let root = proxy.client.root();
        let reply_to = ReplyTopic::to(root, &object, proxy.client.id());
        // Up to a whole millisecond: what is left of a call that goes out at once is all of it.
        let left = deadline.saturating_duration_since(Instant::now());
        let ttl_ms = left.as_micros().div_ceil(1000) as u64;
        let mut properties = properties(&reply_to, &key.to_be_bytes(), ttl_ms);
        if *binary {
            properties.content_type = Some(BINARY.to_owned());
        }
        if oneway {
            properties.user.push(("oneway".to_owned(), "1".to_owned()));
        }
        if let Some(caller) = caller {
            properties.user.push(("caller".to_owned(), caller.clone()));
            // Refused rather than sent with the rights of this connection.
            properties.user.push(("acting".to_owned(), "1".to_owned()));
        }
        properties.user.extend_from_slice(user);
        let topic = CallTopic { target: target.clone(), object, method: Some(method) };
        let publish = Publish {
            topic: topic.format(root).into(),
            payload: payload.clone(),
            properties,
            qos: *qos,
            retain: false,
            resend: false,
        };
        Ok((topic.object, publish))
    }

    fn expired(&self, object: &ObjectName) -> CallError {
        let text = format!("{object}: not sent within {}: no connection to the broker", self.seconds());
        Fault::new(Code::EXPIRED, text).into()
    }

    fn timed_out(&self, object: &ObjectName) -> CallError {
        let text = format!("{object}: no answer within {}", self.seconds());
        Fault::new(Code::TIMED_OUT, text).into()
    }

    fn seconds(&self) -> String {
        format!("{} s", self.proxy.settings.deadline.as_secs_f64())
    }

    /// Nobody subscribes to the object's calls: the registry tells why.
    async fn missing(&self, object: &ObjectName, deadline: Instant) -> CallError {
        let registry = self.proxy.client.registry();
        let view = match timeout_at(deadline, registry.list()).await {
            Ok(Ok(view)) => view,
            _ => View::default(),
        };
        view.absence(object, &self.proxy.settings.target).into()
    }
}

/// Whether a call ended because its node did, and not by the word of the object.
fn is_of_lost_node(fault: &Fault) -> bool {
    fault.code == Code::LOST_OBJECT && fault.maybe_executed()
}
