//! Pending calls by correlation data. No I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::session::{Message, Unsent};
use crate::wire::accepted::Accepted;
use crate::wire::json;
use crate::wire::name::ObjectName;

/// Limit of replies queued for one call with several replies.
const MAX_COLLECTED: usize = 4_096;
/// Limit of their payloads together, in bytes. A larger reply is queued if the queue is empty.
const MAX_COLLECTED_BYTES: usize = 16 << 20;

/// Result of waiting for a reply.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each reply")]
pub(crate) enum Arrived {
    Reply(Message),
    /// The request was not delivered, or the connection was lost.
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
    /// The called object. Replies are accepted on its reply topic only.
    object: ObjectName,
    sink: ReplySink,
    /// The node that accepted the call last.
    accepted: Option<Arc<Accepted>>,
    /// Notified when a node accepts the call.
    on_accepted: Option<Arc<Notify>>,
}

impl Waiting {
    fn new(object: ObjectName, sink: ReplySink) -> Self {
        Self { object, sink, accepted: None, on_accepted: None }
    }
}

#[derive(Debug)]
enum ReplySink {
    One(oneshot::Sender<Arrived>),
    Many(Collecting),
}

/// Bounded queue for the replies of one call.
#[derive(Debug)]
struct Collecting {
    sender: mpsc::Sender<Arrived>,
    /// Queued payload bytes.
    waiting: Arc<AtomicUsize>,
}

impl Collecting {
    /// Queues a reply. Returns false if the queue is full or its receiver was dropped.
    fn send(&self, arrived: Arrived) -> bool {
        let bytes = arrived.bytes();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let sent =
            (before == 0 || before + bytes <= MAX_COLLECTED_BYTES) && self.sender.try_send(arrived).is_ok();
        if !sent {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }
}

/// Receiver for the replies of one call, in order of arrival.
#[derive(Debug)]
pub(crate) struct Collected {
    receiver: mpsc::Receiver<Arrived>,
    waiting: Arc<AtomicUsize>,
}

impl Collected {
    /// Receives the next reply; `None` after the client has shut down. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Option<Arrived> {
        let arrived = self.receiver.recv().await?;
        self.waiting.fetch_sub(arrived.bytes(), Ordering::Relaxed);
        Some(arrived)
    }
}

/// Table of pending calls.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    calls: Mutex<HashMap<u128, Waiting>>,
}

/// Entry in the table. Dropping it removes the entry.
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
    /// Registers a call with one reply from `object`.
    pub(crate) fn one(
        self: &Arc<Self>,
        key: u128,
        object: ObjectName,
    ) -> (Ticket, oneshot::Receiver<Arrived>) {
        let (sender, receiver) = oneshot::channel();
        self.calls.lock().insert(key, Waiting::new(object, ReplySink::One(sender)));
        (Ticket { pending: self.clone(), key }, receiver)
    }

    /// Registers a call with several replies from `object`.
    pub(crate) fn many(self: &Arc<Self>, key: u128, object: ObjectName) -> (Ticket, Collected) {
        let (sender, receiver) = mpsc::channel(MAX_COLLECTED);
        let waiting = Arc::new(AtomicUsize::new(0));
        let collecting = Collecting { sender, waiting: waiting.clone() };
        self.calls.lock().insert(key, Waiting::new(object, ReplySink::Many(collecting)));
        (Ticket { pending: self.clone(), key }, Collected { receiver, waiting })
    }

    /// Delivers a reply from the reply topic of `object`. Returns false if no call is waiting for it there.
    pub(crate) fn replied(&self, key: u128, object: &str, message: Message) -> bool {
        let is_expected = self.calls.lock().get(&key).is_some_and(|call| call.object.as_str() == object);
        is_expected && self.arrived(key, Arrived::Reply(message))
    }

    /// Records that a node has accepted a call, unless a later link of the chain has.
    pub(crate) fn accepted(&self, key: u128, accepted: Accepted) {
        let mut calls = self.calls.lock();
        let Some(call) = calls.get_mut(&key) else { return };
        if call.accepted.as_ref().is_some_and(|before| !accepted.supersedes(before)) {
            return;
        }
        call.accepted = Some(Arc::new(accepted));
        if let Some(on_accepted) = &call.on_accepted {
            on_accepted.notify_one();
        }
    }

    /// Returns the node that accepted a call last.
    pub(crate) fn accepted_by(&self, key: u128) -> Option<Arc<Accepted>> {
        self.calls.lock().get(&key)?.accepted.clone()
    }

    /// Returns a `Notify` that fires when a node accepts the call.
    pub(crate) fn on_accepted(&self, key: u128) -> Arc<Notify> {
        let on_accepted = Arc::new(Notify::new());
        if let Some(call) = self.calls.lock().get_mut(&key) {
            call.on_accepted = Some(on_accepted.clone());
        }
        on_accepted
    }

    /// Completes a call with one reply, or queues a reply of one with several. Returns false if nothing waits for it.
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

    /// Fails every pending call, because replies are not delivered after the connection was lost.
    pub(crate) fn disconnected(&self) {
        let mut lost: Vec<u128> = self.calls.lock().keys().copied().collect();
        // In the order of their ids, which is the order of the calls.
        lost.sort_unstable();
        for key in lost {
            self.arrived(key, Arrived::Failed(Unsent::Lost));
        }
    }

    /// Returns the number of pending calls.
    pub(crate) fn len(&self) -> usize {
        self.calls.lock().len()
    }
}

/// Returns the key for correlation data; `None` unless it has 16 bytes, like that of every request of this client.
pub(crate) fn key(correlation: Option<&[u8]>) -> Option<u128> {
    Some(u128::from_be_bytes(correlation?.try_into().ok()?))
}

/// Returns the key for a reply: that of its correlation data, or, if it has none, the one in the `id` of a JSON-RPC response.
pub(crate) fn reply_key(message: &Message) -> Option<u128> {
    if message.properties.correlation.is_some() {
        return key(message.properties.correlation.as_deref());
    }
    let response = json::read(&message.payload).ok()?;
    let id = response.get("id")?.as_str().filter(|id| id.len() == 32)?;
    u128::from_str_radix(id, 16).ok()
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
    fn call_gets_one_reply_and_its_entry_is_removed() {
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
    fn call_of_all_instances_queues_replies_within_limits_until_dropped() {
        let pending = Arc::new(Pending::default());
        let (ticket, mut replies) = pending.many(7, object());
        for _ in 0..MAX_COLLECTED {
            assert!(pending.arrived(7, failed()));
        }
        assert!(!pending.arrived(7, failed()), "full");
        assert!(replies.receiver.try_recv().is_ok());
        assert!(pending.arrived(7, failed()));
        drop(ticket);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn pending_calls_fail_when_the_connection_is_lost() {
        let pending = Arc::new(Pending::default());
        let (_sent, mut ended) = pending.one(7, object());
        let (_all, mut collected) = pending.many(9, object());
        pending.disconnected();
        assert!(matches!(ended.try_recv(), Ok(Arrived::Failed(Unsent::Lost))));
        assert!(matches!(collected.receiver.try_recv(), Ok(Arrived::Failed(Unsent::Lost))));
    }

    #[test]
    fn only_correlations_of_16_bytes_are_keys() {
        assert_eq!(key(Some(&[0; 15])), None);
        assert_eq!(key(None), None);
        let mut bytes = [0; 16];
        bytes[15] = 9;
        assert_eq!(key(Some(&bytes)), Some(9));
    }
}
