//! Storing sessions on disk, and restoring them.

use std::sync::Arc;

use super::sessions::Hub;
use crate::access::{Action, Principal};
use crate::codec::{Options, RetainHandling, Will};
use crate::counters::Counters;
use crate::holdings::Amount;
use crate::message::Message;
use crate::peer::Identity;
use crate::session::{Scratch, Session, SessionState};
use crate::store::{Op, SessionRecord, Snapshot, StoreError, WillRecord};
use crate::subscriptions::{Subscription, subscription_bytes};

impl Hub {
    /// Restores the sessions and retained messages of the store.
    pub(crate) fn restore(self: &Arc<Self>, snapshot: Snapshot) -> Result<(), StoreError> {
        {
            let mut retained = self.shared.retained.write();
            for message in snapshot.retained {
                // The publisher is not stored: the message counts against no owner until it is published again.
                retained.insert(Arc::new(message?), None);
            }
        }
        let now = self.shared.clock.now_ms();
        let (mut scratch, mut left) = (Scratch::at(now), Vec::new());
        for stored in snapshot.sessions {
            let session = Session::new(stored.key, stored.record.client_id);
            let mut sessions = self.sessions.lock();
            sessions.by_client.insert(session.clone());
            sessions.by_key.insert(session.key, session.clone());
            let mut state = session.state.lock();
            state.durable = true;
            state.expiry = stored.record.expiry;
            state.version5 = stored.record.version5;
            state.principal = Arc::new(Principal::of_record(stored.record.user_name));
            state.note_checked(self.shared.access.generation());
            let principal = state.principal.clone();
            self.count_session(&mut state, &principal, None);
            state.will = stored.record.will.map(|will| {
                let left = will.message.expires.map(|at| at as u32);
                let message = Message { expires: None, ..Message::clone(&will.message) };
                let will = Will { message, expiry: left, delay: will.delay };
                self.shared.wills.hold(will, state.owner().cloned())
            });
            let client = Identity { principal: &principal, client_id: &session.client_id };
            let denied = |will: &Message| self.shared.access.authorize_will(client, will).is_err();
            if state.will.as_ref().is_some_and(|will| denied(&will.message)) {
                Counters::add(&self.shared.counters.refused_access, 1);
                state.will = None;
            }
            state.restore(stored.queue, stored.received);
            for (filter, record) in stored.subscriptions {
                let options = Options {
                    qos: record.qos,
                    no_local: record.no_local,
                    retain_as_published: record.retain_as_published,
                    retain_handling: RetainHandling::from_bits(record.retain_handling).unwrap_or_default(),
                };
                let allowed = self.shared.access.authorize(client, Action::Subscribe, &filter);
                let Ok(allowed) = allowed else {
                    self.router.note_denied_filter(&session, &mut state, &filter);
                    scratch.ops.push(Op::Unsubscribe { key: session.key, filter });
                    continue;
                };
                state.note_allowed(&filter, allowed);
                state.subscriptions.insert(filter.clone(), (options, record.identifier));
                let bytes = subscription_bytes(&filter);
                state.subscription_bytes += bytes;
                self.shared.filters.add(state.owner(), Amount { count: 1, bytes });
                state.restore_read(filter.clone(), &record);
                let identifier = record.identifier;
                self.router
                    .restore(&filter, Subscription { subscriber: session.clone(), options, identifier });
            }
            let of = (session.key, &session.client_id);
            left.extend(state.drop_forbidden(of, &self.shared, &mut scratch));
            // After a crash the time of the disconnect is unknown; the broker's start is used instead.
            let since = stored.record.disconnected.unwrap_or(now);
            state.since = since;
            state.count_held(&self.shared);
            self.start_timer(&session, &mut state, since);
        }
        self.router.pass_on(left, &mut scratch);
        Ok(())
    }
}

/// Returns the operation that writes a session's record. In the record, the `expires` field of the will's message is
/// the Message Expiry Interval in seconds, counted from the will's publication, instead of a point in time.
pub(super) fn save(session: &Session, state: &SessionState, disconnected: Option<u64>) -> Op {
    let will = state.will.as_ref().map(|will| {
        let message = Message { expires: will.expiry.map(u64::from), ..will.message.clone() };
        WillRecord { message: Arc::new(message), delay: will.delay }
    });
    let record = SessionRecord {
        client_id: session.client_id.clone(),
        version5: state.version5,
        expiry: state.expiry,
        disconnected,
        will,
        user_name: state.principal.recorded(),
    };
    Op::SaveSession { key: session.key, record }
}
