//! When a client is not read: its message waits for a full queue, or the disk is behind.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::{Connection, Failure, GATED, LINGER, Step, Work};
use crate::codec::Publish;
use crate::counters::Counters;
use crate::link::flush_all;
use crate::log::ClientText;
use crate::router::FullQueues;
use crate::session::{Room, Session};

impl Connection {
    /// Whether nothing more is to be read from the client for now: the disk does not follow.
    pub(super) fn is_ahead_of_disk(&self) -> bool {
        let Some(store) = &self.hub.shared.store else { return false };
        store.is_behind() || self.has_much_gated()
    }

    /// Whether many of its answers wait for the disk, or long ones.
    fn has_much_gated(&self) -> bool {
        let (count, bytes) = self.session.gated();
        count > GATED || bytes > self.hub.shared.config.limits.answer_bytes
    }

    /// Not to take more from a client than the disk can follow. A client that has closed is not waited for: what it has
    /// sent is read to the end, which is in the socket's buffer already, and its connection is let go.
    pub(super) async fn wait_for_disk(&self) {
        let Some(store) = &self.hub.shared.store else { return };
        while self.is_ahead_of_disk() && !self.link.is_closing() && !self.link.transport.is_read_closed() {
            let mut space = pin!(self.session.space.notified());
            space.as_mut().enable();
            if store.is_behind() {
                let _ = timeout(LINGER, store.room()).await;
            } else if self.has_much_gated() {
                let _ = timeout(LINGER, space).await;
            }
        }
    }

    /// Waits until the client has taken its answers. It is not told: it would not read that either. One that takes nothing
    /// at all for `slow_reader` is disconnected.
    pub(super) async fn wait_for_answers(&self) {
        let shared = &self.hub.shared;
        Counters::add(&shared.counters.unread_answers, 1);
        if !self.link.told_of_answers.load(Ordering::Relaxed) && shared.may_log(&shared.log_lines.unread) {
            self.link.told_of_answers.store(true, Ordering::Relaxed);
            let client = ClientText(&self.session.client_id);
            let user = ClientText(self.link.principal.user.as_deref().unwrap_or("-"));
            let peer = self.link.peer.address;
            tracing::warn!(%client, %user, %peer, "does not take its answers: not read until it does");
        }
        let patience = match shared.config.limits.slow_reader {
            Duration::ZERO => Duration::MAX,
            slow_reader => slow_reader,
        };
        self.link.has_taken();
        while timeout(patience, poll_fn(|cx| self.link.poll_answers_taken(cx))).await.is_err() {
            if !self.link.has_taken() {
                self.hub.disconnect_slow(&self.session, &self.link, "it does not take its answers");
                return;
            }
        }
    }

    /// Does not read the client for `pause`, as what it has retained grows fast; less where its connection ends.
    pub(super) async fn wait_for_pace(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.link.is_closing() && !self.link.transport.is_read_closed() && Instant::now() < until {
            sleep_until(until.min(Instant::now() + LINGER)).await;
        }
    }

    /// Waits for room in the queues that a message goes to, for at most `publish_wait` in all, and routes it then.
    /// Nothing is read from the client meanwhile.
    pub(super) async fn wait(&self, (mut publish, mut full): (Publish, Arc<Session>)) -> Result<(), Failure> {
        let deadline = Instant::now() + self.hub.shared.config.limits.publish_wait;
        Counters::add(&self.hub.shared.counters.publisher_waits, 1);
        loop {
            let queues =
                if self.wait_for_room(&full, deadline).await { FullQueues::Wait } else { FullQueues::Waited };
            if self.link.is_closing() {
                return Ok(());
            }
            let mut work = Work::take(self.hub.shared.clock.now_ms());
            let step = self.route(publish, queues, &mut work);
            work.scratch.settle(&self.hub.shared);
            flush_all(&mut work.scratch.dirty);
            work.give_back();
            match step? {
                Step::Wait(waiting) => (publish, full) = *waiting,
                _ => return Ok(()),
            }
        }
    }

    /// Whether there is room in the queue of `full`; false when it has to be done without.
    async fn wait_for_room(&self, full: &Arc<Session>, deadline: Instant) -> bool {
        loop {
            let mut space = pin!(full.space.notified());
            space.as_mut().enable();
            let credit = match full.room(&self.hub.shared) {
                Room::Free => return true,
                Room::None => return false,
                Room::Soon(credit) => credit,
            };
            let since = Instant::now();
            if self.link.is_closing() || since >= deadline {
                return false;
            }
            let _ = timeout_at(deadline.min(since + credit), space).await;
            full.charge_wait(since.elapsed());
        }
    }
}
