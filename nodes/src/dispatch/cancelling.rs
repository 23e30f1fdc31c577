//! Calls under way that may be cancelled.

use std::sync::atomic::{AtomicBool, Ordering};

use rantai_client::object::Canceller;
use tokio::sync::Notify;

/// A call that waits for something. It either ends with its result or is cancelled, whichever comes first.
#[derive(Debug)]
pub(super) struct Cancellable {
    /// Whether it has ended, or was cancelled.
    is_decided: AtomicBool,
    canceller: Canceller,
    cancelled: Notify,
    /// Whether it is marked `once`: where it was cut off in the middle, a repeat would find its outcome unknown.
    once: bool,
}

impl Cancellable {
    pub(super) fn new(canceller: Canceller, once: bool) -> Self {
        Self { is_decided: AtomicBool::new(false), canceller, cancelled: Notify::new(), once }
    }

    /// Ends it with -32008. Whether it was still under way.
    pub(super) fn cancel(&self) -> bool {
        if self.is_decided.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.canceller.cancel();
        self.cancelled.notify_one();
        true
    }

    /// Nobody waits for its reply any more: it is cancelled. One that is marked `once` is told so, and goes on. Whether it
    /// was still under way.
    pub(super) fn unheard(&self) -> bool {
        if !self.once {
            return self.cancel();
        }
        if self.is_decided.load(Ordering::Acquire) {
            return false;
        }
        self.canceller.cancel();
        true
    }

    /// Whether it ends when nobody waits for its reply any more.
    pub(super) fn ends_unheard(&self) -> bool {
        !self.once
    }

    /// Until it is cancelled.
    pub(super) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }

    /// It has ended by itself. Whether its result counts: it was not cancelled before.
    pub(super) fn ended(&self) -> bool {
        !self.is_decided.swap(true, Ordering::AcqRel)
    }

    /// Its time was over.
    pub(super) fn timed_out(&self) {
        self.canceller.cancel();
    }
}
