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

/// Number of filter levels and sessions checked before the task yields.
const CHECKS_PER_TURN: usize = 256;

/// Number of subscriptions and connections ended by a change of the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RevokedCounts {
    pub(crate) subscriptions: usize,
    pub(crate) connections: usize,
}

impl Hub {
    /// Replaces users and rules with those of another configuration, and checks every session against them, yielding
    /// in between. `changed` names the users whose passwords have changed. New decisions follow the new rules
    /// immediately.
    pub(crate) async fn replace_access(&self, config: &Config, changed: &HashSet<String>) -> RevokedCounts {
        self.shared.access.replace(config, changed);
        let mut taken = RevokedCounts::default();
        let mut checked = 0;
        for (session, ()) in self.sessions_in_turns(|_| Some(())).await {
            let generation = self.shared.access.generation();
            let mut scratch = Scratch::at(self.shared.clock.now_ms());
            let (filters, mut ends) = self.check_session(&session, &mut scratch);
            let mut lost = 0;
            for filter in filters {
                checked += topic::levels(&filter);
                self.take_turns(&mut checked, &mut scratch).await;
                lost += usize::from(self.check_subscription(&session, &filter, &mut scratch));
            }
            ends |= lost > 0;
            taken.subscriptions += lost;
            taken.connections += usize::from(self.finish_check(&session, generation, ends, &mut scratch));
            checked += 1;
            self.take_turns(&mut checked, &mut scratch).await;
            self.settle_look(&mut scratch);
        }
        taken
    }

    /// Yields if enough has been checked in this turn.
    async fn take_turns(&self, checked: &mut usize, scratch: &mut Scratch) {
        if *checked >= CHECKS_PER_TURN {
            *checked = 0;
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
    /// another password, or because its client id now belongs to another user. Removes a will that may no longer be
    /// published.
    fn check_session(&self, session: &Arc<Session>, scratch: &mut Scratch) -> (Vec<ByteString>, bool) {
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

    /// Removes a subscription that is no longer allowed, or records how far it is allowed. Returns whether it was
    /// removed.
    fn check_subscription(&self, session: &Arc<Session>, filter: &ByteString, scratch: &mut Scratch) -> bool {
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

    /// Finishes the check of a session, whose filters were all checked by the rules of `generation`: drops queued
    /// messages that the client may no longer read, and ends its connection if `ends`. Returns whether a connection
    /// was ended.
    fn finish_check(
        &self,
        session: &Arc<Session>,
        generation: u64,
        ends: bool,
        scratch: &mut Scratch,
    ) -> bool {
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

    /// Once, only filters were counted: a hundred thousand sessions without filters were checked without yielding.
    #[tokio::test]
    async fn checking_sessions_without_filters_yields_to_other_tasks() {
        let hub = hub(4 * CHECKS_PER_TURN);
        let (config, changed) = (Config::default(), HashSet::new());
        let mut replacing = pin!(hub.replace_access(&config, &changed));
        let mut context = Context::from_waker(Waker::noop());
        let mut turns = 0;
        while replacing.as_mut().poll(&mut context).is_pending() {
            turns += 1;
        }
        // Half of the turns occur while the sessions are listed.
        assert!(turns >= 8, "{turns}");
    }
}
