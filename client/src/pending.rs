//! Calls under way, by their correlation. No I/O.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::session::{Message, Unsent};
use crate::wire::accepted::Accepted;
use crate::wire::name::ObjectName;

/// Replies of one call that may wait to be collected.
const COLLECTED: usize = 4_096;
/// Their payloads together, in bytes. Of one that is larger the first waits all the same.
const COLLECTED_BYTES: usize = 16 << 20;

/// What comes for a call.
#[derive(Debug)]
pub(crate) enum Arrived {
    Reply(Message),
    /// The request did not reach anybody.
    Failed(Unsent),
}

impl Arrived {
    fn bytes(&self) -> usize {
        match self {
            Self::Reply(message) => message.payload.len(),
            Self::Failed(_) => 0,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    /// The object that was called: a reply comes on the topic that the request named, and on no other.
    object: ObjectName,
    sink: ReplySink,
    /// The node that has said last that it carries the call out.
    accepted: Option<Arc<Accepted>>,
    /// Who is told that another node says so.
    told: Option<Arc<Notify>>,
}

impl Waiting {
    fn new(object: ObjectName, sink: ReplySink) -> Self {
        Self { object, sink, accepted: None, told: None }
    }
}

#[derive(Debug)]
enum ReplySink {
    One(oneshot::Sender<Arrived>),
    Many(Collecting),
}

/// Where the replies of one call go.
#[derive(Debug)]
struct Collecting {
    sender: mpsc::Sender<Arrived>,
    /// Bytes of payload that wait.
    waiting: Arc<AtomicUsize>,
}

impl Collecting {
    /// Hands a reply over; false where there is no room for it, or nobody.
    fn send(&self, arrived: Arrived) -> bool {
        let bytes = arrived.bytes();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let sent =
            (before == 0 || before + bytes <= COLLECTED_BYTES) && self.sender.try_send(arrived).is_ok();
        if !sent {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }
}

/// The replies of one call, in their order.
#[derive(Debug)]
pub(crate) struct Collected {
    receiver: mpsc::Receiver<Arrived>,
    waiting: Arc<AtomicUsize>,
}

impl Collected {
    /// The next one; `None` when the client has ended. Cancelling loses nothing.
    pub(crate) async fn recv(&mut self) -> Option<Arrived> {
        let arrived = self.receiver.recv().await?;
        self.waiting.fetch_sub(arrived.bytes(), Ordering::Relaxed);
        Some(arrived)
    }
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    calls: Mutex<HashMap<u128, Waiting>>,
}

/// A place in the table, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    pending: Arc<Pending>,
    key: u128,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pending.calls.lock().remove(&self.key);
    }
}

impl Pending {
    /// A place for one reply of `object`.
    pub(crate) fn one(
        self: &Arc<Self>,
        key: u128,
        object: ObjectName,
    ) -> (Ticket, oneshot::Receiver<Arrived>) {
        let (sender, receiver) = oneshot::channel();
        self.calls.lock().insert(key, Waiting::new(object, ReplySink::One(sender)));
        (Ticket { pending: self.clone(), key }, receiver)
    }

    /// A place for any number of replies of `object`.
    pub(crate) fn many(self: &Arc<Self>, key: u128, object: ObjectName) -> (Ticket, Collected) {
        let (sender, receiver) = mpsc::channel(COLLECTED);
        let waiting = Arc::new(AtomicUsize::new(0));
        let collecting = Collecting { sender, waiting: waiting.clone() };
        self.calls.lock().insert(key, Waiting::new(object, ReplySink::Many(collecting)));
        (Ticket { pending: self.clone(), key }, Collected { receiver, waiting })
    }

    /// Hands a reply over that came on the reply topic of `object`; false where nobody waits for it there.
    pub(crate) fn replied(&self, key: u128, object: &str, message: Message) -> bool {
        let is_expected = self.calls.lock().get(&key).is_some_and(|call| call.object.as_str() == object);
        is_expected && self.arrived(key, Arrived::Reply(message))
    }

