//! Handle of a session.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::connection;
use super::error::{ConnectError, ConnectRefusal, SubscribeError, Unsent};
use super::handshake::HANDSHAKE_TIMEOUT;
use super::message::{Filter, Publish};
use super::options::Options;
use super::outbox::{Farewell, Outbox};
use super::outlet::Outlet;
use super::receiver::Receiver;
use super::shared::{SessionShared, Status};

/// Connection to a broker that reconnects by itself; cheap to clone. Disconnects when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<SessionGuard>,
}

#[derive(Debug)]
struct SessionGuard {
    shared: Arc<SessionShared>,
    options: Options,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        // The session was dropped without `close`, which others should notice: the broker publishes the will.
        self.shared.close(Farewell::WithWill);
    }
}

impl Session {
    /// Connects. `receiver` creates the callbacks, from a handle by which they may publish.
    ///
    /// # Errors
    ///
    /// The first attempt failed, unless [`Options::patient`] is set. Later the session reconnects by itself, after a
    /// random delay of 0 to 2^n s, 60 s at most.
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
        Ok(Self { inner: Arc::new(SessionGuard { shared, options }) })
    }

    /// Returns a handle that publishes without keeping the session alive.
    pub fn outlet(&self) -> Outlet {
        Outlet { shared: self.inner.shared.clone() }
    }

    /// Returns a receiver of the connection status.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.shared.status.subscribe()
    }

    /// Same as [`Outlet::publish`].
    ///
    /// # Errors
    ///
    /// Same as [`Outlet::publish`].
    pub async fn publish(&self, publish: Publish) -> Result<(), Unsent> {
        self.outlet().publish(publish).await
    }

    /// Same as [`Outlet::command`].
    ///
    /// # Errors
    ///
    /// Same as [`Outlet::command`].
    pub async fn command(&self, publish: Publish) -> Result<String, Unsent> {
        self.outlet().command(publish).await
    }

    /// Subscribes and waits for SUBACK. Persistent filters are subscribed again after every reconnect, until
    /// [`unsubscribe`](Self::unsubscribe).
    ///
    /// # Errors
    ///
    /// A filter was refused, and so none of them is kept; or the connection was lost.
    pub async fn subscribe(&self, filters: Vec<Filter>) -> Result<(), SubscribeError> {
        self.outlet().subscribe(filters).await
    }

    /// Unsubscribes and waits for UNSUBACK.
    ///
    /// # Errors
    ///
    /// The connection was lost; the filters are not subscribed again either way.
    pub async fn unsubscribe(&self, filters: Vec<String>) -> Result<(), SubscribeError> {
        self.outlet().unsubscribe(filters).await
    }

    /// Subscribes to the filters that the session needs; retries on every connection until they are granted.
    ///
    /// # Errors
    ///
    /// The broker refuses a filter, or has not granted all within 10 s, unless [`Options::patient`] is set.
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
        let granted = if *patient { Ok(granted.await) } else { timeout(HANDSHAKE_TIMEOUT, granted).await };
        let address = address.to_string();
        match granted {
            Err(_) => Err(ConnectError::Silent { address, within: HANDSHAKE_TIMEOUT }),
            Ok(Err(error)) => {
                let refusal = ConnectRefusal::Other;
                Err(ConnectError::Refused { address, reason: error.to_string(), refusal })
            }
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Writes queued messages, sends DISCONNECT, and waits for the end: about 10 s at most, even if the broker stops
    /// reading. Ends all clones.
    pub async fn close(&self) {
        let mut status = self.status();
        self.inner.shared.close(Farewell::Normal);
        let _ = status.wait_for(|status| matches!(status, Status::Ended(_))).await;
    }
}
