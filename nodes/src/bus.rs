//! The part of a session that announcing and claiming need. A simulation puts its own bus in its place.

use std::fmt::Debug;
use std::pin::Pin;

use rantai_client::session::{Filter, Outlet, Publish, Status, SubscribeError, Unsent};
use tokio::sync::watch;

/// An operation of a [`Bus`].
pub(crate) type Operation<'a, E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send + 'a>>;

/// A session that publishes and subscribes, as [`Outlet`] does.
pub(crate) trait Bus: Debug + Send + Sync {
    /// A receiver of the connection status.
    fn status(&self) -> watch::Receiver<Status>;

    /// Ends the session for good, with this reason.
    fn end(&self, reason: &str);

    /// Queues a message without waiting.
    fn send_now(&self, publish: Publish) -> Result<(), Unsent>;

    /// Waits for a connection, and queues a message.
    fn send(&self, publish: Publish) -> Operation<'_, Unsent>;

    /// Publishes, and waits for the broker's acknowledgement.
    fn publish(&self, publish: Publish) -> Operation<'_, Unsent>;

    /// Subscribes, and waits for the broker's answer.
    fn subscribe(&self, filters: Vec<Filter>) -> Operation<'_, SubscribeError>;

    /// Unsubscribes, and waits for the broker's answer.
    fn unsubscribe(&self, filters: Vec<String>) -> Operation<'_, SubscribeError>;
}

impl Bus for Outlet {
    fn status(&self) -> watch::Receiver<Status> {
        self.status()
    }

    fn end(&self, reason: &str) {
        self.end(reason);
    }

    fn send_now(&self, publish: Publish) -> Result<(), Unsent> {
        self.send_now(publish, 0)
    }

    fn send(&self, publish: Publish) -> Operation<'_, Unsent> {
        Box::pin(self.send(publish, 0))
    }

    fn publish(&self, publish: Publish) -> Operation<'_, Unsent> {
        Box::pin(self.publish(publish))
    }

    fn subscribe(&self, filters: Vec<Filter>) -> Operation<'_, SubscribeError> {
        Box::pin(self.subscribe(filters))
    }

    fn unsubscribe(&self, filters: Vec<String>) -> Operation<'_, SubscribeError> {
        Box::pin(self.unsubscribe(filters))
    }
}
