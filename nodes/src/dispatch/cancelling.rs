//! Cancellation of running calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rantai_client::object::Canceller;
use rantai_client::wire::request::{MIN_IDENTITY_BYTES, ReplyTo, Request};
use rantai_client::wire::topic::ReplyTopic;
use rantai_client::wire::user::User;
use tokio::sync::Notify;

use super::replies::Route;

/// Key by which a call is cancelled. A node that forwards a request has the caller's reply topic and correlation too,
/// but another `via`: so it can cancel only calls that it sent itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct CancelKey {
    reply_to: ReplyTopic,
    correlation: Bytes,
    via: Option<User>,
}

impl CancelKey {
    /// Returns the key of a call with this reply topic; `None` if the call cannot be cancelled.
    pub(super) fn new(reply_to: &ReplyTo, correlation: &Bytes, via: Option<&User>) -> Option<Self> {
        let ReplyTo::Topic(topic) = reply_to else { return None };
        // A shorter correlation could be guessed by others.
        (correlation.len() >= MIN_IDENTITY_BYTES).then(|| Self {
            reply_to: topic.clone(),
            correlation: correlation.clone(),
            via: via.cloned(),
        })
    }

    /// Returns the keys of the calls with this correlation that a request may refer to: those with the same `via`, and
    /// those that its own user has sent on behalf of others.
    pub(super) fn of_request(request: &Request, correlation: &Bytes) -> impl Iterator<Item = Self> {
        let sender = request.via.as_ref().or(request.caller.as_ref());
        let key = |via| Self::new(&request.reply_to, correlation, via);
        [key(request.via.as_ref()), key(sender)].into_iter().flatten()
    }

    /// Returns the key of a call with this route.
    pub(super) fn of(route: &Route, via: Option<&User>) -> Option<Self> {
        Self::new(&route.reply_to, route.correlation.as_ref()?, via)
    }
}

/// Waiting calls of one object that may be cancelled.
#[derive(Debug, Default)]
pub(super) struct Cancellables(HashMap<CancelKey, Arc<Cancellable>>);

impl Cancellables {
    pub(super) fn insert(&mut self, key: CancelKey, call: Arc<Cancellable>) {
        self.0.insert(key, call);
    }

    pub(super) fn get(&self, key: &CancelKey) -> Option<Arc<Cancellable>> {
        self.0.get(key).cloned()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes a call that has ended, unless another one has its key.
    pub(super) fn remove(&mut self, key: &CancelKey, call: &Arc<Cancellable>) {
        if self.0.get(key).is_some_and(|there| Arc::ptr_eq(there, call)) {
            self.0.remove(key);
        }
    }

    /// Ends the call with this key because its node ends.
    pub(super) fn leave(&self, key: &CancelKey) {
        if let Some(call) = self.0.get(key) {
            call.leave();
        }
    }

    /// Ends all calls because their node ends, in the order of their keys, so that a simulation is repeatable.
    pub(super) fn leave_all(&self) {
        for (_, call) in in_order(self.0.iter()) {
            call.leave();
        }
    }

    /// Returns the calls that end when nobody subscribes to this reply topic any more, in the order of their keys.
    pub(super) fn unheard(&self, topic: &ReplyTopic) -> Vec<Arc<Cancellable>> {
        let calls = self.0.iter().filter(|(key, call)| call.ends_unheard() && key.reply_to == *topic);
        in_order(calls).into_iter().map(|(_, call)| call.clone()).collect()
    }
}

fn in_order<'a, T>(calls: impl Iterator<Item = (&'a CancelKey, T)>) -> Vec<(&'a CancelKey, T)> {
    let mut calls: Vec<_> = calls.collect();
    calls.sort_unstable_by_key(|(key, _)| *key);
    calls
}

/// Waiting call, which either ends with its result or is cancelled, whichever comes first.
#[derive(Debug)]
pub(super) struct Cancellable {
    /// Whether it has ended or was cancelled.
    is_decided: AtomicBool,
    /// Whether it ends because its node ends.
    leaves: AtomicBool,
    canceller: Canceller,
    cancelled: Notify,
    /// Whether it is marked `once`: if it were interrupted, a repeat would find its outcome unknown.
    once: bool,
}

impl Cancellable {
    pub(super) fn new(canceller: Canceller, once: bool) -> Self {
        Self {
            is_decided: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            canceller,
            cancelled: Notify::new(),
            once,
        }
    }

    /// Cancels the call with -32008; returns whether it was still running.
    pub(super) fn cancel(&self) -> bool {
        if self.is_decided.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.canceller.cancel();
        self.cancelled.notify_one();
        true
    }

    /// Ends the call because its node ends, unless it is marked `once`: a repeat would find its outcome unknown.
    fn leave(&self) {
        if !self.once {
            self.leaves.store(true, Ordering::Release);
            self.cancel();
        }
    }

    /// Returns whether it was cancelled because its node ends.
    pub(super) fn leaves(&self) -> bool {
        self.leaves.load(Ordering::Acquire)
    }

    /// Cancels the call because nobody waits for its reply any more. One marked `once` is notified, and continues.
    /// Returns whether it was still running.
    pub(super) fn unheard(&self) -> bool {
        if !self.once {
            return self.cancel();
        }
        if self.is_decided.load(Ordering::Acquire) {
            return false;
        }
        self.canceller.cancel();
        true
    }

    /// Returns whether it ends when nobody waits for its reply any more.
    pub(super) fn ends_unheard(&self) -> bool {
        !self.once
    }

    /// Waits until it is cancelled.
    pub(super) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }

    /// Marks it as ended. Returns whether its result counts, because it was not cancelled before.
    pub(super) fn ended(&self) -> bool {
        !self.is_decided.swap(true, Ordering::AcqRel)
    }

    /// Marks it as ended by its deadline.
    pub(super) fn timed_out(&self) {
        self.canceller.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Ends and cancels a call at the same time, many times: exactly one of the two succeeds.
    #[test]
    fn a_call_is_answered_or_cancelled_and_never_both() {
        for once in [false, true] {
            for _ in 0..1_000 {
                let call = Cancellable::new(Canceller::default(), once);
                let [cancelled, ended] = thread::scope(|scope| {
                    let cancelling = scope.spawn(|| call.cancel());
                    let ending = scope.spawn(|| call.ended());
                    [cancelling, ending].map(|thread| thread.join().expect("no panic"))
                });
                assert!(cancelled != ended);
                assert!(!call.cancel() && !call.unheard(), "it is over");
            }
        }
    }

    #[test]
    fn once_call_is_notified_of_cancellation_and_still_answers() {
        let call = Cancellable::new(Canceller::default(), true);
        assert!(!call.ends_unheard() && call.unheard() && call.canceller.is_cancelled());
        assert!(call.ended(), "its result counts");
        let call = Cancellable::new(Canceller::default(), false);
        assert!(call.ends_unheard() && call.unheard() && !call.ended());
    }
}
