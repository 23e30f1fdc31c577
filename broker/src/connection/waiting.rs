//! When a client is not read: its message waits for a full queue, or the disk is behind.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Instant, timeout, timeout_at};

use super::{Connection, Failure, GATED, LINGER, Step, Work};
use crate::codec::{Publish, Reason};
use crate::counters::Counters;
use crate::link::flush_all;
use crate::session::Session;

impl Connection {
    /// Not to take more from a client than the disk can follow.
    pub(super) async fn wait_for_disk(&self) {
        if let Some(store) = &self.link.hub.store
            && store.backlog() > crate::store::ROOM
        {
            store.room().await;
        }
        while self.link.session.gated() > GATED && !self.link.is_closing() {
            let mut space = pin!(self.link.session.space.notified());
            space.as_mut().enable();
            if self.link.session.gated() > GATED {
                let _ = timeout(LINGER, space).await;
            }
        }
    }

    /// Waits for room in the queues that a message goes to, for a bounded time; then it is refused. Nothing
    /// is read from the client meanwhile.
    pub(super) async fn wait(&self, (mut publish, mut full): (Publish, Arc<Session>)) -> Result<(), Failure> {
        let limits = &self.link.hub.config.limits;
        let deadline = Instant::now() + limits.publish_wait;
        Counters::add(&self.link.hub.counters.publisher_waits, 1);
        loop {
            if !self.wait_for_space(&full, deadline).await {
                Counters::add(&self.link.hub.counters.refused_queue_full, 1);
                let mut work = Work::take();
                let refused = self.refuse(
                    &publish,
                    Reason::QUOTA_EXCEEDED,
                    "a subscriber's queue is full",
                    &mut work.scratch,
                );
                flush_all(&mut work.scratch.dirty);
                work.give_back();
                return refused;
            }
            if self.link.is_closing() {
                return Ok(());
            }
            let mut work = Work::take();
            let step = self.route(publish, &mut work);
            self.link.hub.settle(&mut work.scratch);
            flush_all(&mut work.scratch.dirty);
            work.give_back();
            match step? {
                Step::Wait(waiting) => (publish, full) = *waiting,
                _ => return Ok(()),
            }
        }
    }

    async fn wait_for_space(&self, full: &Arc<Session>, deadline: Instant) -> bool {
        let limits = &self.link.hub.config.limits;
        if full.is_stalled() {
            return !full.must_wait(limits);
        }
        loop {
            let mut space = pin!(full.space.notified());
            space.as_mut().enable();
            if !full.must_wait(limits) {
                return true;
            }
            if self.link.is_closing() {
                return false;
            }
            if timeout_at(deadline, space).await.is_err() {
                full.set_stalled();
                return false;
            }
        }
    }
}
