//! Subscribe and unsubscribe operations of sessions.

use std::sync::Arc;

use bytestring::ByteString;

use super::Router;
use crate::access::{Action, Denial};
use crate::codec::{Options, Reason, RetainHandling};
use crate::counters::Counters;
use crate::holdings::{Amount, Excess};
use crate::log::ClientText;
use crate::logged::ReachedLimit;
use crate::memory::Stage;
use crate::owner::Owner;
use crate::peer::Identity;
use crate::session::{Filters, Scratch, Session, SessionState};
use crate::store::Op;
use crate::subscriptions::{GroupLimits, Subscription, TooManyGroups, subscription_bytes};
use crate::topic;

impl Router {
    /// Subscribes a session. Returns whether the retained messages of the filter have to be sent to it. For a session
    /// on disk, that is stored in the same commit.
    pub(crate) fn subscribe(
        &self,
        session: &Arc<Session>,
        filter: &ByteString,
        options: Options,
        identifier: Option<u32>,
        scratch: &mut Scratch,
    ) -> Result<bool, Denial> {
        let mut state = session.state.lock();
        if state.ended {
            return Err(Reason::SESSION_TAKEN_OVER.into());
        }
        let client = Identity { principal: &state.principal, client_id: &session.client_id };
        let allowed = self.shared.access.authorize(client, Action::Subscribe, filter);
        let allowed = allowed.inspect_err(|_| self.note_denied_filter(session, &mut state, filter))?;
        let known = state.subscriptions.contains_key(filter);
        if state.durable && self.shared.disk_refusal().is_some() {
            if state.subscriptions.get(filter) == Some(&(options, identifier)) {
                let reads = options.retain_handling == RetainHandling::AtSubscribe;
                return Ok(reads && topic::shared(filter).is_none());
            }
            Counters::add(&self.shared.counters.refused_store, 1);
            session.log_disk_refusal(&mut state, &self.shared);
            return Err(Reason::QUOTA_EXCEEDED.into());
        }
        let bytes = subscription_bytes(filter);
        if !known {
            self.take_place(session, &mut state, bytes)?;
        }
        let limits = self.shared.limits();
        let subscription = Subscription { subscriber: session.clone(), options, identifier };
        let groups = GroupLimits { filter: limits.share_groups, session: limits.share_groups_session };
        if let Err(TooManyGroups) = self.subscriptions.write().insert(filter, subscription, groups) {
            Counters::add(&self.shared.counters.refused_subscriptions, 1);
            if !known {
                self.shared.filters.give_back(state.owner(), Amount { count: 1, bytes });
            }
            if self.shared.may_log_limit(&mut state.logged, ReachedLimit::ShareGroups) {
                let client = ClientText(&session.client_id);
                tracing::warn!(%client, "refused: more shared groups on one filter than allowed");
            }
            return Err(Reason::QUOTA_EXCEEDED.into());
        }
        state.note_allowed(filter, allowed);
        state.subscriptions.insert(filter.clone(), (options, identifier));
        if !known {
            state.subscription_bytes += bytes;
        }
        let reads = match options.retain_handling {
            RetainHandling::AtSubscribe => true,
            RetainHandling::IfNew => !known,
            RetainHandling::Never => false,
        };
        let reads = reads && topic::shared(filter).is_none() && self.shared.retained.read().may_match(filter);
        if state.durable {
            scratch.ops.extend(state.subscription_op(session.key, filter, reads));
        }
        Ok(reads)
    }

    /// Counts and logs a filter that the access rules do not allow.
    pub(crate) fn note_denied_filter(&self, session: &Session, state: &mut SessionState, filter: &str) {
        Counters::add(&self.shared.counters.refused_access_filters, 1);
        if self.shared.may_log_limit(&mut state.logged, ReachedLimit::Filters) {
            tracing::warn!(
                client = %ClientText(&session.client_id), user = %ClientText(state.principal.name()),
                filter = %ClientText(filter), "refused: filters that the rules do not allow"
            );
        }
    }

    /// Counts another filter of `bytes` against a session's limits, or refuses it.
    fn take_place(&self, session: &Session, state: &mut SessionState, bytes: usize) -> Result<(), Reason> {
        let shared = &*self.shared;
        let limits = shared.limits();
        let short = shared.memory.at(Stage::Keeping) && !state.principal.local;
        let own = state.subscription_bytes + bytes;
        let mut excess = None;
        if !short && state.subscriptions.len() < limits.subscriptions && own <= limits.subscription_bytes {
            // Other sessions cannot use up the limit of the broker's own process.
            let most = if state.principal.local { usize::MAX } else { shared.memory.subscription_bytes };
            match shared.filters.take(state.owner(), bytes, most) {
                Ok(()) => return Ok(()),
                Err(of) => excess = Some(of),
            }
        }
        let share = excess == Some(Excess::Share);
        Counters::add(&shared.counters.refused_subscriptions, 1);
        Counters::add(&shared.counters.refused_shares, u64::from(share));
        if shared.may_log_limit(&mut state.logged, ReachedLimit::Subscriptions) {
            tracing::warn!(
                client = %ClientText(&session.client_id), filters = state.subscriptions.len(),
                bytes = state.subscription_bytes, memory_is_short = short, share,
                "refused: more subscriptions than allowed"
            );
        }
        Err(Reason::QUOTA_EXCEEDED)
    }

    /// Ends a subscription. Returns false if there was none.
    pub(crate) fn unsubscribe(
        &self,
        session: &Arc<Session>,
        filter: &ByteString,
        scratch: &mut Scratch,
    ) -> bool {
        let mut state = session.state.lock();
        if state.subscriptions.remove(filter).is_none() {
            return false;
        }
        let bytes = subscription_bytes(filter);
        state.subscription_bytes -= bytes;
        self.shared.filters.give_back(state.owner(), Amount { count: 1, bytes });
        state.forget_allowed(filter);
        state.end_read(filter);
        self.subscriptions.write().remove(filter, session.key);
        if state.durable {
            scratch.ops.push(Op::Unsubscribe { key: session.key, filter: filter.clone() });
        }
        true
    }

    /// Restores a subscription from disk, regardless of the current limits.
    pub(crate) fn restore(&self, filter: &ByteString, subscription: Subscription<Arc<Session>>) {
        let inserted = self.subscriptions.write().insert(filter, subscription, GroupLimits::NONE);
        inserted.expect("no limit");
    }

    /// Removes the subscriptions of an ended session of `owner`, so that they receive nothing more. If there are many,
    /// most of them are removed later by a task that yields in between; they count against the limits until then.
    pub(crate) fn unsubscribe_all(&self, filters: Filters, key: u64, owner: Option<Arc<Owner>>) {
        let mut filters = filters.into_keys();
        let (subscriptions, budget) = (self.subscriptions.clone(), self.shared.filters.clone());
        let mut remove_some = move || {
            let removed = subscriptions.write().remove_some(&mut filters, key);
            budget.give_back(owner.as_ref(), removed);
            filters.len() > 0
        };
        if remove_some() {
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                while remove_some() {
                    tokio::task::yield_now().await;
                }
            });
        }
    }
}
