//! Interface between claiming and the session, which the simulation implements too.

use std::fmt::Debug;
use std::pin::Pin;

use rantai_client::object::Calls;
use rantai_client::session::{Filter, Outlet, Publish, Status, SubscribeError, Unsent};
use rantai_client::wire::entry::Entry;
use tokio::sync::watch;

use crate::liveness::{answers, answers_at_node};

/// Future of an operation of a [`Bus`].
pub(crate) type Operation<'a, E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send + 'a>>;

/// Session that publishes and subscribes, like [`Outlet`], and pings other nodes.
pub(crate) trait Bus: Debug + Send + Sync {
    /// Returns a receiver of the connection status.
    fn status(&self) -> watch::Receiver<Status>;

    /// Ends the session for good, with this reason.
    fn end(&self, reason: &str);

    /// Queues a message without waiting. With a token other than 0, its result is reported to
    /// [`Announcer::settled`](crate::announcer::Announcer::settled).
    fn send_now(&self, publish: Publish, token: u128) -> Result<(), Unsent>;

    /// Waits for a connection, and queues a message. Its result is reported as by [`send_now`](Self::send_now).
    fn send(&self, publish: Publish, token: u128) -> Operation<'_, Unsent>;

    /// Publishes, and waits for the broker's acknowledgement.
    fn publish(&self, publish: Publish) -> Operation<'_, Unsent>;

    /// Subscribes, and waits for SUBACK.
    fn subscribe(&self, filters: Vec<Filter>) -> Operation<'_, SubscribeError>;

    /// Unsubscribes, and waits for UNSUBACK.
    fn unsubscribe(&self, filters: Vec<String>) -> Operation<'_, SubscribeError>;

    /// Pings the holder of a name; returns false if it does not answer.
    fn answers<'a>(&'a self, holder: &'a Entry) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

    /// Pings one of several nodes that serve a name; returns false if it does not answer.
    fn answers_at_node<'a>(&'a self, replica: &'a Entry) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;
}

/// Bus of a node.
#[derive(Debug)]
pub(crate) struct NodeBus {
    pub(crate) outlet: Outlet,
    /// Sends the pings.
    pub(crate) calls: Calls,
}

impl Bus for NodeBus {
    fn status(&self) -> watch::Receiver<Status> {
        self.outlet.status()
    }

    fn end(&self, reason: &str) {
        self.outlet.end(reason);
    }

    fn send_now(&self, publish: Publish, token: u128) -> Result<(), Unsent> {
        self.outlet.send_now(publish, token)
    }

    fn send(&self, publish: Publish, token: u128) -> Operation<'_, Unsent> {
        Box::pin(self.outlet.send(publish, token))
    }

    fn publish(&self, publish: Publish) -> Operation<'_, Unsent> {
        Box::pin(self.outlet.publish(publish))
    }

    fn subscribe(&self, filters: Vec<Filter>) -> Operation<'_, SubscribeError> {
        Box::pin(self.outlet.subscribe(filters))
    }

    fn unsubscribe(&self, filters: Vec<String>) -> Operation<'_, SubscribeError> {
        Box::pin(self.outlet.unsubscribe(filters))
    }

    fn answers<'a>(&'a self, holder: &'a Entry) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(answers(&self.calls, holder))
    }

    fn answers_at_node<'a>(&'a self, replica: &'a Entry) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(answers_at_node(&self.calls, replica))
    }
}
