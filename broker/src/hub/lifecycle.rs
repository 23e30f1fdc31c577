//! Begin, resumption, takeover and end of sessions.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytestring::ByteString;
use tokio::time::sleep;

use super::restore::save;
use super::sessions::Hub;
use crate::access::{Denial, Principal};
use crate::administration::EndResult;
use crate::caller;
use crate::codec::{self, ConnAck, Connect, Reason, Version};
use crate::counters::Counters;
use crate::grants::Asked;
use crate::link::{Link, flush_all};
use crate::message::Message;
use crate::peer::Peer;
use crate::session::{Scratch, Session, SessionState, WaitCredit};
use crate::store::{Op, Ticket};
use crate::transport::Transport;

/// Maximum number of messages of shared groups passed on before the task yields.
const MESSAGES_PER_TURN: usize = 256;

/// Kind of a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// DISCONNECT 0x00: the will is discarded. `expiry` is the new session expiry in seconds, if the packet carried
    /// one.
    Normal { expiry: Option<u32> },
    /// Any other end: the will is published.
    Lost { expiry: Option<u32> },
}

// The record of a session and what the session publishes at its end (its will, messages of its shared groups) are
// passed to the store together, while the session list is locked. After a crash, the disk thus has either the record
// or those messages, and no record is overwritten by an earlier one.
impl Hub {
    /// Connects a client: resumes its session or begins a new one, and ends its earlier connection.
    ///
    /// # Errors
    ///
    /// The transport and the refusal, if the session with this client id now belongs to another client
    /// ([`may_take_over`](Self::may_take_over)), if a later connection of the client uses it, or if the access rules
    /// were replaced while the client waited and refuse it.
    pub(crate) fn connect(
        self: &Arc<Self>,
        connect: Connect,
        principal: Arc<Principal>,
        peer: Peer,
        transport: Transport,
        mut ack: ConnAck,
        scratch: &mut Scratch,
    ) -> Result<(Arc<Session>, Arc<Link>), (Transport, Denial)> {
        let granted = connect.session_expiry.min(self.shared.max_session_expiry());
        let mut sessions = self.sessions.lock();
        // Checked while the session list is locked: a change of the rules after this visits the new session, too.
        if let Err(denial) = self.shared.access.is_let_in(&connect, &principal) {
            return Err((transport, denial));
        }
        let mut old = sessions.by_client.get(&connect.client_id).cloned();
        let mut wills = Vec::new();
        let mut left = Vec::new();
        let mut ends_on_disk = false;
        if let Some(session) = &old {
            let mut state = session.state.lock();
            if !self.may_take_over(&state, &principal) {
                return Err((transport, self.session_of_another()));
            }
            // A later connection of the client did not have to wait, and has used the session since.
            if !self.is_latest_connect(&connect.client_id, peer.number) {
                return Err((transport, Reason::SESSION_TAKEN_OVER.into()));
            }
            if let Some(timer) = state.timer.take() {
                timer.abort();
            }
            let link = state.link.take();
            let is_own = self.shared.access.owns(&principal, &state.principal);
            let ends = connect.clean_start || state.expiry == 0 || !is_own;
            if let Some(link) = &link {
                Counters::add(&self.shared.counters.taken_over, 1);
                // At a takeover, a will is published at once if it has no delay or its session ends. Otherwise it is
                // discarded, because the session is resumed before the delay is over (MQTT 5, 3.1.2.5).
                if let Some(will) = state.will.take()
                    && (ends || will.delay == 0)
                {
                    wills.push((will, state.durable));
                }
                state.disconnect();
                state.count_held(&self.shared);
                link.close(Some(Reason::SESSION_TAKEN_OVER));
            } else if let Some(will) = state.will.take()
                // A will without a delay is still there only if its publication waits because its owner's retained
                // messages grow too fast.
                && (ends || will.delay == 0)
            {
                wills.push((will, state.durable));
            }
            if ends {
                left = self.end(session, &mut state, !wills.is_empty(), scratch);
                ends_on_disk = state.durable;
                drop(state);
                sessions.by_key.remove(&session.key);
                old = None;
            }
        } else if !self.is_latest_connect(&connect.client_id, peer.number) {
            return Err((transport, Reason::SESSION_TAKEN_OVER.into()));
        }
        let resumed = old.is_some();
        ack.session_present = resumed;
        let session = old.unwrap_or_else(|| Session::new(self.new_key(), connect.client_id.clone()));
        ack.features = self.shared.features(&principal);
        let greeting = greeting(&session, connect.version, &peer, ack);
        let link = {
            let source: Weak<Session> = Arc::downgrade(&session);
            Link::new(transport, source, (peer, principal.clone()), self.shared.clone(), greeting)
        };
        // CONNACK waits until the end of the old session is on disk. Otherwise a broker that is killed now would have
        // the old session again, and the client would take it for the new one.
        if ends_on_disk {
            link.hold(Ticket::MAX);
        } else if let Some(ticket) = sessions.ended.ticket(&session.client_id, self.shared.durable()) {
            link.hold(ticket);
        }
        sessions.by_client.insert(session.clone());
        sessions.by_key.insert(session.key, session.clone());
        {
            let mut state = session.state.lock();
            let state = &mut *state;
            state.link = Some(link.clone());
            state.count_held(&self.shared);
            state.begin_taking(scratch.now);
            // A session restored from disk is not counted for any owner yet.
            if state.account.is_none() {
                self.count_session(state, &principal, Some(link.peer.address.ip()));
            }
            // Kept when a client reconnects: otherwise it could delay publishers indefinitely by reconnecting.
            if !resumed {
                state.wait_credit = WaitCredit::full(self.shared.limits());
                state.note_checked(self.shared.access.generation());
            }
            state.expiry = granted;
            state.version5 = connect.version == Version::V5;
            state.principal = principal;
            state.will = connect.will.map(|mut will| {
                let Message { topic, properties, asked, .. } = &mut will.message;
                if self.shared.bus.topic(topic).is_some() {
                    let caller = state.principal.caller();
                    caller::stamp(&mut properties.user, caller, None);
                    if properties.response_topic.as_ref().is_some_and(|reply| self.shared.bus.is_reply(reply))
                    {
                        let asker = state.owner().map(|owner| self.shared.grants.asker(owner));
                        *asked = Some(Arc::new(Asked { asker, caller: caller.cloned(), passed_on: None }));
                    }
                }
                will.message = will.message.compact();
                self.shared.wills.hold(will, state.owner().cloned())
            });
            if self.shared.store.is_some() && (granted > 0 || state.durable) {
                state.durable = true;
                scratch.ops.push(save(&session, state, None));
            }
            session.resume(state, &link, scratch);
        }
        // Registered for flushing even if `resume` appended nothing, so that the CONNACK is written.
        link.append(&[], &mut scratch.dirty);
        for (will, durable) in wills {
            self.publish_or_delay_will(will, durable, scratch);
        }
        let ticket = self.pass_on(left, scratch);
        if ends_on_disk {
            sessions.ended.add(&session.client_id, ticket);
            link.hold(ticket);
        }
        drop(sessions);
        Ok((session, link))
    }

