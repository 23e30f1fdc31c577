//! How sessions begin, are resumed, taken over, and end.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::clock::now_ms;
use crate::codec::{self, ConnAck, Connect, Options, Reason, RetainHandling, Version, Will};
use crate::counters::Counters;
use crate::hub::Hub;
use crate::link::{Link, Peer, flush_all};
use crate::message::Message;
use crate::session::{Scratch, Session, State};
use crate::store::{Op, SessionRecord, Snapshot, StoreError, SubscriptionRecord, WillRecord};
use crate::subscriptions::Subscription;

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// DISCONNECT 0x00: the will is forgotten. With a new session expiry, in seconds, where it carried one.
    Normal { expiry: Option<u32> },
    /// Anything else: the will is published.
    Lost { expiry: Option<u32> },
}

impl Hub {
    /// Lets a client in: resumes its session or begins one, and ends its earlier connection.
    pub(crate) fn connect(
        self: &Arc<Self>,
        connect: Connect,
        peer: Peer,
        stream: TcpStream,
        mut ack: ConnAck,
        scratch: &mut Scratch,
    ) -> Arc<Link> {
        let granted = connect.session_expiry.min(self.longest_expiry());
        let mut sessions = self.sessions.lock();
        let mut old = sessions.by_client.get(&connect.client_id).cloned();
        let mut wills = Vec::new();
        let mut left = Vec::new();
        if let Some(session) = &old {
            let mut state = session.state.lock();
            if let Some(timer) = state.timer.take() {
                timer.abort();
            }
            let link = state.link.take();
            let ends = connect.clean_start || state.expiry == 0;
            if let Some(link) = &link {
                Counters::add(&self.counters.taken_over, 1);
                // The will of a connection that is taken over: at once where it has no delay or its session
                // ends, else not at all, as the session is resumed before the delay is over (MQTT 5, 3.1.2.5).
                if let Some(will) = state.will.take()
                    && (ends || will.delay == 0)
                {
                    wills.push(will);
                }
                state.disconnect();
                link.close(Some(Reason::SESSION_TAKEN_OVER));
            } else if let Some(will) = state.will.take()
                && ends
            {
                wills.push(will);
            }
            if ends {
                left = self.end(session, &mut state);
                drop(state);
                sessions.by_key.remove(&session.key);
                old = None;
            }
        }
        ack.session_present = old.is_some();
        let session = old.unwrap_or_else(|| Session::new(self.new_key(), connect.client_id.clone()));
        let mut greeting = Vec::new();
        codec::connack(connect.version, ack, &mut greeting);
        let link = Link::new(stream, session.clone(), peer, self.clone(), greeting);
        sessions.by_client.insert(connect.client_id, session.clone());
        if self.store.is_some() {
            sessions.by_key.insert(session.key, session.clone());
        }
        {
            let mut state = session.state.lock();
            let state = &mut *state;
            drop(sessions);
            state.link = Some(link.clone());
            state.wait_credit = self.config.limits.publish_wait;
            state.expiry = granted;
            state.version5 = connect.version == Version::V5;
            state.user_name = connect.user_name;
            state.will = connect.will.map(Box::new);
            if let Some(message) = state.will.as_mut().map(|w| &mut w.message) {
                self.stamp_caller(message, state.user_name.as_ref(), &session.client_id);
                *message = message.compact();
            }
            if self.store.is_some() && (granted > 0 || state.durable) {
                state.durable = true;
                self.put([save(&session, state, None)], None);
            }
            session.resume(state, &link, scratch);
        }
        // Listed even where `resume` had nothing to add: the CONNACK is to be written.
        link.append(&[], &mut scratch.dirty);
        for will in wills {
            self.publish_will(&will, scratch);
        }
        self.pass_on(left, scratch);
        self.settle(scratch);
        link
    }

    /// Seconds a session may outlive its connection.
    pub(crate) fn longest_expiry(&self) -> u32 {
        self.config.limits.session_expiry.as_secs().try_into().unwrap_or(u32::MAX)
    }

