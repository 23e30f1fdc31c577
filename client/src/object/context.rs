//! What a method knows of the call that it carries out, and how it calls others on behalf of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::{Calls, passed_on};
use super::emitter::Emitter;
use super::streaming::Delivery;
use crate::proxy::Proxy;
use crate::session::QoS;
use crate::shares::CallerKey;
use crate::wire::fault::Fault;
use crate::wire::name::{ClientId, ObjectName};
use crate::wire::user::User;

/// A call, apart from its method and parameters.
#[derive(Clone, Debug)]
pub struct Context {
    /// The name the object is served by.
    pub object: ObjectName,
    caller: Option<User>,
    via: Option<User>,
    /// Whose share of bounded tables this call counts against.
    pub share_of: CallerKey,
    /// The client that the reply goes to: where an upcall to it goes too.
    pub client: Option<ClientId>,
    /// Correlation data of the request.
    pub correlation: Option<Vec<u8>>,
    /// The hops it has behind it.
    pub trail: Vec<Value>,
    /// The caller's trace (W3C Trace Context, `traceparent`).
    pub traceparent: Option<String>,
    /// When it arrived.
    pub received: Instant,
    /// When its time is over; nothing is sent after that.
    pub deadline: Instant,
    /// For events.
    pub emitter: Emitter,
    /// For calls of other objects.
    pub calls: Calls,
    /// How a result of many items goes out: see [`stream`](Self::stream).
    pub delivery: Delivery,
    cancelled: CancellationToken,
}

/// Tells the method that carries a call out that the call is cancelled: for whoever runs methods.
#[derive(Clone, Debug, Default)]
pub struct Canceller(CancellationToken);

impl Canceller {
    /// Ends [`Context::cancelled`], also for who asks later.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl Context {
    /// A call of `object` from nobody in particular, without a reply topic.
    pub fn new(
        object: ObjectName,
        received: Instant,
        deadline: Instant,
        emitter: Emitter,
        calls: Calls,
    ) -> Self {
        Self {
            object,
            caller: None,
            via: None,
            share_of: CallerKey::Unnamed,
            client: None,
            correlation: None,
            trail: Vec::new(),
            traceparent: None,
            received,
            deadline,
            emitter,
            calls,
            delivery: Delivery::default(),
            cancelled: CancellationToken::new(),
        }
    }

    /// Waits until the call is cancelled: its caller gave it up (`rpc.cancel`) or is gone, or its time was over. Never ends for
    /// a call that has been answered.
    ///
    /// The method's future is dropped at that moment, and with it whatever it awaits: this is for what does not end with it,
    /// such as a task it has spawned or a thread. A method marked `once` is not dropped where its caller is gone; it may end by
    /// itself when this does.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Returns whether [`cancelled`](Self::cancelled) has ended: for work on a thread, which looks now and then.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// The other end of [`cancelled`](Self::cancelled).
    pub fn canceller(&self) -> Canceller {
        Canceller(self.cancelled.clone())
    }

    /// Sets who calls, and who calls for that user.
    #[must_use]
    pub fn called_by(self, caller: Option<User>, via: Option<User>) -> Self {
        Self { caller, via, ..self }
    }

    /// The user who calls, by the word of a broker that stamps `caller`. `None` for a client that has not logged in, and
    /// on a broker that stamps nothing: never a client id.
    pub fn caller(&self) -> Option<&User> {
        self.caller.as_ref()
    }

    /// The user whose connection sent the call on behalf of [`caller`](Self::caller), such as a gateway's or the ledger's;
    /// by the broker's word too.
    pub fn via(&self) -> Option<&User> {
        self.via.as_ref()
    }

    /// Who calls, for people and logs: `ada` for a user, `client pi-3` for a client that may be anybody's, and `?` where not
    /// even that is known.
    pub fn caller_text(&self) -> String {
        match (&self.caller, &self.client) {
            (Some(user), _) => user.to_string(),
            (None, Some(client)) => format!("client {client}"),
            (None, None) => "?".to_owned(),
        }
    }

    /// The time left.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Calls a method of another object on behalf of this call: see [`object`](Self::object). `params` is written as
    /// [`Proxy::call`] writes it.
    ///
    /// # Errors
    ///
    /// The fault of the other object as it is; -32005 (busy), which names the object, where it is not served or was not
    /// reached in time; -32000 with kind `outcome_unknown` where its node or the connection was lost meanwhile; -32009 where the calls that led here and this one are more than the other object allows.
    pub async fn call<R: DeserializeOwned>(
        &self,
        object: &str,
        method: &str,
        params: impl Serialize,
    ) -> Result<R, Fault> {
        let proxy = self.object(object).await?;
        proxy.call(method, params).await.map_err(|error| passed_on(object, error))
    }

    /// Returns a proxy of another object, for calls on behalf of this one: none lasts beyond this call's deadline, and each
    /// carries its `traceparent` and its trail with an item for this object. So a circle of objects that call each other
    /// ends at the limit of the trail.
    ///
    /// # Errors
    ///
    /// -32005 (busy) where the broker cannot be reached in the time left.
    pub async fn object(&self, name: &str) -> Result<Proxy, Fault> {
        let mut proxy = self.calls.object(name, self.time_left()).await?.until(self.deadline);
        let mut trail = self.trail.clone();
        let us = u64::try_from(self.received.elapsed().as_micros()).unwrap_or(u64::MAX);
        trail.push(json!({"node": self.object.as_str(), "us": us}));
        proxy = proxy.property("trail", &Value::Array(trail).to_string());
        if let Some(traceparent) = &self.traceparent {
            proxy = proxy.property("traceparent", traceparent);
        }
        Ok(proxy)
    }

    /// Tells whoever called how far it is: an event `progress` for that client alone, at QoS 0, with the
    /// correlation of the request. Nobody is told where the client is not known.
    pub fn progress(&self, done: u64, total: u64, text: &str) {
        let Some(client) = self.client.clone() else { return };
        let progress = Progress { done, total, text: text.to_owned() };
        let correlation = self.correlation.clone();
        let emitter = &self.emitter;
        let told = emitter.publish("progress", Some(client), &progress, QoS::AtMostOnce, false, correlation);
        if let Err(fault) = told {
            tracing::debug!("{fault}");
        }
    }
}

/// How far a call is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// What is done.
    pub done: u64,
    /// Of how much; 0 where that is not known.
    pub total: u64,
    /// For people.
    pub text: String,
}