    /// Handles the end of a connection. Does nothing if another connection has taken the session over.
    pub(crate) fn disconnect(
        self: &Arc<Self>,
        session: &Arc<Session>,
        link: &Arc<Link>,
        ending: ConnectionEnd,
        scratch: &mut Scratch,
    ) {
        let mut sessions = self.sessions.lock();
        let mut state = session.state.lock();
        if !state.link.as_ref().is_some_and(|l| Arc::ptr_eq(l, link)) {
            return;
        }
        state.disconnect();
        state.since = scratch.now;
        state.count_held(&self.shared);
        // Publishers no longer wait for room in the queue of a disconnected client.
        session.space.notify_waiters();
        let (ConnectionEnd::Normal { expiry } | ConnectionEnd::Lost { expiry }) = ending;
        if let Some(expiry) = expiry {
            state.expiry = expiry.min(self.shared.max_session_expiry());
        }
        if matches!(ending, ConnectionEnd::Normal { .. }) {
            state.will = None;
        }
        let mut left = Vec::new();
        let mut will = None;
        if state.expiry == 0 {
            will = state.will.take();
            left = self.end(session, &mut state, will.is_some(), scratch);
            sessions.by_client.remove(session);
            sessions.by_key.remove(&session.key);
        } else {
            if state.will.as_ref().is_some_and(|w| w.delay == 0) && !self.will_waits(&state, scratch.now) {
                will = state.will.take();
            }
            let now = scratch.now;
            if state.durable {
                scratch.ops.push(save(session, &state, Some(now)));
            }
            self.start_timer(session, &mut state, now);
        }
        let (durable, ended) = (state.durable, state.ended);
        drop(state);
        if let Some(will) = will {
            self.publish_or_delay_will(will, durable, scratch);
        }
        let ticket = self.pass_on(left, scratch);
        if durable && ended {
            sessions.ended.add(&session.client_id, ticket);
        }
        drop(sessions);
    }

