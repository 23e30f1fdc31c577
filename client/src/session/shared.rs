//! State shared by the handles of a session and its connection task.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::{Notify, watch};

use super::outbox::{Farewell, Outbox};
use crate::wire::features::BrokerFeatures;

/// Connection status of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Not connected; connecting is being retried.
    Offline,
    /// Connected; the number counts connections from 1.
    Online(u64),
    /// Ended for good, with the reason.
    Ended(String),
}

/// State shared by the handles and the connection task.
#[derive(Debug)]
pub(super) struct SessionShared {
    pub(super) outbox: parking_lot::Mutex<Outbox>,
    /// Wakes the connection task: there is something to write, or the session closes.
    pub(super) work: Notify,
    /// Wakes publishers that wait for room in the send queue.
    pub(super) room: Notify,
    pub(super) status: watch::Sender<Status>,
    /// Reason of the end, if the session was ended with one.
    pub(super) reason: parking_lot::Mutex<Option<String>>,
    /// Bits of the [`BrokerFeatures`] announced in the last CONNACK.
    pub(super) features: AtomicU8,
}

impl SessionShared {
    /// Returns the features that the broker of the last connection has announced.
    pub(super) fn features(&self) -> BrokerFeatures {
        BrokerFeatures::from_bits(self.features.load(Ordering::Relaxed))
    }

    /// Records the features that the broker of a new connection has announced.
    pub(super) fn set_features(&self, features: BrokerFeatures) {
        self.features.store(features.bits(), Ordering::Relaxed);
    }

    /// Makes the connection task write queued messages, send DISCONNECT and end.
    pub(super) fn close(&self, farewell: Farewell) {
        self.outbox.lock().closing.get_or_insert(farewell);
        self.work.notify_one();
    }

    /// Publishes the end of the session and wakes waiting publishers.
    pub(super) fn ended(&self, reason: String) {
        self.status.send_replace(Status::Ended(reason));
        self.room.notify_waiters();
    }
}
