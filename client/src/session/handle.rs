//! The handle of a session.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::connection;
use super::error::{ConnectError, ConnectRefusal, SubscribeError, Unsent};
use super::handshake::PATIENCE;
use super::message::{Filter, Publish};
use super::options::Options;
use super::outbox::{Farewell, Outbox};
use super::outlet::Outlet;
use super::receiver::Receiver;
use super::shared::{SessionShared, Status};

/// A connection to a broker that reconnects by itself; cheap to clone. Disconnects when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<SessionShared>,
    options: Options,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropped without `close`: others are to learn of it, so the broker publishes the will.
        self.shared.close(Farewell::WithWill);
    }
}

impl Session {
    /// Connects. `receiver` makes the callbacks from the handle by which they may publish.
    ///
    /// # Errors
    ///
    /// When the first attempt fails, unless [`Options::patient`]. Later the session reconnects by itself, after a
    /// random wait of 0 to 2^n s, 60 s at most.
    pub async fn connect<R: Receiver>(
        options: Options,
        receiver: impl FnOnce(Outlet) -> R,
    ) -> Result<Self, ConnectError> {
        let shared = Arc::new(SessionShared {
            outbox: parking_lot::Mutex::new(Outbox::new(options.max_packet as usize)),
            work: Notify::new(),
            room: Notify::new(),
            status: watch::Sender::new(Status::Offline),
            reason: parking_lot::Mutex::default(),
            features: AtomicU8::new(0),
        });
        let receiver = receiver(Outlet { shared: shared.clone() });
        connection::start(options.clone(), shared.clone(), receiver).await?;
        Ok(Self { inner: Arc::new(Inner { shared, options }) })
    }

    /// A handle that publishes without keeping the session alive.
    pub fn outlet(&self) -> Outlet {
        Outlet { shared: self.inner.shared.clone() }
    }

    /// A receiver of the connection status.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.shared.status.subscribe()
    }

    /// As [`Outlet::publish`].
    ///
    /// # Errors
    ///
    /// Those of [`Outlet::publish`].
    pub async fn publish(&self, publish: Publish) -> Result<(), Unsent> {
        self.outlet().publish(publish).await
    }

    /// As [`Outlet::command`].
    ///
    /// # Errors
    ///
    /// Those of [`Outlet::command`].
    pub async fn command(&self, publish: Publish) -> Result<String, Unsent> {
        self.outlet().command(publish).await
    }

    /// Subscribes and waits for SUBACK. Persistent filters are subscribed again after every reconnect, until
    /// [`unsubscribe`](Self::unsubscribe).
    ///
    /// # Errors
    ///
    /// When a filter is refused (none of them is kept then), or the connection is lost.
    pub async fn subscribe(&self, filters: Vec<Filter>) -> Result<(), SubscribeError> {
        self.outlet().subscribe(filters).await
    }

    /// Unsubscribes and waits for UNSUBACK.
    ///
    /// # Errors
    ///
    /// When the connection is lost; the filters are not subscribed again either way.
    pub async fn unsubscribe(&self, filters: Vec<String>) -> Result<(), SubscribeError> {
        self.outlet().unsubscribe(filters).await
    }

    /// Makes the subscriptions that the session needs; retried at every connection until they are granted.
    ///
    /// # Errors
    ///
    /// When the broker refuses them, or has not granted them within 10 s, unless [`Options::patient`].
    pub async fn begin(&self, filters: Vec<Filter>) -> Result<(), ConnectError> {
        let granted = async {
            loop {
                match self.subscribe(filters.clone()).await {
                    Err(SubscribeError::Lost) => {}
                    result => return result,
                }
            }
        };
        let Options { address, patient, .. } = &self.inner.options;
        let granted = if *patient { Ok(granted.await) } else { timeout(PATIENCE, granted).await };
        let address = address.to_string();
        match granted {
            Err(_) => Err(ConnectError::Silent { address, within: PATIENCE }),
            Ok(Err(error)) => {
                let refusal = ConnectRefusal::Other;
                Err(ConnectError::Refused { address, reason: error.to_string(), refusal })
            }
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Writes what is queued, sends DISCONNECT, and waits for the end, at most about 10 s even if the broker reads
    /// nothing more. Ends all clones.
    pub async fn close(&self) {
        let mut status = self.status();
        self.inner.shared.close(Farewell::Normal);
        let _ = status.wait_for(|status| matches!(status, Status::Ended(_))).await;
    }
}
