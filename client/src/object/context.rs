//! Context of a call: its caller, deadline and trace, and calls on its behalf.

use std::time::Duration;

use bytes::Bytes;
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

/// Context of a call: everything except its method and parameters.
#[derive(Clone, Debug)]
pub struct Context {
    /// Name that the object is served under.
    pub object: ObjectName,
    caller: Option<User>,
    via: Option<User>,
    /// Owner of this call for fair shares of bounded tables.
    pub share_of: CallerKey,
    /// Client that gets the reply; upcalls go to it as well.
    pub client: Option<ClientId>,
    /// Correlation data of the request.
    pub correlation: Option<Bytes>,
    /// Hops of the call so far.
    pub trail: Vec<Value>,
    /// W3C Trace Context of the caller, `traceparent`.
    pub traceparent: Option<String>,
    /// Arrival of the request.
    pub received: Instant,
    /// Deadline; no reply is sent after it.
    pub deadline: Instant,
    /// Emits events.
    pub emitter: Emitter,
    /// Calls other objects.
    pub calls: Calls,
    /// Delivery of a streamed result; see [`stream`](Self::stream).
    pub delivery: Delivery,
    cancelled: CancellationToken,
}

/// Cancels a call: the counterpart of [`Context::cancelled`], for dispatchers.
#[derive(Clone, Debug, Default)]
pub struct Canceller(CancellationToken);

impl Canceller {
    /// Completes all present and future [`Context::cancelled`].
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Returns whether the call was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl Context {
    /// Creates the context of a call of `object` from an unknown caller, without a reply topic.
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

    /// Waits until the call is cancelled: by its caller (`rpc.cancel`), because the caller is gone, or by the deadline. Never
    /// completes for a call that was answered.
    ///
    /// The method's future is dropped at the same moment, with everything that it awaits. Use this for work that continues
    /// without it, as in a spawned task or a thread. The future of a method marked `once` is not dropped if the caller is gone;
    /// the method may return early when this completes.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Returns whether the call was cancelled, for work on a thread, which polls it.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Returns the handle that completes [`cancelled`](Self::cancelled).
    pub fn canceller(&self) -> Canceller {
        Canceller(self.cancelled.clone())
    }

    /// Sets the calling user, and the user that forwards the call on its behalf.
    #[must_use]
    pub fn called_by(self, caller: Option<User>, via: Option<User>) -> Self {
        Self { caller, via, ..self }
    }

    /// Returns the calling user, as set by a broker that stamps `caller`. `None` for a client that did not log in, and on a broker
    /// that does not stamp it. Never a client id.
    pub fn caller(&self) -> Option<&User> {
        self.caller.as_ref()
    }

    /// Returns the user whose connection sent the call on behalf of [`caller`](Self::caller), such as that of a gateway or the
    /// ledger; also set by the broker.
    pub fn via(&self) -> Option<&User> {
        self.via.as_ref()
    }

    /// Describes the caller for logs: `ada` for a user, `client pi-3` for a client id, which is not authenticated, or `?`.
    pub fn caller_text(&self) -> String {
        match (&self.caller, &self.client) {
            (Some(user), _) => user.to_string(),
            (None, Some(client)) => format!("client {client}"),
            (None, None) => "?".to_owned(),
        }
    }

    /// Returns the time left until the deadline.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Calls a method of another object on behalf of this call; see [`object`](Self::object). `params` is serialized as by
    /// [`Proxy::call`].
    ///
    /// # Errors
    ///
    /// The fault of the other object, unchanged; -32005 (busy), which names the object, if it is not served or was not reached
    /// in time; -32000 with kind `outcome_unknown` if its node or the connection was lost during the call; -32009 if the trail
    /// of the calls that led here, including this one, is longer than the other object allows.
    pub async fn call<R: DeserializeOwned>(
        &self,
        object: &str,
        method: &str,
        params: impl Serialize,
    ) -> Result<R, Fault> {
        let proxy = self.object(object).await?;
        proxy.call(method, params).await.map_err(|error| passed_on(object, error))
    }

    /// Returns a proxy of another object for calls on behalf of this one. They end by this call's deadline, and carry its
    /// `traceparent` and its trail, extended by this object: objects that call each other in a circle fail at the trail limit.
    ///
    /// # Errors
    ///
    /// -32005 (busy) if the broker cannot be reached in the time left.
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

    /// Reports progress to the calling client: an event `progress` at QoS 0, with the correlation of the request. Does nothing if
    /// the client is not known.
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

/// Progress of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Amount done.
    pub done: u64,
    /// Total amount; 0 if unknown.
    pub total: u64,
    /// Text to display.
    pub text: String,
}
