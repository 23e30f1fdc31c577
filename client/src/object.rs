//! What a served object looks like: its description, and one call after the other.
//!
//! [`interface`](crate::interface) writes the implementation for a trait; an object whose methods are known only
//! at run time implements [`Object`] itself.

mod arguments;
mod calls;
mod context;
mod description;
mod unasked;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

pub use arguments::{Arguments, in_json_words};
pub use calls::{Calls, passed_on};
pub use context::{Context, Progress};
pub use description::{Description, Event, Method, Parameter, Schemas};
pub use unasked::{Doing, Unasked};

use crate::session::{Publish, QoS};
use crate::wire::fault::{Code, Fault};
use crate::wire::name::{ClientId, MethodName, ObjectName, Root};
use crate::wire::request::Params;
use crate::wire::topic::EventTopic;

/// A call being carried out. Dropping it cancels the method where it waits.
pub type Answering = Pin<Box<dyn Future<Output = Result<Answer, Fault>> + Send>>;

/// An object in the form in which a node serves it.
pub trait Object: Send + Sync + 'static {
    /// What it is. Asked once, when it is served.
    fn description(&self) -> Description;

    /// Carries out a method. A name that is none of its own is -32601. Must not block the thread.
    fn call(self: Arc<Self>, call: Call) -> Answering;

    /// The way by which it may say something unasked, once it is served.
    fn attach(&self, emitter: Emitter) {
        let _ = emitter;
    }

    /// What it does of its own accord while it holds its name: begun anew on every connection, and dropped where
    /// the name or the connection is lost or the node ends. So of two nodes that contest a name only one does it;
    /// of replicas each does.
    fn run(self: Arc<Self>, emitter: Emitter) -> Doing {
        let _ = emitter;
        Box::pin(std::future::ready(()))
    }
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// Which method.
    pub method: MethodName,
    /// With which parameters.
    pub params: Params,
    /// And what stands around it.
    pub context: Context,
}

/// What a method comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A value.
    Value(Value),
    /// Bytes.
    Binary(Vec<u8>),
    /// Another object goes on; it replies to the caller, and this one does not.
    Forward(Forward),
}

/// A request handed on to another object.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// To whom.
    pub to: ObjectName,
    /// Which of its methods.
    pub method: MethodName,
    /// Parameters, by position.
    pub params: Vec<Value>,
    /// What is added to the trail.
    pub hop: Value,
}

/// Bytes as a parameter or result of a method of an [`interface`](crate::interface).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binary(pub Vec<u8>);

impl Answer {
    /// A value of any type.
    ///
    /// # Errors
    ///
    /// -32603 for what is no JSON.
    pub fn value(value: &impl Serialize) -> Result<Self, Fault> {
        serde_json::to_value(value)
            .map(Self::Value)
            .map_err(|error| Fault::new(Code::BROKEN_OBJECT, format!("a result that is no JSON: {error}")))
    }
}

/// By which an object emits its events.
#[derive(Clone)]
pub struct Emitter {
    root: Root,
    object: ObjectName,
    publish: Arc<dyn Fn(Publish) + Send + Sync>,
}

impl Emitter {
    /// For an object; `publish` must not block.
    pub fn new(root: Root, object: ObjectName, publish: Arc<dyn Fn(Publish) + Send + Sync>) -> Self {
        Self { root, object, publish }
    }

    /// Emits an event, at QoS 0: who is not there does not hear it.
    ///
    /// # Errors
    ///
    /// A name that is none, and a value that is no JSON.
    pub fn emit(&self, event: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.publish(event, None, value, QoS::AtMostOnce, false, None)
    }

    /// Emits the event's last value, which whoever comes later gets too.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn state(&self, event: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.publish(event, None, value, QoS::AtLeastOnce, true, None)
    }

    /// Calls one client back, at QoS 1.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn upcall(&self, client: &ClientId, event: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.publish(event, Some(client.clone()), value, QoS::AtLeastOnce, false, None)
    }

    /// Calls back whoever made a call, at QoS 1 and with the correlation of the request.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit), and where the reply topic of the call names no client.
    pub fn upcall_for(&self, context: &Context, event: &str, value: &impl Serialize) -> Result<(), Fault> {
        let Some(client) = context.client.clone() else {
            let text = "the reply topic names no client that could be called back";
            return Err(Fault::failed("no_client", text));
        };
        self.publish(event, Some(client), value, QoS::AtLeastOnce, false, context.correlation.clone())
    }

    /// Publishes what is no event: on a topic of others, in the form that they know.
    pub fn message(&self, publish: Publish) {
        (self.publish)(publish);
    }

    /// Emits an event that belongs to a call, with its correlation.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn emit_for(&self, context: &Context, event: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.publish(event, None, value, QoS::AtMostOnce, false, context.correlation.clone())
    }

    fn publish(
        &self,
        event: &str,
        client: Option<ClientId>,
        value: &impl Serialize,
        qos: QoS,
        retain: bool,
        correlation: Option<Vec<u8>>,
    ) -> Result<(), Fault> {
        let broken = |error: &dyn fmt::Display| Fault::new(Code::BROKEN_OBJECT, error.to_string());
        let event = MethodName::new(event).map_err(|error| broken(&error))?;
        let topic = EventTopic { object: self.object.clone(), event, client };
        let payload = serde_json::to_vec(value).map_err(|error| broken(&error))?;
        let mut publish = Publish::new(topic.format(&self.root), payload).qos(qos);
        publish.retain = retain;
        publish.properties.correlation = correlation;
        (self.publish)(publish);
        Ok(())
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Emitter({})", self.object)
    }
}

/// -32601, with the methods that might have been meant.
pub fn no_such_method(method: &str, known: &[&str]) -> Fault {
    let similar: Vec<String> =
        crate::registry::similar(method, known.iter().copied()).into_iter().map(ToOwned::to_owned).collect();
    Fault::no_such_method(method, &similar)
}