    /// A connection is over. Nothing happens where another one has taken its session over.
    pub(crate) fn disconnect(self: &Arc<Self>, link: &Arc<Link>, ending: Ending, scratch: &mut Scratch) {
        let session = &link.session;
        let mut sessions = self.sessions.lock();
        let mut state = session.state.lock();
        if !state.link.as_ref().is_some_and(|l| Arc::ptr_eq(l, link)) {
            return;
        }
        state.disconnect();
        // Nobody is to wait for room in the queue of a client that is gone.
        session.space.notify_waiters();
        let (Ending::Normal { expiry } | Ending::Lost { expiry }) = ending;
        if let Some(expiry) = expiry {
            state.expiry = expiry.min(self.longest_expiry());
        }
        if matches!(ending, Ending::Normal { .. }) {
            state.will = None;
        }
        let mut left = Vec::new();
        let mut will = None;
        if state.expiry == 0 {
            will = state.will.take();
            left = self.end(session, &mut state);
            remove(&mut sessions.by_client, session);
            sessions.by_key.remove(&session.key);
        } else {
            if state.will.as_ref().is_some_and(|w| w.delay == 0) {
                will = state.will.take();
            }
            let now = now_ms();
            if state.durable {
                self.put([save(session, &state, Some(now))], None);
            }
            self.start_timer(session, &mut state, now);
        }
        drop(state);
        drop(sessions);
        if let Some(will) = will {
            self.publish_will(&will, scratch);
        }
        self.pass_on(left, scratch);
        self.settle(scratch);
    }

    /// Waits for the will's delay and for the session's end, counted from `since`.
    fn start_timer(self: &Arc<Self>, session: &Arc<Session>, state: &mut State, since: u64) {
        let delay = state.will.as_ref().map(|w| w.delay);
        if state.expiry == u32::MAX && delay.is_none() {
            return;
        }
        let (hub, session, expiry) = (self.clone(), session.clone(), state.expiry);
        let until = move |seconds: u32| {
            Duration::from_millis((since + u64::from(seconds) * 1000).saturating_sub(now_ms()))
        };
        let timer = tokio::spawn(async move {
            if let Some(delay) = delay.filter(|&delay| delay < expiry) {
                sleep(until(delay)).await;
                hub.will_is_due(&session);
            }
            if expiry != u32::MAX {
                sleep(until(expiry)).await;
                hub.expire(&session);
            }
        });
        state.timer = Some(timer.abort_handle());
    }

    fn will_is_due(&self, session: &Arc<Session>) {
        let will = {
            let mut state = session.state.lock();
            if state.link.is_some() || state.ended {
                return;
            }
            let will = state.will.take();
            if state.durable && will.is_some() {
                self.put([save(session, &state, Some(now_ms()))], None);
            }
            will
        };
        let mut scratch = Scratch::default();
        if let Some(will) = will {
            self.publish_will(&will, &mut scratch);
        }
        flush_all(&mut scratch.dirty);
    }

    fn expire(&self, session: &Arc<Session>) {
        let mut scratch = Scratch::default();
        let (will, left) = {
            let mut sessions = self.sessions.lock();
            let mut state = session.state.lock();
            if state.link.is_some() || state.ended {
                return;
            }
            let will = state.will.take();
            let left = self.end(session, &mut state);
            remove(&mut sessions.by_client, session);
            sessions.by_key.remove(&session.key);
            (will, left)
        };
        if let Some(will) = will {
            self.publish_will(&will, &mut scratch);
        }
        self.pass_on(left, &mut scratch);
        flush_all(&mut scratch.dirty);
    }

    /// Ends a session; what its shared subscriptions leave behind.
    fn end(&self, session: &Arc<Session>, state: &mut State) -> Vec<(ByteString, Arc<Message>)> {
        state.ended = true;
        {
            let mut subscriptions = self.subscriptions.write();
            for filter in state.subscriptions.keys() {
                subscriptions.remove(filter, session.key);
            }
        }
        state.subscriptions = hashbrown::HashMap::new();
        if state.durable {
            self.put([Op::DeleteSession { key: session.key }], None);
        }
        session.space.notify_waiters();
        state.take_shared()
    }

