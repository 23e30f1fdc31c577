//! Disconnection of clients that do not read their queues, and sending from queues that were held back because of
//! other clients' messages in flight.

use std::sync::Arc;

use super::sessions::Hub;
use crate::codec::Reason;
use crate::counters::Counters;
use crate::link::{Link, flush_all};
use crate::log::ClientText;
use crate::session::{Scratch, Session};

/// Number of connections ended before the task yields.
pub(crate) const DISCONNECTS_PER_TURN: usize = 16;

impl Hub {
    /// Disconnects clients whose queues overflow while they read nothing, and clients with a message whose rule is to
    /// disconnect. Yields in between.
    pub(crate) async fn end_slow(&self, now: u64) {
        let limits = self.shared.limits();
        let slow = self.sessions_in_turns(|session| {
            let state = session.state.lock();
            state.link.clone().filter(|link| !link.is_closing() && state.too_slow(now, limits))
        });
        let slow = slow.await;
        for (number, (session, link)) in slow.into_iter().enumerate() {
            if number % DISCONNECTS_PER_TURN == DISCONNECTS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            self.disconnect_slow(&session, &link, "its queue overflows, and it does not take its messages");
        }
    }

    /// Disconnects a client that does not read its messages.
    pub(crate) fn disconnect_slow(&self, session: &Session, link: &Arc<Link>, why: &str) {
        Counters::add(&self.shared.counters.disconnected_slow, 1);
        if self.shared.may_log(&self.shared.log_lines.ended) {
            let user = session.state.lock().principal.clone();
            tracing::warn!(
                client = %ClientText(&session.client_id),
                user = %ClientText(user.user.as_deref().unwrap_or("-")),
                peer = %link.peer.address,
                "ended: {why}"
            );
        }
        link.close(Some(Reason::QUOTA_EXCEEDED));
    }

    /// Sends to clients that have nothing in flight and were held back because of the messages in flight to other
    /// clients.
    pub(crate) async fn send_to_held_back(&self, now: u64) {
        if !self.shared.in_flight.take_held_back() {
            return;
        }
        let waiting =
            self.sessions_in_turns(|session| session.state.lock().waits_for_others().then_some(())).await;
        for (number, (session, ())) in waiting.into_iter().enumerate() {
            if number % DISCONNECTS_PER_TURN == DISCONNECTS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let mut scratch = Scratch::at(now);
            session.committed(&mut scratch);
            scratch.settle(&self.shared);
            flush_all(&mut scratch.dirty);
        }
    }
}
