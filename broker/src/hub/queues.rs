//! The queues of all sessions: those of the absent within one budget, and connected clients that do not take theirs.

use std::sync::Arc;

use super::sessions::Hub;
use crate::absent::{Held, level};
use crate::codec::Reason;
use crate::counters::Counters;
use crate::link::Link;
use crate::log::ClientText;
use crate::session::{Scratch, Session};

/// Connections that are ended before the others get their turn.
pub(crate) const ENDED_AT_ONCE: usize = 64;

impl Hub {
    /// Cuts the queues of absent sessions, the largest first, where all together hold more than they may.
    ///
    /// The largest and not the oldest: else whoever begins many sessions could push out those of others.
    pub(crate) fn cut_absent(&self, scratch: &mut Scratch) {
        let limits = &self.shared.config.limits;
        if self.shared.absent.over(limits) {
            self.cut_absent_to(
                Held { messages: limits.absent_messages, bytes: limits.absent_bytes },
                scratch,
            );
        }
    }

    /// Cuts the queues of absent sessions by about `bytes`, the largest first. Returns by how many.
    pub(crate) fn cut_absent_by(&self, bytes: usize, scratch: &mut Scratch) -> usize {
        let held = self.shared.absent.held();
        if bytes == 0 || held.bytes == 0 {
            return 0;
        }
        let most = Held { messages: usize::MAX, bytes: held.bytes.saturating_sub(bytes) };
        self.cut_absent_to(most, scratch);
        held.bytes.saturating_sub(self.shared.absent.held().bytes)
    }

    /// Cuts the queues of absent sessions until all together hold no more than `most`.
    fn cut_absent_to(&self, most: Held, scratch: &mut Scratch) {
        let absent = self.sessions_where(|session| {
            let state = session.state.lock();
            (state.link.is_none() && !state.ended).then(|| state.held())
        });
        let each = Held {
            messages: level(absent.iter().map(|(_, held)| held.messages), most.messages),
            bytes: level(absent.iter().map(|(_, held)| held.bytes), most.bytes),
        };
        for (session, held) in absent {
            if held.messages <= each.messages && held.bytes <= each.bytes {
                continue;
            }
            let mut state = session.state.lock();
            if state.link.is_some() || state.ended {
                continue;
            }
            let dropped = state.cut(session.key, each, &self.shared, scratch);
            if dropped > 0 {
                Counters::add(&self.shared.counters.dropped_absent, dropped);
                state.note_dropped(&session.client_id, dropped, scratch.now, &self.shared);
            }
            drop(state);
            scratch.settle(&self.shared);
        }
    }

    /// Disconnects clients whose queues overflow and that take nothing, or whose messages have a rule that says so. Others
    /// get their turns in between.
    pub(crate) async fn end_slow(&self, now: u64) {
        let limits = &self.shared.config.limits;
        let slow = self.sessions_where(|session| {
            let state = session.state.lock();
            state.link.clone().filter(|link| !link.is_closing() && state.too_slow(now, limits))
        });
        for (number, (session, link)) in slow.into_iter().enumerate() {
            if number % ENDED_AT_ONCE == ENDED_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            self.disconnect_slow(&session, &link, "its queue overflows, and it does not take its messages");
        }
    }

    /// Disconnects a client that does not take what is for it.
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

    /// The sessions of which `look` finds something, in an order that does not depend on a hash.
    pub(crate) fn sessions_where<T>(&self, look: impl Fn(&Session) -> Option<T>) -> Vec<(Arc<Session>, T)> {
        let mut found: Vec<_> = {
            let sessions = self.sessions.lock();
            sessions.by_client.values().filter_map(|s| look(s).map(|what| (s.clone(), what))).collect()
        };
        found.sort_unstable_by_key(|(session, _)| session.key);
        found
    }
}