    /// A node says that it carries a call out.
    pub(crate) fn accepted(&self, key: u128, accepted: Accepted) {
        let mut calls = self.calls.lock();
        let Some(call) = calls.get_mut(&key) else { return };
        call.accepted = Some(Arc::new(accepted));
        if let Some(told) = &call.told {
            told.notify_one();
        }
    }

    /// The node that carries a call out, as far as one has said so.
    pub(crate) fn accepted_by(&self, key: u128) -> Option<Arc<Accepted>> {
        self.calls.lock().get(&key)?.accepted.clone()
    }

    /// Tells of each node that says from now on that it carries a call out.
    pub(crate) fn told_of_acceptance(&self, key: u128) -> Arc<Notify> {
        let told = Arc::new(Notify::new());
        if let Some(call) = self.calls.lock().get_mut(&key) {
            call.told = Some(told.clone());
        }
        told
    }

    /// Ends the wait of a call, or hands one of its replies over; false where nobody waits for it.
    pub(crate) fn arrived(&self, key: u128, arrived: Arrived) -> bool {
        let mut calls = self.calls.lock();
        match calls.get(&key).map(|call| &call.sink) {
            None => false,
            Some(ReplySink::Many(collecting)) => collecting.send(arrived),
            Some(ReplySink::One(_)) => {
                let removed = calls.remove(&key).map(|call| call.sink);
                drop(calls);
                let Some(ReplySink::One(sender)) = removed else { return false };
                sender.send(arrived).is_ok()
            }
        }
    }

    /// The connection is gone, and with it every reply that would have come on it.
    pub(crate) fn disconnected(&self) {
        let mut lost: Vec<u128> = self.calls.lock().keys().copied().collect();
        // In the order of their ids, which is that of the calls, instead of that of the table.
        lost.sort_unstable();
        for key in lost {
            self.arrived(key, Arrived::Failed(Unsent::Lost));
        }
    }

    /// How many calls are under way.
    pub(crate) fn len(&self) -> usize {
        self.calls.lock().len()
    }
}

/// The key of a reply: correlation data of 16 bytes, as every request of ours has it.
pub(crate) fn key(correlation: Option<&[u8]>) -> Option<u128> {
    Some(u128::from_be_bytes(correlation?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> ObjectName {
        ObjectName::new("pages").expect("a name")
    }

    fn failed() -> Arrived {
        Arrived::Failed(Unsent::Lost)
    }

    #[test]
    fn a_call_gets_one_reply_and_its_place_is_given_back() {
        let pending = Arc::new(Pending::default());
        let (ticket, mut reply) = pending.one(7, object());
        let (dropped, _) = pending.one(8, object());
        assert_eq!(pending.len(), 2);
        drop(dropped);
        assert!(!pending.arrived(8, failed()), "nobody waits any more");
        assert!(pending.arrived(7, failed()));
        assert!(!pending.arrived(7, failed()), "a second reply has nobody to go to");
        assert!(reply.try_recv().is_ok());
        drop(ticket);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn a_call_to_everybody_collects_until_it_is_dropped_and_is_bounded() {
        let pending = Arc::new(Pending::default());
        let (ticket, mut replies) = pending.many(7, object());
        for _ in 0..COLLECTED {
            assert!(pending.arrived(7, failed()));
        }
        assert!(!pending.arrived(7, failed()), "full");
        assert!(replies.receiver.try_recv().is_ok());
        assert!(pending.arrived(7, failed()));
        drop(ticket);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn what_would_have_been_answered_ends_with_the_connection() {
        let pending = Arc::new(Pending::default());
        let (_sent, mut ended) = pending.one(7, object());
        let (_all, mut collected) = pending.many(9, object());
        pending.disconnected();
        assert!(matches!(ended.try_recv(), Ok(Arrived::Failed(Unsent::Lost))));
        assert!(matches!(collected.receiver.try_recv(), Ok(Arrived::Failed(Unsent::Lost))));
    }

    #[test]
    fn only_sixteen_bytes_are_a_key_of_ours() {
        assert_eq!(key(Some(&[0; 15])), None);
        assert_eq!(key(None), None);
        let mut bytes = [0; 16];
        bytes[15] = 9;
        assert_eq!(key(Some(&bytes)), Some(9));
    }
}
