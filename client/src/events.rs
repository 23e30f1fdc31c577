//! Typed subscriptions to the events of an object.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::error::CallError;
use crate::proxy::Proxy;
use crate::session::{Filter, Message};
use crate::subscription::Subscription;
use crate::wire::json;
use crate::wire::name::MethodName;
use crate::wire::topic::EventTopic;

/// Subscription to an event of an object, with payloads of type `T`. Continues across reconnects; dropping it unsubscribes.
///
/// ```no_run
/// # async fn example(client: rantai_client::Client) -> Result<(), rantai_client::CallError> {
/// let mut readings = client.object("sister").events::<f64>("temperature").await?;
/// while let Some(reading) = readings.next().await {
///     println!("{}°C", reading?.value);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Events<T> {
    subscription: Subscription,
    of: PhantomData<fn() -> T>,
}

/// An event that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received<T> {
    /// Payload.
    pub value: T,
    /// Correlation data of the call that the event belongs to, if it belongs to one.
    pub correlation: Option<Bytes>,
    /// Whether it is the retained value of a state, which the broker sends when a subscription begins.
    pub retained: bool,
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("missed", &self.missed()).finish_non_exhaustive()
    }
}

impl<T> Events<T> {
    /// Returns the number of events dropped because 4,096 were queued.
    pub fn missed(&self) -> u64 {
        self.subscription.missed()
    }
}

impl<T: DeserializeOwned> Events<T> {
    /// Returns the next event; `None` when the client has ended. An event whose payload is not a `T` is an error, after which
    /// further events follow. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Received<T>, CallError>> {
        self.subscription.next().await.map(read)
    }
}

fn read<T: DeserializeOwned>(message: Message) -> Result<Received<T>, CallError> {
    let value = json::read(&message.payload).map_err(|error| CallError::Result(error.to_string()))?;
    let value = json::typed(value).map_err(|error| CallError::Result(error.to_string()))?;
    // Copied, as a small value must not keep the whole buffer that it was read into.
    let correlation = message.properties.correlation.map(|data| Bytes::copy_from_slice(&data));
    Ok(Received { value, correlation, retained: message.retain })
}

// Defined here, so that the module of the proxy does not depend on this one.
impl Proxy {
    /// Subscribes to an event that the object publishes to everybody; of a state, the last value comes first. The object need not be
    /// served yet.
    ///
    /// # Errors
    ///
    /// The object's name or that of the event is invalid, the broker refused the subscription, or the session has ended.
    pub async fn events<T>(&self, event: &str) -> Result<Events<T>, CallError> {
        self.subscribe_to(event, false).await
    }

    /// Subscribes to an event that the object publishes to this client alone, such as an upcall, or the `progress` of its calls.
    ///
    /// # Errors
    ///
    /// Same as [`events`](Self::events).
    pub async fn upcalls<T>(&self, event: &str) -> Result<Events<T>, CallError> {
        self.subscribe_to(event, true).await
    }

    async fn subscribe_to<T>(&self, event: &str, to_this_client: bool) -> Result<Events<T>, CallError> {
        let object = self.valid_name()?.clone();
        let event = MethodName::new(event)?;
        let client = to_this_client.then(|| self.client().id().clone());
        let topic = EventTopic { object, event, client }.format(self.client().root());
        let subscription = self.client().subscribe(vec![Filter::new(topic)]).await?;
        Ok(Events { subscription, of: PhantomData })
    }
}
