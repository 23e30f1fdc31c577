//! Bus of one process in the simulation.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rantai_client::session::{Filter, Publish, Status, SubscribeError, Unsent};
use rantai_client::wire::entry::Entry;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::broker::FakeBroker;
use crate::bus::{Bus, Operation};

/// Bus of one client.
pub(super) struct FakeBus {
    pub(super) broker: Arc<FakeBroker>,
    pub(super) node: String,
}

impl std::fmt::Debug for FakeBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeBus({})", self.node)
    }
}

impl FakeBus {
    /// Waits for a connection; returns false if the session has ended.
    async fn is_online(&self) -> bool {
        let mut status = self.status();
        status.wait_for(|s| *s != Status::Offline).await.is_ok_and(|s| matches!(*s, Status::Online(_)))
    }
}

impl Bus for FakeBus {
    fn status(&self) -> watch::Receiver<Status> {
        self.broker.follow(&self.node)
    }

    fn end(&self, reason: &str) {
        self.broker.end(&self.node, reason);
    }

    /// Ignores the token, because the simulated broker refuses no publish.
    fn send_now(&self, publish: Publish, _token: u128) -> Result<(), Unsent> {
        self.broker.publish(&self.node, publish, None);
        Ok(())
    }

    fn send(&self, publish: Publish, token: u128) -> Operation<'_, Unsent> {
        Box::pin(async move {
            if self.is_online().await { self.send_now(publish, token) } else { Err(Unsent::Ended) }
        })
    }

    fn publish(&self, publish: Publish) -> Operation<'_, Unsent> {
        Box::pin(async move {
            if !self.is_online().await {
                return Err(Unsent::Ended);
            }
            let (sender, result) = oneshot::channel();
            self.broker.publish(&self.node, publish, Some(sender));
            result.await.unwrap_or(Err(Unsent::Ended))
        })
    }

    fn subscribe(&self, filters: Vec<Filter>) -> Operation<'_, SubscribeError> {
        Box::pin(async move {
            if !self.is_online().await {
                return Err(SubscribeError::Lost);
            }
            let (sender, result) = oneshot::channel();
            let filters = filters.into_iter().map(|filter| filter.topic).collect();
            self.broker.subscribe(&self.node, filters, sender);
            result.await.unwrap_or(Err(SubscribeError::Lost))
        })
    }

    fn unsubscribe(&self, filters: Vec<String>) -> Operation<'_, SubscribeError> {
        Box::pin(async move {
            if !matches!(*self.status().borrow(), Status::Online(_)) {
                return Ok(());
            }
            let (sender, result) = oneshot::channel();
            self.broker.unsubscribe(&self.node, filters, sender);
            result.await.unwrap_or(Err(SubscribeError::Lost))
        })
    }

    fn answers<'a>(&'a self, holder: &'a Entry) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            sleep(self.broker.wait(2 * self.broker.links.longest_delay_ms)).await;
            let node = self.broker.connected_as(&holder.node);
            let reached = node.is_some_and(|node| self.broker.state.lock().clients[&node].carries);
            if !reached {
                sleep(Duration::from_secs(3)).await;
                self.broker.record.reached("a holder does not answer");
            }
            reached
        })
    }

    fn answers_at_node<'a>(&'a self, replica: &'a Entry) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        self.answers(replica)
    }
}
