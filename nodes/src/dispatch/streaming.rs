//! Streamed results on the node's side: flow control, retransmission.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rantai_client::object::{Arguments, Parts};
use rantai_client::session::Publish;
use rantai_client::wire::Properties;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::reply::Reply;
use rantai_client::wire::request::{ReplyTo, Request};
use rantai_client::wire::stream::{FROM_PROPERTY, LARGEST_CREDIT, MORE_PROPERTY, part_bytes};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::cancelling::CancelKey;
use super::replies::{Replies, Route};

/// Send queue of the node above which streams pause, in bytes.
const BACKLOG: usize = 1 << 20;
/// Minimum interval between retransmissions of one stream.
const RESEND_PAUSE: Duration = Duration::from_millis(250);
/// Maximum number of turns that a stream leaves to other tasks until its first part is written.
const FIRST_PART_TURNS: usize = 64;
/// Interval at which a paused stream checks the send queue.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Unacknowledged bytes of an object's streams above which a stream keeps at most one part in flight.
const MOST_KEPT: u64 = 64 << 20;
/// Limit of ended streams kept per object for retransmission.
const MOST_ENDED: usize = 256;
/// Unacknowledged bytes above which no ended stream is kept.
const MOST_KEPT_ENDED: u64 = 16 << 20;
/// Maximum overhead of a packet besides its payload, in bytes.
const AROUND: usize = 4 << 10;

/// Streams of one object.
#[derive(Default)]
pub(super) struct Streams {
    table: Mutex<Table>,
    /// Unacknowledged bytes of all of them.
    kept: Arc<AtomicU64>,
}

#[derive(Default)]
struct Table {
    /// Running and ended streams.
    by_key: HashMap<CancelKey, Arc<Streaming>>,
    /// Ended streams that are not fully acknowledged, oldest first.
    ended: VecDeque<(CancelKey, Arc<Streaming>)>,
}

impl Table {
    /// Removes a stream, unless its key belongs to another one.
    fn remove(&mut self, key: &CancelKey, stream: &Arc<Streaming>) {
        if self.by_key.get(key).is_some_and(|there| Arc::ptr_eq(there, stream)) {
            self.by_key.remove(key);
        }
        self.ended.retain(|(_, there)| !Arc::ptr_eq(there, stream));
    }
}

impl Streams {
    pub(super) fn insert(&self, key: CancelKey, stream: Arc<Streaming>) {
        self.table.lock().by_key.insert(key, stream);
    }

    /// Called when the call of a stream has ended. A stream with a result is kept for retransmission until its deadline,
    /// within the limits. Returns whether it is kept.
    pub(super) fn ended(&self, key: &CancelKey, stream: &Arc<Streaming>, has_result: bool) -> bool {
        let mut table = self.table.lock();
        let now = Instant::now();
        table.remove(key, stream);
        while let Some((oldest, kept)) = table.ended.front().cloned()
            && (kept.until() <= now
                || table.ended.len() >= MOST_ENDED
                || self.kept.load(Ordering::Relaxed) > MOST_KEPT_ENDED)
        {
            table.remove(&oldest, &kept);
            drop(kept);
        }
        let is_kept = has_result && stream.is_kept();
        if is_kept {
            table.by_key.insert(key.clone(), stream.clone());
            table.ended.push_back((key.clone(), stream.clone()));
        }
        is_kept
    }

    /// Removes an ended stream.
    pub(super) fn forget(&self, key: &CancelKey, stream: &Arc<Streaming>) {
        self.table.lock().remove(key, stream);
    }

    /// Applies `rpc.more`; false if there is no such stream.
    pub(super) fn more(&self, request: &Request, taken: Taken) -> bool {
        let Some((key, stream)) = self.of(request) else { return false };
        stream.more(taken, Duration::from_millis(request.ttl_ms));
        if !stream.is_kept() && stream.has_ended() {
            self.forget(&key, &stream);
        }
        true
    }

    /// Retransmits unacknowledged parts for a repeated request; false if there is no such stream.
    pub(super) fn send_again(&self, request: &Request, route: &Route) -> bool {
        let Some((_, stream)) = self.of(request).filter(|_| request.stream.is_some()) else { return false };
        stream.prolong(route.deadline);
        stream.send_again();
        true
    }

    /// Returns the stream with the reply topic, correlation and `via` of a request.
    fn of(&self, request: &Request) -> Option<(CancelKey, Arc<Streaming>)> {
        let correlation = request.correlation.as_ref()?;
        let table = self.table.lock();
        CancelKey::of_request(request, correlation).find_map(|key| {
            let stream = table.by_key.get(&key)?.clone();
            Some((key, stream))
        })
    }