    /// Subscribes a session; whether the filter is new to it.
    pub(crate) fn subscribe(
        &self,
        session: &Arc<Session>,
        filter: &ByteString,
        options: Options,
        identifier: Option<u32>,
        scratch: &mut Scratch,
    ) -> Result<bool, Reason> {
        let mut state = session.state.lock();
        if state.ended {
            return Err(Reason::SESSION_TAKEN_OVER);
        }
        let known = state.subscriptions.contains_key(filter);
        if !known && state.subscriptions.len() >= self.config.limits.subscriptions {
            return Err(Reason::QUOTA_EXCEEDED);
        }
        state.subscriptions.insert(filter.clone(), (options, identifier));
        let subscription = Subscription { session: session.clone(), options, identifier };
        self.subscriptions.write().insert(filter, subscription);
        if state.durable {
            let options = SubscriptionRecord {
                qos: options.qos,
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                retain_handling: options.retain_handling as u8,
                identifier,
            };
            scratch.ops.push(Op::Subscribe { key: session.key, filter: filter.clone(), options });
        }
        Ok(!known)
    }

    /// Ends a subscription; false where there was none.
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
        self.subscriptions.write().remove(filter, session.key);
        if state.durable {
            scratch.ops.push(Op::Unsubscribe { key: session.key, filter: filter.clone() });
        }
        true
    }

    /// Brings back what the store has kept.
    pub(crate) fn restore(self: &Arc<Self>, snapshot: Snapshot) -> Result<(), StoreError> {
        {
            let mut retained = self.retained.write();
            for message in snapshot.retained {
                retained.insert(Arc::new(message?));
            }
        }
        let now = now_ms();
        for stored in snapshot.sessions {
            let session = Session::new(stored.key, stored.record.client_id);
            let mut sessions = self.sessions.lock();
            sessions.by_client.insert(session.client_id.clone(), session.clone());
            sessions.by_key.insert(session.key, session.clone());
            let mut state = session.state.lock();
            state.durable = true;
            state.expiry = stored.record.expiry;
            state.version5 = stored.record.version5;
            state.user_name = stored.record.user_name;
            state.will = stored.record.will.map(|will| {
                let left = will.message.expires.map(|at| at as u32);
                let message = Message { expires: None, ..Message::clone(&will.message) };
                Box::new(Will { message, expiry: left, delay: will.delay })
            });
            state.restore(stored.queue, stored.received);
            for (filter, record) in stored.subscriptions {
                let options = Options {
                    qos: record.qos,
                    no_local: record.no_local,
                    retain_as_published: record.retain_as_published,
                    retain_handling: RetainHandling::from_bits(record.retain_handling).unwrap_or_default(),
                };
                state.subscriptions.insert(filter.clone(), (options, record.identifier));
                let subscription =
                    Subscription { session: session.clone(), options, identifier: record.identifier };
                self.subscriptions.write().insert(&filter, subscription);
            }
            // A broker that was cut off could not say since when its clients are gone: since now.
            let since = stored.record.disconnected.unwrap_or(now);
            self.start_timer(&session, &mut state, since);
        }
        Ok(())
    }
}

fn remove(by_client: &mut hashbrown::HashMap<ByteString, Arc<Session>>, session: &Arc<Session>) {
    if by_client.get(&session.client_id).is_some_and(|s| Arc::ptr_eq(s, session)) {
        by_client.remove(&session.client_id);
    }
}

/// A session's record. The will's Message Expiry Interval, which is seconds from its publication and not a
/// time, stands in the place of the message's expiry.
fn save(session: &Session, state: &State, disconnected: Option<u64>) -> Op {
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
        user_name: state.user_name.clone(),
    };
    Op::SaveSession { key: session.key, record }
}
