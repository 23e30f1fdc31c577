//! Waits during which a client's socket is not read: for room in a queue, for the disk, or for the client itself.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::{BatchBuffers, Connection, ConnectionError, LINGER_TIME, MAX_GATED_ACKNOWLEDGEMENTS, NextStep};
use crate::codec::Publish;
use crate::counters::Counters;
use crate::link::flush_all;
use crate::log::ClientText;
use crate::router::FullQueues;
use crate::session::{Room, Session};
use crate::store::Ticket;

impl Connection {
    /// Returns whether the client's socket must not be read for now, because the disk has fallen behind.
    pub(super) fn is_ahead_of_disk(&self) -> bool {
        let Some(store) = &self.hub.shared.store else { return false };
        store.is_behind() || self.has_much_gated()
    }

    /// Returns whether many or large acknowledgements to the client wait for the disk.
    fn has_much_gated(&self) -> bool {
        let (count, bytes) = self.session.gated();
        count > MAX_GATED_ACKNOWLEDGEMENTS || bytes > self.hub.shared.limits().answer_bytes
    }

    /// Waits until the disk has caught up. Ends early if the client has closed its side: what it has sent is in the
    /// socket's buffer already and is read to the end, and its connection is released.
    pub(super) async fn wait_for_disk(&self) {
        let Some(store) = &self.hub.shared.store else { return };
        while self.is_ahead_of_disk() && !self.link.is_closing() && !self.link.transport.is_read_closed() {
            let mut space = pin!(self.session.space.notified());
            space.as_mut().enable();
            if store.is_behind() {
                let _ = timeout(LINGER_TIME, store.room()).await;
            } else if self.has_much_gated() {
                let _ = timeout(LINGER_TIME, space).await;
            }
        }
    }

    /// Waits until `ticket` is on disk, and sends CONNACK. Ends early if the connection ends, or if its client has
    /// closed it.
    pub(super) async fn wait_for_connack(&self, ticket: Ticket) {
        let Some(store) = &self.hub.shared.store else { return };
        let mut on_disk = pin!(store.on_disk(ticket));
        loop {
            tokio::select! {
                biased;
                () = &mut on_disk => return self.link.release(),
                () = poll_fn(|cx| self.link.poll_closing(cx)) => return,
                () = sleep(LINGER_TIME) => if self.link.transport.is_read_closed() { return },
            }
        }
    }

    /// Waits until the client has read its answers. No packet is sent to report this, as the client would not read it
    /// either. A client that reads nothing for `slow_reader` is disconnected.
    pub(super) async fn wait_for_answers(&self) {
        let shared = &self.hub.shared;
        Counters::add(&shared.counters.unread_answers, 1);
        if !self.link.logged_answers.load(Ordering::Relaxed) && shared.may_log(&shared.log_lines.unread) {
            self.link.logged_answers.store(true, Ordering::Relaxed);
            let client = ClientText(&self.session.client_id);
            let user = ClientText(self.link.principal.user.as_deref().unwrap_or("-"));
            let peer = self.link.peer.address;
            tracing::warn!(%client, %user, %peer, "does not take its answers: not read until it does");
        }
        let patience = match shared.limits().slow_reader {
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

    /// Waits for `pause` without reading the client's socket, because its retained messages grow too fast. Ends early
    /// if the connection ends.
    pub(super) async fn wait_for_pace(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.link.is_closing() && !self.link.transport.is_read_closed() && Instant::now() < until {
            sleep_until(until.min(Instant::now() + LINGER_TIME)).await;
        }
    }

    /// Waits for room in the full queues of a message's subscribers, for at most `publish_wait` in total, and then
    /// routes the message. The client's socket is not read meanwhile.
    pub(super) async fn wait(
        &self,
        (mut publish, mut full): (Publish, Arc<Session>),
    ) -> Result<(), ConnectionError> {
        let deadline = Instant::now() + self.hub.shared.limits().publish_wait;
        Counters::add(&self.hub.shared.counters.publisher_waits, 1);
        loop {
            let queues =
                if self.wait_for_room(&full, deadline).await { FullQueues::Wait } else { FullQueues::Waited };
            if self.link.is_closing() {
                return Ok(());
            }
            let mut work = BatchBuffers::take(self.hub.shared.clock.now_ms());
            if publish.message.expired(work.scratch.now) {
                // An expiry time of 0 is in the past even in the current millisecond, so the message is delivered to
                // no session.
                publish.message.expires = Some(0);
            }
            let step = self.route(publish, queues, &mut work);
            work.scratch.settle(&self.hub.shared);
            flush_all(&mut work.scratch.dirty);
            work.give_back();
            match step? {
                NextStep::Wait(waiting) => (publish, full) = *waiting,
                _ => return Ok(()),
            }
        }
    }

    /// Waits for room in the queue of `full`. Returns false if the message must be routed without it.
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
