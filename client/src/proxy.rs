//! Calling an object.

mod acting;
mod all;
mod forms;
mod items;
mod patience;
mod reader;
mod response;
mod resumption;
mod unheard;

pub use all::Answers;
pub(crate) use forms::Forms;
use forms::{is_refused, to_json_rpc};
pub use items::{Items, Opened};
use patience::{Patience, is_of_lost_node, repeatable};
use response::response;
pub use response::{Content, Response};
use unheard::Unheard;

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::client::Client;
use crate::error::CallError;
use crate::pending::Arrived;
use crate::presence::{CallLoss, PendingCall, SUBSCRIBE_AFTER, WATCH_AFTER};
use crate::registry::{View, lost};
use crate::session::{Publish, QoS, Unsent};
use crate::wire::fault::{Code, Fault};
use crate::wire::name::{ClientId, MethodName, NameError, ObjectName};
use crate::wire::request::{DEFAULT_TTL_MS, MAX_TTL_MS, head};
use crate::wire::topic::{CallTopic, ReplyTopic, Target};
use crate::wire::{BINARY, UserProperties, json};

/// Maximum number of nodes that a call is sent to because the one before ended while it had the call.
const MAX_NODES_TRIED: usize = 8;

/// Handle to a remote object by its name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxy {
    client: Client,
    object: Result<ObjectName, NameError>,
    /// Topic of the replies of the object to the client; empty if the name is invalid.
    reply_topic: ByteString,
    settings: ProxySettings,
}

#[derive(Clone, Debug)]
struct ProxySettings {
    deadline: Duration,
    /// Absolute limit of every call.
    until: Option<Instant>,
    qos: QoS,
    target: Target,
    idempotent: bool,
    /// Whether calls wait for a node that serves the object.
    patient: bool,
    /// User to call on behalf of, instead of the connection's user; empty for a client that did not log in.
    caller: Option<String>,
    /// User properties of every request.
    user: UserProperties,
}

// Defined here, so that the module of the client does not depend on this one.
impl Client {
    /// Returns a handle to an object. The name is checked by the first call.
    pub fn object(&self, name: &str) -> Proxy {
        let name = ObjectName::any(name);
        Proxy::new(self.clone(), name)
    }
}

impl Proxy {
    pub(crate) fn new(client: Client, object: Result<ObjectName, NameError>) -> Self {
        let settings = ProxySettings {
            deadline: Duration::from_millis(DEFAULT_TTL_MS),
            until: None,
            qos: QoS::AtLeastOnce,
            target: Target::Any,
            idempotent: false,
            patient: false,
            caller: None,
            user: UserProperties::default(),
        };
        let reply_topic = object.as_ref().map(|object| ReplyTopic::text(client.root(), object, client.id()));
        let reply_topic = reply_topic.unwrap_or_default();
        Self { client, object, reply_topic, settings }
    }

    /// Sets the time limit of each call. Default: 30 s; maximum: one hour.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline.min(Duration::from_millis(MAX_TTL_MS));
        self
    }

    /// Sets an absolute limit of all calls, besides the [`deadline`](Self::deadline) of each.
    #[must_use]
    pub fn until(mut self, instant: Instant) -> Self {
        self.settings.until = Some(instant);
        self
    }

    /// Adds a user property to every request.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.settings.user.push((name, value));
        self
    }

    /// Sets the QoS of requests. Default: 1. QoS 0 is a little faster; on a broker other than `rantai`'s, a call to an object that
    /// nobody serves then fails only after about two seconds.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.settings.qos = qos;
        self
    }

    /// Calls the instance on this node only.
    #[must_use]
    pub fn at(mut self, node: ClientId) -> Self {
        self.settings.target = Target::Node(node);
        self
    }

    /// Declares that requests may be executed twice. A request is then retransmitted after a reconnect, and to another instance
    /// if its node is lost, instead of failing with [`CallError::Lost`] or with -32004 and `maybe_executed`.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.settings.idempotent = true;
        self
    }

    /// Waits until the deadline for a node that serves the object, instead of failing with -32003 or -32004 if no node does. With
    /// [`idempotent`](Self::idempotent), a call also goes on after its node or the connection was lost, for as often as it takes.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.settings.patient = true;
        self
    }

    /// Calls a method and deserializes its result.
    ///
    /// `params` is serialized as JSON: a tuple, array or list are positional parameters, a struct or map named ones, `()` none,
    /// and any other value is a single parameter. Put a single list into a tuple: `(list,)`.
    ///
    /// # Errors
    ///
    /// The object's own error, or the reason why there was no reply; at the deadline, -32002.
    pub async fn call<R: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Serialize,
    ) -> Result<R, CallError> {
        self.request(method).params(params).send().await?.read()
    }

    /// Builds a call step by step.
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

    /// Waits until any node serves the object. Returns at once if one does. Cancel safe.
    ///
    /// # Errors
    ///
    /// -32003 or -32004 if no node serves it within `patience`; an invalid name.
    pub async fn wait_for(&self, patience: Duration) -> Result<(), CallError> {
        let object = self.object.clone()?;
        self.client.registry().wait_for(&object, patience).await.map(drop)
    }

    /// Returns the object's name, or `None` if it is invalid.
    pub fn name(&self) -> Option<&ObjectName> {
        self.object.as_ref().ok()
    }

    /// Returns the object's name.
    ///
    /// # Errors
    ///
    /// The name is invalid.
    pub(crate) fn valid_name(&self) -> Result<&ObjectName, CallError> {
        self.object.as_ref().map_err(|error| error.clone().into())
    }

    /// Returns the client that sends the calls.
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
    user: UserProperties,
    identity: Option<u128>,
}