    /// Returns the keys of all streams that have begun, in their order. A call may ask for a stream and get none.
    pub(super) fn begun(&self) -> Vec<CancelKey> {
        let table = self.table.lock();
        let begun = table.by_key.iter().filter(|(_, stream)| stream.has_begun());
        let mut keys: Vec<_> = begun.map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let table = self.table.lock();
        table.by_key.is_empty() && table.ended.is_empty() && self.kept.load(Ordering::Relaxed) == 0
    }

    /// Creates a stream with an initial credit and a maximum item size, both in bytes.
    pub(super) fn begin(
        &self,
        replies: Arc<Replies>,
        route: Route,
        credit: u64,
        largest: usize,
    ) -> Arc<Streaming> {
        let state = State {
            credit: credit.min(LARGEST_CREDIT),
            sent: 0,
            items: 0,
            has_begun: false,
            until: route.deadline,
            kept: VecDeque::new(),
            resending: false,
            resent: None,
            end: None,
            end_items: 0,
            is_taken: false,
        };
        let largest = largest.min((1 << 20) - AROUND);
        let (state, taken, kept) = (Mutex::new(state), Notify::new(), self.kept.clone());
        Arc::new(Streaming { replies, route, largest, state, taken, kept })
    }
}

/// Result of one call, in parts.
pub(super) struct Streaming {
    replies: Arc<Replies>,
    route: Route,
    /// Maximum item size, in bytes.
    largest: usize,
    state: Mutex<State>,
    /// Notified when the credit grows or a retransmission ends.
    taken: Notify,
    /// Unacknowledged bytes of all streams of the object.
    kept: Arc<AtomicU64>,
}

