//! Connection status of one client, followed by tasks that are woken in a fixed order.

use rantai_client::session::Status;
use tokio::sync::watch;

/// Present status, and a channel for each receiver. Separate channels, because tokio draws at random in which order it
/// wakes the receivers of one channel, so that the same seed would get different traces.
pub(super) struct Statuses {
    now: Status,
    followers: Vec<watch::Sender<Status>>,
}

impl Default for Statuses {
    fn default() -> Self {
        Self { now: Status::Offline, followers: Vec::new() }
    }
}

impl Statuses {
    /// Returns the present status.
    pub(super) fn now(&self) -> &Status {
        &self.now
    }

    /// Returns a receiver for one task.
    pub(super) fn follow(&mut self) -> watch::Receiver<Status> {
        self.followers.retain(|follower| !follower.is_closed());
        let (follower, status) = watch::channel(self.now.clone());
        self.followers.push(follower);
        status
    }

    /// Sets the status, and wakes tasks in the order in which they began to follow it.
    pub(super) fn set(&mut self, status: Status) {
        for follower in &self.followers {
            follower.send_replace(status.clone());
        }
        self.now = status;
    }
}