impl Request {
    /// Sets the parameters, serialized as by [`Proxy::call`].
    #[must_use]
    pub fn params(mut self, params: impl Serialize) -> Self {
        match json::to_bytes(&params) {
            Ok(written) if *written == *b"null" => self.payload = Bytes::new(),
            Ok(written) => self.payload = written,
            Err(error) => self.method = Err(CallError::Parameters(error.to_string())),
        }
        self
    }

    /// Sets the payload as is: JSON or text.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets a single binary parameter.
    #[must_use]
    pub fn binary(mut self, bytes: impl Into<Bytes>) -> Self {
        self.payload = bytes.into();
        self.binary = true;
        self
    }

    /// Sets the identity (correlation) instead of a new one. An instance recognizes a repeated request by it.
    #[must_use]
    pub fn identity(mut self, identity: Uuid) -> Self {
        self.identity = Some(identity.as_u128());
        self
    }

    /// Adds a user property.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.user.push((name, value));
        self
    }

    /// Sends the request and waits for the reply.
    ///
    /// Dropping the future cancels the call: its node drops the method's future and notifies the method
    /// ([`Context::cancelled`](crate::object::Context::cancelled)); a method marked `once` is notified and continues. A call with
    /// an [`identity`](Self::identity) of its own is not cancelled, because it may be repeated to get the reply.
    ///
    /// # Errors
    ///
    /// The reason why there was no reply. The object's own errors are in the response.
    pub async fn send(self) -> Result<Response, CallError> {
        let key = self.key();
        let deadline = self.deadline();
        let mut tries = 0;
        let mut patience = Patience::new(deadline);
        loop {
            tries += 1;
            let was_plain = !self.proxy.object.as_ref().is_ok_and(|object| self.is_json_rpc(object));
            let result = self.attempt(key, deadline).await;
            let fault = match &result {
                Ok(response) => repeatable(response, &self.proxy.settings.target),
                Err(error) => error.fault(),
            };
            if let Some(fault) = fault
                && (was_plain && self.learns_form(fault) || patience.allows(&self, fault).await)
            {
                continue;
            }
            match result {
                Err(error) if self.goes_again(&error) => {}
                // The node itself replied that it ends.
                Ok(response) if tries < MAX_NODES_TRIED && self.goes_elsewhere(&response) => {}
                result => return result,
            }
        }
    }

    /// Returns whether to send the request to another instance, because its node has ended.
    fn goes_elsewhere(&self, response: &Response) -> bool {
        let ProxySettings { idempotent, target, .. } = &self.proxy.settings;
        *idempotent
            && *target == Target::Any
            && response.outcome.as_ref().is_err_and(|fault| is_of_lost_node(fault))
    }

    /// Returns the limit of a call that starts now.
    fn deadline(&self) -> Instant {
        let ProxySettings { deadline, until, .. } = &self.proxy.settings;
        let own = Instant::now() + *deadline;
        until.map_or(own, |until| own.min(until))
    }

    /// Returns the given identity, or a new one.
    fn key(&self) -> u128 {
        self.identity.unwrap_or_else(|| self.proxy.client.environment().ordered_id().as_u128())
    }

    /// Sends the request once and waits for the reply, on the current connection.
    async fn attempt(&self, key: u128, deadline: Instant) -> Result<Response, CallError> {
        let (object, publish) = self.ready(key, deadline, false).await?;
        let client = &self.proxy.client;
        let (_ticket, mut arrived) = client.pending().one(key, object.clone());
        let is_plain = publish.properties.correlation.is_some();
        client.outlet().send_now(publish, key)?;
        let unheard = Unheard::new(self, &object, key, deadline);
        let reply = self.reply((&object, key, is_plain), deadline, &mut arrived).await;
        unheard.ends();
        if !is_plain && is_refused(&reply) {
            client.forms().forget(&object);
        }
        reply
    }

    /// Waits for the reply to a sent request, or until its node is known to be lost.
    async fn reply(
        &self,
        (object, key, is_plain): (&ObjectName, u128, bool),
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
            let ProxySettings { qos, target, .. } = &self.proxy.settings;
            let call = PendingCall { key, object, target, sender: None, qos: *qos, sent, is_plain };
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

    /// Converts the outcome of waiting.
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

    /// Sends the request one-way: waits for the broker's acknowledgement, and gets no reply.
    ///
    /// # Errors
    ///
    /// The request was not delivered to the broker or to any instance. Errors of the object are counted in its `rpc.stats`.
    pub async fn oneway(self) -> Result<(), CallError> {
        let key = self.key();
        let deadline = self.deadline();
        let mut patience = Patience::new(deadline);
        loop {
            let (object, publish) = self.ready(key, deadline, true).await?;
            let was_plain = !self.is_json_rpc(&object);
            let published = timeout_at(deadline, self.proxy.client.publish(publish)).await;
            let error = match published {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Unsent::NobodyThere)) => self.missing(&object, deadline).await,
                Ok(Err(error)) => error.into(),
                Err(_) => self.expired(&object),
            };
            let waited = match error.fault() {
                Some(fault) => was_plain && self.learns_form(fault) || patience.allows(&self, fault).await,
                None => false,
            };
            if !waited && !self.goes_again(&error) {
                return Err(error);
            }
        }
    }

    /// Returns whether to retransmit a request after this error: it was not sent, or may be executed twice.
    fn goes_again(&self, error: &CallError) -> bool {
        match error {
            CallError::Unsent(Unsent::Offline) => true,
            CallError::Lost => self.proxy.settings.idempotent,
            // Goes to another instance, if there is one; otherwise the retry returns the final error.
            CallError::Fault(fault) => self.proxy.settings.idempotent && is_of_lost_node(fault),
            _ => false,
        }
    }

    /// Waits for a connection and builds the request with the remaining time.
    async fn ready(
        &self,
        key: u128,
        deadline: Instant,
        oneway: bool,
    ) -> Result<(ObjectName, Publish), CallError> {
        let Self { proxy, method, payload, binary, user, .. } = self;
        let ProxySettings { qos, target, caller, .. } = &proxy.settings;
        let object = proxy.object.clone()?;
        let method = method.clone()?;
        match timeout_at(deadline, proxy.client.outlet().room()).await {
            Ok(room) => room?,
            Err(_) => return Err(self.expired(&object)),
        }
        // Rounded up, so that a call that is sent at once keeps its whole time limit.
        let left = deadline.saturating_duration_since(Instant::now());
        let ttl_ms = left.as_micros().div_ceil(1000) as u64;
        let json_rpc = self.is_json_rpc(&object).then(|| method.clone());
        let named = json_rpc.is_none().then_some(method);
        let topic = CallTopic { target: target.clone(), object, method: named };
        let (name, mut properties) =
            head(proxy.client.root(), &topic, proxy.reply_topic.clone(), &key.to_be_bytes(), ttl_ms);
        if *binary {
            properties.content_type = Some(BINARY.into());
        }
        if oneway {
            properties.user.push(("oneway", "1"));
        }
        if let Some(caller) = caller {
            properties.user.push(("caller", &**caller));
            // Without this, a broker could send the request with the rights of this connection; with it, the broker refuses it.
            properties.user.push(("acting", "1"));
        }
        properties.user.extend(user.iter().cloned());
        let mut publish = Publish {
            topic: name,
            payload: payload.clone(),
            properties,
            qos: *qos,
            retain: false,
            resend: false,
        };
        if let Some(method) = json_rpc {
            to_json_rpc(&mut publish, key, &method, ttl_ms);
        }
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

    /// Returns the error of a request that had no receiver, as the registry explains it.
    async fn missing(&self, object: &ObjectName, deadline: Instant) -> CallError {
        let registry = self.proxy.client.registry();
        let view = match timeout_at(deadline, registry.list()).await {
            Ok(Ok(view)) => view,
            _ => View::default(),
        };
        view.absence(object, &self.proxy.settings.target).into()
    }
}
