//! Publishing and subscribing on a session without keeping it alive.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::error::{SubscribeError, Unsent};
use super::message::{Filter, Publish, QoS};
use super::outbox::{Farewell, Outbox, Waiter};
use super::shared::{SessionShared, Status};
use crate::wire::features::BrokerFeatures;

/// Weak handle: publishes without keeping the session alive. For use inside a [`Receiver`](super::Receiver).
#[derive(Clone, Debug)]
pub struct Outlet {
    pub(super) shared: Arc<SessionShared>,
}

impl Outlet {
    /// Publishes and waits for the broker's acknowledgement (at QoS 0: until the message is queued). Waits for a
    /// connection first. If cancelled, the message may or may not be published.
    ///
    /// # Errors
    ///
    /// The message was refused or lost.
    pub async fn publish(&self, publish: Publish) -> Result<(), Unsent> {
        if publish.qos == QoS::AtMostOnce {
            return self.send(publish, 0).await;
        }
        let (told, result) = oneshot::channel();
        self.room().await?;
        self.append(publish, Waiter::Future(told))?;
        result.await.unwrap_or(Err(Unsent::Ended))
    }

    /// Same as [`publish`](Self::publish) at QoS 1, but returns the Reason String of PUBACK, escaped for a terminal,
    /// and empty if there is none.
    ///
    /// # Errors
    ///
    /// Same as [`publish`](Self::publish).
    pub async fn command(&self, publish: Publish) -> Result<String, Unsent> {
        let (told, result) = oneshot::channel();
        self.room().await?;
        self.append(publish.qos(QoS::AtLeastOnce), Waiter::Answer(told))?;
        result.await.unwrap_or(Err(Unsent::Ended))
    }

    /// Publishes without waiting for the acknowledgement: [`Receiver::settled`](super::Receiver::settled) is called
    /// with `token` and the result, unless `token` is 0; at QoS 0 once the message is being written, or the connection
    /// was lost before. Waits for a connection and for room in the send queue.
    ///
    /// # Errors
    ///
    /// The message cannot be queued.
    pub async fn send(&self, publish: Publish, token: u128) -> Result<(), Unsent> {
        self.room().await?;
        self.append(publish, if token == 0 { Waiter::Nobody } else { Waiter::Token(token) })
    }

    /// Same as [`send`](Self::send), but does not wait: for callbacks of the connection task. Ignores the limit of the
    /// send queue, so the caller must bound what it sends.
    ///
    /// # Errors
    ///
    /// The message cannot be queued; at QoS 0 also: there is no connection.
    pub fn send_now(&self, publish: Publish, token: u128) -> Result<(), Unsent> {
        self.append(publish, if token == 0 { Waiter::Nobody } else { Waiter::Token(token) })
    }

    /// Returns a receiver of the connection status.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Ends the session for all of its handles: writes queued messages, sends DISCONNECT, and sets `reason` as its
    /// [`Status::Ended`]. Does not wait for the end.
    pub fn end(&self, reason: &str) {
        *self.shared.reason.lock() = Some(reason.to_owned());
        self.shared.close(Farewell::Normal);
    }

    /// Returns the broker's features beyond MQTT, as announced in its last CONNACK; none before the first connection.
    pub fn features(&self) -> BrokerFeatures {
        self.shared.features()
    }

    /// Returns the number of bytes in the send queue: not written yet, or waiting for the broker's Receive Maximum.
    pub fn backlog(&self) -> usize {
        self.shared.outbox.lock().backlog()
    }

    /// Same as [`Session::subscribe`](super::Session::subscribe).
    ///
    /// # Errors
    ///
    /// Same as [`Session::subscribe`](super::Session::subscribe).
    pub async fn subscribe(&self, filters: Vec<Filter>) -> Result<(), SubscribeError> {
        self.room().await.map_err(|_| SubscribeError::Ended)?;
        let granted = {
            let mut outbox = self.shared.outbox.lock();
            let granted = outbox.subscribe(filters);
            self.wake(&mut outbox);
            granted
        };
        granted.await.unwrap_or(Err(SubscribeError::Lost))
    }

    /// Subscribes without waiting for SUBACK, for callbacks of the connection task. Does nothing without a connection,
    /// and ignores a refusal.
    pub fn subscribe_now(&self, filters: Vec<Filter>) {
        let mut outbox = self.shared.outbox.lock();
        drop(outbox.subscribe(filters));
        self.wake(&mut outbox);
    }

    /// Same as [`Session::unsubscribe`](super::Session::unsubscribe).
    ///
    /// # Errors
    ///
    /// Same as [`Session::unsubscribe`](super::Session::unsubscribe).
    pub async fn unsubscribe(&self, filters: Vec<String>) -> Result<(), SubscribeError> {
        let done = {
            let mut outbox = self.shared.outbox.lock();
            let done = outbox.unsubscribe(filters);
            self.wake(&mut outbox);
            done
        };
        match done {
            Some(done) => done.await.unwrap_or(Err(SubscribeError::Lost)),
            // Without a connection there is no subscription; one that the broker's session still has is removed on the
            // next connection.
            None => Ok(()),
        }
    }

    /// Unsubscribes without waiting for UNSUBACK.
    pub fn unsubscribe_now(&self, filters: Vec<String>) {
        let mut outbox = self.shared.outbox.lock();
        drop(outbox.unsubscribe(filters));
        self.wake(&mut outbox);
    }

    /// Removes filters from those that are subscribed again after a reconnect; sends no UNSUBSCRIBE.
    pub fn forget(&self, filters: &[String]) {
        self.shared.outbox.lock().forget(filters);
    }

    /// Continues with the packet id after `last`, as if there had been that many publishes.
    #[cfg(test)]
    pub(crate) fn skip_packet_ids(&self, last: u16) {
        self.shared.outbox.lock().last_id = last;
    }

    fn append(&self, publish: Publish, waiter: Waiter) -> Result<(), Unsent> {
        let mut outbox = self.shared.outbox.lock();
        outbox.publish(publish, waiter)?;
        self.wake(&mut outbox);
        Ok(())
    }

    fn wake(&self, outbox: &mut Outbox) {
        if !outbox.awake {
            outbox.awake = true;
            self.shared.work.notify_one();
        }
    }

    /// Waits until there is a connection and room in the send queue. Cancel safe.
    ///
    /// # Errors
    ///
    /// The session has ended.
    pub async fn room(&self) -> Result<(), Unsent> {
        loop {
            let look_again = self.shared.room.notified();
            tokio::pin!(look_again);
            {
                let mut outbox = self.shared.outbox.lock();
                if outbox.closing.is_some() {
                    return Err(Unsent::Ended);
                }
                if outbox.has_room() {
                    return Ok(());
                }
                outbox.wanted = true;
                // Enabled before the lock is released, because a notification could be missed otherwise.
                look_again.as_mut().enable();
            }
            look_again.await;
        }
    }
}
