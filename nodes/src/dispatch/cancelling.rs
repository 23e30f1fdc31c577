//! Calls under way that may be cancelled.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rantai_client::object::Canceller;
use rantai_client::wire::request::{IDENTIFYING, ReplyTo, Request};
use rantai_client::wire::topic::ReplyTopic;
use rantai_client::wire::user::User;
use tokio::sync::Notify;

use super::replies::Route;

/// What a call is cancelled by. Whoever was sent a request and passes it on has the caller's reply topic and correlation, and
/// differs by `via`: it cancels none but its own calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct CancelKey {
    reply_to: ReplyTopic,
    correlation: Bytes,
    via: Option<User>,
}

impl CancelKey {
    /// Of a call whose reply goes there; `None` where nobody could cancel it.
    pub(super) fn new(reply_to: &ReplyTo, correlation: &Bytes, via: Option<&User>) -> Option<Self> {
        let ReplyTo::Topic(topic) = reply_to else { return None };
        // Others may guess a shorter one.
        (correlation.len() >= IDENTIFYING).then(|| Self {
            reply_to: topic.clone(),
            correlation: correlation.clone(),
            via: via.cloned(),
        })
    }

    /// Of the calls that a request may be about whose correlation is this one: those that came by the same `via`, and those that
    /// its own user has sent on behalf of others.
    pub(super) fn of_request(request: &Request, correlation: &Bytes) -> impl Iterator<Item = Self> {
        let sender = request.via.as_ref().or(request.caller.as_ref());
        let key = |via| Self::new(&request.reply_to, correlation, via);
        [key(request.via.as_ref()), key(sender)].into_iter().flatten()
    }

    /// Of a call with this route.
    pub(super) fn of(route: &Route, via: Option<&User>) -> Option<Self> {
        Self::new(&route.reply_to, route.correlation.as_ref()?, via)
    }
}

/// Calls of one object that wait and may be cancelled.
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

    /// Takes a call out that has ended, unless another one has its place.
    pub(super) fn remove(&mut self, key: &CancelKey, call: &Arc<Cancellable>) {
        if self.0.get(key).is_some_and(|there| Arc::ptr_eq(there, call)) {
            self.0.remove(key);
        }
    }

    /// The call of this key ends with its node.
    pub(super) fn leave(&self, key: &CancelKey) {
        if let Some(call) = self.0.get(key) {
            call.leave();
        }
    }

    /// All calls end with their node, in the order of their keys: a simulation repeats it.
    pub(super) fn leave_all(&self) {
        for (_, call) in in_order(self.0.iter()) {
            call.leave();
        }
    }

    /// Calls that end when nobody subscribes to this reply topic any more, in the order of their keys.
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

/// A call that waits for something. It either ends with its result or is cancelled, whichever comes first.
#[derive(Debug)]
pub(super) struct Cancellable {
    /// Whether it has ended, or was cancelled.
    is_decided: AtomicBool,
    /// Whether it ends because its node does.
    leaves: AtomicBool,
    canceller: Canceller,
    cancelled: Notify,
    /// Whether it is marked `once`: where it was cut off in the middle, a repeat would find its outcome unknown.
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

    /// Ends it with -32008. Whether it was still under way.
    pub(super) fn cancel(&self) -> bool {
        if self.is_decided.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.canceller.cancel();
        self.cancelled.notify_one();
        true
    }

    /// Its node ends: so does it, unless it is marked `once`, whose repeat would find its outcome unknown.
    fn leave(&self) {
        if !self.once {
            self.leaves.store(true, Ordering::Release);
            self.cancel();
        }
    }

    /// Whether it was cancelled because its node ends.
    pub(super) fn leaves(&self) -> bool {
        self.leaves.load(Ordering::Acquire)
    }

    /// Nobody waits for its reply any more: it is cancelled. One that is marked `once` is told so, and goes on. Whether it
    /// was still under way.
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

    /// Whether it ends when nobody waits for its reply any more.
    pub(super) fn ends_unheard(&self) -> bool {
        !self.once
    }

    /// Until it is cancelled.
    pub(super) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }

    /// It has ended by itself. Whether its result counts: it was not cancelled before.
    pub(super) fn ended(&self) -> bool {
        !self.is_decided.swap(true, Ordering::AcqRel)
    }

    /// Its time was over.
    pub(super) fn timed_out(&self) {
        self.canceller.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Ends and is cancelled at the same time, many times: one of the two holds.
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
    fn what_is_carried_out_once_is_told_and_still_answers() {
        let call = Cancellable::new(Canceller::default(), true);
        assert!(!call.ends_unheard() && call.unheard() && call.canceller.is_cancelled());
        assert!(call.ended(), "its result counts");
        let call = Cancellable::new(Canceller::default(), false);
        assert!(call.ends_unheard() && call.unheard() && !call.ended());
    }
}
