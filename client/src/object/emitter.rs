//! Events and upcalls of an object.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::context::Context;
use crate::session::{Publish, QoS};
use crate::wire::fault::{Code, Fault};
use crate::wire::name::{ClientId, MethodName, ObjectName, Root};
use crate::wire::topic::EventTopic;

/// Publishes the events of an object.
#[derive(Clone)]
pub struct Emitter {
    root: Root,
    object: ObjectName,
    publish: Arc<dyn Fn(Publish) + Send + Sync>,
}

impl Emitter {
    /// Creates the emitter of an object; `publish` must not block.
    pub fn new(root: Root, object: ObjectName, publish: Arc<dyn Fn(Publish) + Send + Sync>) -> Self {
        Self { root, object, publish }
    }

    /// Publishes an event at QoS 0 to present subscribers.
    ///
    /// # Errors
    ///
    /// The name is invalid, or the value cannot be serialized.
    pub fn emit(&self, event: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.publish(event, None, value, QoS::AtMostOnce, false, None)
    }

    /// Publishes an event as a retained message, which later subscribers get too.
    ///
    /// # Errors
    ///
    /// Same as [`emit`](Self::emit).
    pub fn state(&self, event: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.publish(event, None, value, QoS::AtLeastOnce, true, None)
    }

    /// Publishes an event to one client, at QoS 1.
    ///
    /// # Errors
    ///
    /// Same as [`emit`](Self::emit).
    pub fn upcall(&self, client: &ClientId, event: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.publish(event, Some(client.clone()), value, QoS::AtLeastOnce, false, None)
    }

    /// Publishes an event to the caller of a call, at QoS 1 and with the correlation of the request.
    ///
    /// # Errors
    ///
    /// Same as [`emit`](Self::emit); fails if the reply topic of the call names no client.
    pub fn upcall_for(&self, context: &Context, event: &str, value: &impl Serialize) -> Result<(), Fault> {
        let Some(client) = context.client.clone() else {
            let text = "the reply topic names no client that could be called back";
            return Err(Fault::failed("no_client", text));
        };
        self.publish(event, Some(client), value, QoS::AtLeastOnce, false, context.correlation.clone())
    }

    /// Publishes a message that is not an event: on a topic of another application, in its own format.
    pub fn message(&self, publish: Publish) {
        (self.publish)(publish);
    }

    /// Publishes an event that belongs to a call, at QoS 0 and with the correlation of the request.
    ///
    /// # Errors
    ///
    /// Same as [`emit`](Self::emit).
    pub fn emit_for(&self, context: &Context, event: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.publish(event, None, value, QoS::AtMostOnce, false, context.correlation.clone())
    }

    pub(super) fn publish(
        &self,
        event: &str,
        client: Option<ClientId>,
        value: &impl Serialize,
        qos: QoS,
        retain: bool,
        correlation: Option<Bytes>,
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

/// Publishes one event of an object, with payloads of type `T`.
#[derive(Clone, Copy)]
pub struct EventEmitter<'a, T> {
    emitter: &'a Emitter,
    event: &'static str,
    of: PhantomData<fn(&T)>,
}

impl<'a, T: Serialize> EventEmitter<'a, T> {
    /// Creates the emitter of the event with this name.
    pub fn new(emitter: &'a Emitter, event: &'static str) -> Self {
        Self { emitter, event, of: PhantomData }
    }

    /// Publishes the event at QoS 0 to present subscribers.
    ///
    /// # Errors
    ///
    /// Same as [`Emitter::emit`].
    pub fn emit(&self, value: &T) -> Result<(), Fault> {
        self.emitter.emit(self.event, value)
    }

    /// Publishes the event at QoS 0, with the correlation of the request that it belongs to.
    ///
    /// # Errors
    ///
    /// Same as [`Emitter::emit`].
    pub fn emit_for(&self, context: &Context, value: &T) -> Result<(), Fault> {
        self.emitter.emit_for(context, self.event, value)
    }

    /// Publishes the event to one client, at QoS 1.
    ///
    /// # Errors
    ///
    /// Same as [`Emitter::emit`].
    pub fn upcall(&self, client: &ClientId, value: &T) -> Result<(), Fault> {
        self.emitter.upcall(client, self.event, value)
    }

    /// Publishes the event to the caller of a call, at QoS 1 and with the correlation of the request.
    ///
    /// # Errors
    ///
    /// Same as [`Emitter::upcall_for`].
    pub fn upcall_for(&self, context: &Context, value: &T) -> Result<(), Fault> {
        self.emitter.upcall_for(context, self.event, value)
    }
}

impl<T> fmt::Debug for EventEmitter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventEmitter({}.{})", self.emitter.object, self.event)
    }
}

/// Publishes one state of an object, with payloads of type `T`.
#[derive(Clone, Copy)]
pub struct StateEmitter<'a, T> {
    emitter: &'a Emitter,
    state: &'static str,
    of: PhantomData<fn(&T)>,
}

impl<'a, T: Serialize> StateEmitter<'a, T> {
    /// Creates the emitter of the state with this name.
    pub fn new(emitter: &'a Emitter, state: &'static str) -> Self {
        Self { emitter, state, of: PhantomData }
    }

    /// Publishes the state as a retained message, which later subscribers get too.
    ///
    /// # Errors
    ///
    /// Same as [`Emitter::emit`].
    pub fn set(&self, value: &T) -> Result<(), Fault> {
        self.emitter.state(self.state, value)
    }
}

impl<T> fmt::Debug for StateEmitter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateEmitter({}.{})", self.emitter.object, self.state)
    }
}