    /// Starts the timer for the will delay and the session expiry, both counted from `since` (milliseconds since 1970).
    pub(super) fn start_timer(
        self: &Arc<Self>,
        session: &Arc<Session>,
        state: &mut SessionState,
        since: u64,
    ) {
        let delay = state.will.as_ref().map(|w| w.delay);
        if state.expiry == u32::MAX && delay.is_none() {
            return;
        }
        let (hub, session, expiry) = (self.clone(), session.clone(), state.expiry);
        let left = move |seconds: u32, now: u64| {
            Duration::from_millis((since + u64::from(seconds) * 1000).saturating_sub(now))
        };
        let timer = tokio::spawn(async move {
            // One timer per session, because thousands of sessions may end at the same time.
            if let Some(delay) = delay.filter(|&delay| delay < expiry) {
                sleep(left(delay, hub.shared.clock.now_ms())).await;
                hub.shared.endings.take().await;
                hub.publish_due_will(&session, since);
            }
            if expiry != u32::MAX {
                sleep(left(expiry, hub.shared.clock.now_ms())).await;
                hub.shared.endings.take().await;
                hub.expire(&session);
            }
        });
        state.timer = Some(timer.abort_handle());
    }

    /// Publishes the will of a session whose client disconnected at `since`, unless the client has returned in the
    /// meantime.
    pub(super) fn will_is_due(&self, session: &Arc<Session>, since: u64) {
        let mut scratch = Scratch::at(self.shared.clock.now_ms());
        let sessions = self.sessions.lock();
        let will = {
            let mut state = session.state.lock();
            if state.link.is_some() || state.ended || state.since != since {
                return;
            }
            let will = state.will.take();
            if state.durable && will.is_some() {
                scratch.ops.push(save(session, &state, Some(since)));
            }
            will
        };
        if let Some(will) = will {
            self.router.publish_will(&will, &mut scratch);
        }
        scratch.settle(&self.shared);
        drop(sessions);
        flush_all(&mut scratch.dirty);
    }

    fn expire(self: &Arc<Self>, session: &Arc<Session>) {
        let mut scratch = Scratch::at(self.shared.clock.now_ms());
        let mut sessions = self.sessions.lock();
        let (will, durable, left) = {
            let mut state = session.state.lock();
            if state.link.is_some() || state.ended {
                return;
            }
            Counters::add(&self.shared.counters.expired_sessions, 1);
            let will = state.will.take();
            let left = self.end(session, &mut state, will.is_some(), &mut scratch);
            sessions.by_client.remove(session);
            sessions.by_key.remove(&session.key);
            (will, state.durable, left)
        };
        if let Some(will) = will {
            self.publish_or_delay_will(will, durable, &mut scratch);
        }
        let ticket = self.pass_on(left, &mut scratch);
        if durable {
            sessions.ended.add(&session.client_id, ticket);
        }
        drop(sessions);
        flush_all(&mut scratch.dirty);
    }

