//! Replacement of users and access rules while clients are connected.

use std::collections::HashSet;
use std::sync::Arc;

use bytestring::ByteString;

use super::sessions::Hub;
use crate::access::Action;
use crate::codec::Reason;
use crate::config::Config;
use crate::counters::Counters;
use crate::link::flush_all;
use crate::log::ClientText;
use crate::message::Message;
use crate::peer::Identity;
use crate::session::{Scratch, Session};
use crate::topic;

/// Maximum number of filter levels and sessions checked before the task yields.
const AT_ONCE: usize = 256;

/// Number of subscriptions and connections that a change of the rules has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) subscriptions: usize,
    pub(crate) connections: usize,
}

impl Hub {
    /// Replaces users and rules by those of another configuration, and checks every session against them, yielding
    /// between parts. `changed` names the users whose passwords have changed. New decisions follow the new rules
    /// immediately.
    pub(crate) async fn replace_access(&self, config: &Config, changed: &HashSet<String>) -> Taken {
        self.shared.access.replace(config, changed);
        let mut taken = Taken::default();
        let mut looked_at = 0;
        for (session, ()) in self.sessions_in_turns(|_| Some(())).await {
            let generation = self.shared.access.generation();
            let mut scratch = Scratch::at(self.shared.clock.now_ms());
            let (filters, mut ends) = self.look_at_session(&session, &mut scratch);
            let mut lost = 0;
            for filter in filters {
                looked_at += topic::levels(&filter);
                self.take_turns(&mut looked_at, &mut scratch).await;
                lost += usize::from(self.take_forbidden(&session, &filter, &mut scratch));
            }
            ends |= lost > 0;
            taken.subscriptions += lost;
            taken.connections += usize::from(self.end_look(&session, generation, ends, &mut scratch));
            looked_at += 1;
            self.take_turns(&mut looked_at, &mut scratch).await;
            self.settle_look(&mut scratch);
        }
        taken
    }

    /// Yields if enough has been checked in this turn.
    async fn take_turns(&self, looked_at: &mut usize, scratch: &mut Scratch) {
        if *looked_at >= AT_ONCE {
            *looked_at = 0;
            self.settle_look(scratch);
            tokio::task::yield_now().await;
        }
    }

    fn settle_look(&self, scratch: &mut Scratch) {
        scratch.settle(&self.shared);
        flush_all(&mut scratch.dirty);
        scratch.begin_turn(self.shared.clock.now_ms());
    }

    /// Returns the filters of a session, and whether its connection must end because its user was removed or has
    /// another password, or because its client id now belongs to another user. Removes a will that may not be published
    /// any more.
    fn look_at_session(&self, session: &Arc<Session>, scratch: &mut Scratch) -> (Vec<ByteString>, bool) {
        let access = &self.shared.access;
        let mut state = session.state.lock();
        if state.ended {
            return (Vec::new(), false);
        }
        let principal = state.principal.clone();
        let id = &session.client_id;
        let ends = !access.is_logged_in(&principal) || access.check_client_id(id, &principal).is_err();
        let client = Identity { principal: &principal, client_id: id };
        let denied = |will: &Message| access.authorize_will(client, will).is_err();
        if state.will.as_ref().is_some_and(|will| denied(&will.message)) {
            Counters::add(&self.shared.counters.refused_access, 1);
            state.will = None;
            if state.durable {
                let disconnected = state.link.is_none().then_some(state.since);
                scratch.ops.push(super::restore::save(session, &state, disconnected));
            }
        }
        // Sorted, so that the order does not depend on a hash.
        let mut filters: Vec<_> = state.subscriptions.keys().cloned().collect();
        filters.sort_unstable();
        (filters, ends)
    }

    /// Removes a subscription that is not allowed any more, or notes how far it is allowed. Returns whether it was
    /// removed.
    fn take_forbidden(&self, session: &Arc<Session>, filter: &ByteString, scratch: &mut Scratch) -> bool {
        let decision = {
            let mut state = session.state.lock();
            if !state.subscriptions.contains_key(filter) {
                return false;
            }
            let access = &self.shared.access;
            let client = Identity { principal: &state.principal, client_id: &session.client_id };
            let decision = access.authorize(client, Action::Subscribe, filter);
            if let Ok(allowed) = decision {
                state.note_allowed(filter, allowed);
            }
            decision
        };
        decision.is_err() && self.router.unsubscribe(session, filter, scratch)
    }

    /// Ends the check of a session, whose filters were all checked by the rules of `generation`: drops queued messages
    /// that the client may not read any more, and ends its connection if `ends`. Returns whether a connection was
    /// ended.
    fn end_look(&self, session: &Arc<Session>, generation: u64, ends: bool, scratch: &mut Scratch) -> bool {
        let mut state = session.state.lock();
        state.note_checked(generation);
        let left = state.drop_forbidden((session.key, &session.client_id), &self.shared, scratch);
        state.count_absent(&self.shared.absent);
        let link = state.link.clone().filter(|link| ends && !link.is_closing());
        let user = state.principal.clone();
        drop(state);
        self.router.pass_on(left, scratch);
        let Some(link) = link else { return false };
        if self.shared.may_log(&self.shared.log_lines.ended) {
            tracing::warn!(
                client = %ClientText(&session.client_id), user = %ClientText(user.name()),
                peer = %link.peer.address, "ended: the rules do not allow what it had any more"
            );
        }
        link.close(Some(Reason::NOT_AUTHORIZED));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::super::walk::tests::hub;
    use super::*;

    /// Once only filters were counted: a hundred thousand sessions without filters were checked without yielding.
    #[tokio::test]
    async fn others_have_turns_while_sessions_without_filters_are_looked_at() {
        let hub = hub(4 * AT_ONCE);
        let (config, changed) = (Config::default(), HashSet::new());
        let mut replacing = pin!(hub.replace_access(&config, &changed));
        let mut context = Context::from_waker(Waker::noop());
        let mut turns = 0;
        while replacing.as_mut().poll(&mut context).is_pending() {
            turns += 1;
        }
        // Half of the turns are taken while the sessions are listed.
        assert!(turns >= 8, "{turns}");
    }
}