impl Drop for Streaming {
    fn drop(&mut self) {
        for part in self.state.get_mut().kept.drain(..) {
            self.kept.fetch_sub(part_bytes(&part.payload), Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct State {
    /// Total credit, in bytes.
    credit: u64,
    /// Bytes sent.
    sent: u64,
    /// Items sent.
    items: u64,
    has_begun: bool,
    /// Deadline, extended by `rpc.more`.
    until: Instant,
    /// Parts sent and not acknowledged, for retransmission.
    kept: VecDeque<Kept>,
    /// Whether a retransmission is running; new parts wait for its end to stay in order.
    resending: bool,
    /// Time of the last retransmission.
    resent: Option<Instant>,
    /// Final reply, once the call has ended.
    end: Option<Reply>,
    /// Items of the final reply.
    end_items: u64,
    /// Whether the caller has acknowledged all items.
    is_taken: bool,
}

#[derive(Debug)]
struct Kept {
    from: u64,
    items: u64,
    payload: Bytes,
}

/// Parameters of `rpc.more`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    items: u64,
    bytes: u64,
    again: bool,
}

impl Taken {
    /// Reads `rpc.more(taken, credit, again=false)`.
    ///
    /// # Errors
    ///
    /// Invalid parameters.
    pub(super) fn read(request: &Request) -> Result<Self, Fault> {
        let mut arguments = Arguments::new(request.params.clone(), &["taken", "credit", "again"])?;
        let (items, bytes) = (arguments.take()?, arguments.take()?);
        Ok(Self { items, bytes, again: arguments.take_optional()?.unwrap_or(false) })
    }
}

impl Streaming {
    /// Returns the deadline.
    pub(super) fn until(&self) -> Instant {
        self.state.lock().until
    }

    /// Whether a part was sent.
    pub(super) fn has_begun(&self) -> bool {
        self.state.lock().has_begun
    }

    /// Waits for the deadline, also if it is extended meanwhile.
    pub(super) async fn is_over(&self) {
        loop {
            let until = self.until();
            tokio::time::sleep_until(until).await;
            if self.until() <= until {
                return;
            }
        }
    }

    /// Raises the credit, drops acknowledged parts and extends the deadline by `ttl`.
    pub(super) fn more(self: &Arc<Self>, taken: Taken, ttl: Duration) {
        self.prolong(Instant::now() + ttl);
        let mut state = self.state.lock();
        // Of an end without items, the caller may have taken all items and miss the end.
        state.is_taken = state.end_items > 0 && state.end.is_some() && taken.items >= state.items;
        state.credit = state.credit.max(taken.bytes.min(state.sent + LARGEST_CREDIT));
        while let Some(part) = state.kept.pop_front_if(|part| part.from + part.items <= taken.items) {
            self.kept.fetch_sub(part_bytes(&part.payload), Ordering::Relaxed);
        }
        drop(state);
        if taken.again {
            self.send_again();
        }
        self.taken.notify_waiters();
    }

    /// Extends the deadline.
    fn prolong(&self, until: Instant) {
        let mut state = self.state.lock();
        state.until = state.until.max(until);
    }

    /// Starts a retransmission, unless one is running.
    fn send_again(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.state.lock().resending, true) {
            tokio::spawn(self.clone().resend());
        }
    }

    /// Whether it has ended and is not fully acknowledged.
    fn is_kept(&self) -> bool {
        let state = self.state.lock();
        state.has_begun && state.end.is_some() && !state.is_taken
    }

    fn has_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// Retransmits unacknowledged parts and the final reply, paced by the send queue.
    async fn resend(self: Arc<Self>) {
        let mut next = 0;
        let again = self.state.lock().resent.map(|at| at + RESEND_PAUSE);
        if let Some(again) = again {
            tokio::time::sleep_until(again).await;
        }
        loop {
            while self.replies.out.backlog() > BACKLOG {
                sleep(LOOK_AGAIN).await;
            }
            let (part, end) = {
                let mut state = self.state.lock();
                let part = state.kept.iter().find(|part| part.from >= next && part.items > 0);
                let part = part.map(|part| (part.from, part.items, part.payload.clone()));
                // While locked: the next new part follows the last of these.
                state.resending = part.is_some();
                state.resent = Some(Instant::now());
                (part, state.end.clone())
            };
            let Some((from, items, payload)) = part else {
                if let Some(end) = end {
                    self.replies.publish(&self.route, end);
                }
                break;
            };
            self.publish(from, payload);
            next = from + items;
        }
        self.taken.notify_waiters();
    }

    /// Builds the final reply with the last `items` items.
    pub(super) fn last(&self, payload: Vec<u8>, items: u64) -> Reply {
        let mut state = self.state.lock();
        let from = state.items;
        state.items += items;
        state.end_items = items;
        drop(state);
        let Route { correlation, .. } = &self.route;
        Reply {
            payload: payload.into(),
            correlation: correlation.clone(),
            status: "ok".into(),
            node: self.replies.node.clone(),
            is_binary: false,
            further: vec![(FROM_PROPERTY.into(), from.to_string().into())],
        }
    }

    /// Sends the final reply, behind a running retransmission.
    pub(super) fn end(&self, reply: Reply) {
        let mut state = self.state.lock();
        state.end = Some(reply.clone());
        // The retransmission sends it at its end.
        let is_behind = state.resending;
        drop(state);
        if !is_behind {
            self.replies.publish(&self.route, reply);
        }
    }

    /// Adds the offset to a reply that ends the stream with an error.
    pub(super) fn behind_items(&self, mut reply: Reply) -> Reply {
        let from = self.state.lock().items;
        reply.further.push((FROM_PROPERTY.into(), from.to_string().into()));
        reply
    }

    /// Returns the properties of a part that is not the last.
    fn properties(&self, from: u64) -> Properties {
        let user = vec![
            ("status".to_owned(), "ok".to_owned()),
            ("node".to_owned(), self.replies.node.to_string()),
            (FROM_PROPERTY.to_owned(), from.to_string()),
            (MORE_PROPERTY.to_owned(), "1".to_owned()),
        ];
        Properties { correlation: self.route.correlation.clone(), user, ..Properties::default() }
    }

    fn publish(&self, from: u64, payload: Bytes) {
        let ReplyTo::Topic(topic) = &self.route.reply_to else { return };
        let publish = Publish::new(topic.as_str(), payload).properties(self.properties(from));
        self.replies.say(publish.qos(self.route.qos));
    }

    /// Waits until the connection has taken the first part, which it may do on another thread, before the next part is made.
    async fn until_written(&self) {
        for _ in 0..FIRST_PART_TURNS {
            if self.replies.out.backlog() == 0 {
                return;
            }
            yield_now().await;
        }
    }

    /// Whether the caller has credit left.
    fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.sent < state.credit
    }

    /// Whether the next part must wait although there is credit.
    fn is_held_back(&self) -> bool {
        let state = self.state.lock();
        let is_full = self.kept.load(Ordering::Relaxed) > MOST_KEPT && !state.kept.is_empty();
        state.resending || is_full || self.replies.out.backlog() > BACKLOG
    }
}

impl Parts for Streaming {
    fn largest_item(&self) -> usize {
        self.largest
    }

    fn send(&self, payload: Vec<u8>, items: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                let taken = self.taken.notified();
                tokio::pin!(taken);
                // Enabled before the check, to miss no notification.
                taken.as_mut().enable();
                if !self.has_room() {
                    taken.await;
                } else if self.is_held_back() {
                    sleep(LOOK_AGAIN).await;
                } else {
                    break;
                }
            }
            let payload = Bytes::from(payload);
            let from = {
                let mut state = self.state.lock();
                let from = state.items;
                state.has_begun = true;
                state.items += items;
                state.sent += part_bytes(&payload);
                self.kept.fetch_add(part_bytes(&payload), Ordering::Relaxed);
                state.kept.push_back(Kept { from, items, payload: payload.clone() });
                from
            };
            self.publish(from, payload);
            // Yields, because a stream that is always ready would starve other tasks.
            yield_now().await;
            if from == 0 {
                self.until_written().await;
            }
        })
    }
}