    /// Ends the session of a client on behalf of an administrator, and its connection, if there is one, with reason
    /// code 0x98. Its will is published, as always when a session ends.
    pub(crate) fn drop_session(self: &Arc<Self>, client_id: &str) -> EndResult {
        let mut scratch = Scratch::at(self.shared.clock.now_ms());
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.by_client.get(client_id).cloned() else { return EndResult::None };
        let (will, durable, left) = {
            let mut state = session.state.lock();
            if state.principal.local {
                return EndResult::Own;
            }
            if let Some(timer) = state.timer.take() {
                timer.abort();
            }
            if let Some(link) = state.link.take() {
                state.disconnect();
                link.close(Some(Reason::ADMINISTRATIVE_ACTION));
            }
            let will = state.will.take();
            let left = self.end(&session, &mut state, will.is_some(), &mut scratch);
            sessions.by_client.remove(&session);
            sessions.by_key.remove(&session.key);
            (will, state.durable, left)
        };
        if let Some(will) = will {
            self.publish_or_delay_will(will, durable, &mut scratch);
        }
        let ticket = self.pass_on(left, &mut scratch);
        if durable {
            sessions.ended.add(&session.client_id, ticket);
        }
        drop(sessions);
        flush_all(&mut scratch.dirty);
        EndResult::Ended
    }

    /// Ends a session; `will` decides whether its will is published. Returns the unacknowledged messages of its shared
    /// subscriptions.
    fn end(
        &self,
        session: &Arc<Session>,
        state: &mut SessionState,
        will: bool,
        scratch: &mut Scratch,
    ) -> Vec<(ByteString, Arc<Message>)> {
        state.ended = true;
        let filters = std::mem::take(&mut state.subscriptions);
        self.router.unsubscribe_all(filters, session.key, state.owner().cloned());
        state.subscription_bytes = 0;
        state.count_held(&self.shared);
        self.forget_session(state);
        session.space.notify_waiters();
        let left = state.take_shared(&self.shared.bus);
        if state.durable {
            let leaves = will || !left.is_empty();
            scratch.ops.push(Op::DeleteSession { key: session.key, leaves });
        }
        left
    }
}

impl Hub {
    /// Passes the unacknowledged messages of an ended session on to the other members of its shared groups, and passes
    /// `scratch` to the store. Yields in between if there are many. Returns the ticket of the commit. With a store,
    /// all are passed on without yielding, because they belong in the commit that deletes the session's record.
    fn pass_on(self: &Arc<Self>, mut left: Vec<(ByteString, Arc<Message>)>, scratch: &mut Scratch) -> Ticket {
        if left.len() <= MESSAGES_PER_TURN || self.shared.store.is_some() {
            return self.router.pass_on(left, scratch);
        }
        let mut rest = left.split_off(MESSAGES_PER_TURN).into_iter();
        let ticket = self.router.pass_on(left, scratch);
        let hub = self.clone();
        tokio::spawn(async move {
            while rest.len() > 0 {
                tokio::task::yield_now().await;
                let mut scratch = Scratch::at(hub.shared.clock.now_ms());
                hub.router.pass_on(rest.by_ref().take(MESSAGES_PER_TURN).collect(), &mut scratch);
                flush_all(&mut scratch.dirty);
            }
        });
        ticket
    }
}

/// Encodes the CONNACK. Its user property `rantai` lists the bus features of this broker; for a resumed session,
/// `messages-dropped` is the number of dropped messages. Both are left out if the packet would exceed the client's
/// maximum packet size.
fn greeting(session: &Session, version: Version, peer: &Peer, mut ack: ConnAck) -> Vec<u8> {
    let mut greeting = Vec::new();
    let mut state = session.state.lock();
    ack.dropped = if ack.session_present && version == Version::V5 { state.report_dropped() } else { 0 };
    codec::connack(version, ack.clone(), &mut greeting);
    let too_large = |greeting: &[u8]| greeting.len() > peer.packet_maximum as usize;
    if ack.dropped > 0 && too_large(&greeting) {
        greeting.clear();
        state.mark_unreported(ack.dropped);
        ack.dropped = 0;
        codec::connack(version, ack.clone(), &mut greeting);
    }
    if too_large(&greeting) {
        greeting.clear();
        codec::connack(version, ConnAck { features: "", ..ack }, &mut greeting);
    }
    greeting
}
