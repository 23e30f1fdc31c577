//! Results that go out in parts, as their callers take them.

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
use rantai_client::wire::stream::{FROM, LARGEST_CREDIT, MORE, part_bytes};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::cancelling::CancelKey;
use super::replies::{Replies, Route};

/// From this many unwritten bytes of its node on no stream sends more.
const BACKLOG: usize = 1 << 20;
/// A caller that asks for everything again and again gets it this often.
const RESEND_PAUSE: Duration = Duration::from_millis(250);
/// How long a stream waits before it looks at the unwritten bytes again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Bytes that the streams of one object keep for callers that have not taken them. Above it a stream keeps one part.
const MOST_KEPT: u64 = 64 << 20;
/// Streams of one object that have ended and are kept for callers that have not taken all.
const MOST_ENDED: usize = 256;
/// Bytes that all streams keep, above which none that has ended is kept.
const MOST_KEPT_ENDED: u64 = 16 << 20;
/// What stands around a payload in a packet of 1 MiB, at most.
const AROUND: usize = 4 << 10;

/// The streams of one object.
#[derive(Default)]
pub(super) struct Streams {
    table: Mutex<Table>,
    /// Bytes that all of them keep.
    kept: Arc<AtomicU64>,
}

#[derive(Default)]
struct Table {
    /// By what their callers take more by.
    by_key: HashMap<CancelKey, Arc<Streaming>>,
    /// Those that have ended and whose callers have not taken all, the oldest first.
    ended: VecDeque<(CancelKey, Arc<Streaming>)>,
}

impl Table {
    /// Removes a stream, unless another one has its key.
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

    /// Removes a stream whose call has ended. With its result it is kept for a while, for a caller that has lost its connection
    /// meanwhile: as long as that caller waits, and while there is room. Returns whether it is kept.
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

    /// Removes a stream that was kept.
    pub(super) fn forget(&self, key: &CancelKey, stream: &Arc<Streaming>) {
        self.table.lock().remove(key, stream);
    }

    /// Lets a caller take more; false where there is no such stream.
    pub(super) fn more(&self, request: &Request, taken: Taken) -> bool {
        let Some((key, stream)) = self.of(request) else { return false };
        stream.more(taken, Duration::from_millis(request.ttl_ms));
        if !stream.is_kept() && stream.has_ended() {
            self.forget(&key, &stream);
        }
        true
    }

    /// Sends everything that the caller has not taken once more, for a request that was sent again; false where there is no such
    /// stream.
    pub(super) fn send_again(&self, request: &Request, route: &Route) -> bool {
        let Some((_, stream)) = self.of(request).filter(|_| request.stream.is_some()) else { return false };
        stream.prolong(route.deadline);
        stream.send_again();
        true
    }

    /// The stream that a request is about: one for more, or one that was sent again.
    fn of(&self, request: &Request) -> Option<(CancelKey, Arc<Streaming>)> {
        let correlation = request.correlation.as_deref()?;
        let table = self.table.lock();
        CancelKey::of_request(request, correlation).find_map(|key| {
            let stream = table.by_key.get(&key)?.clone();
            Some((key, stream))
        })
    }

    /// What the callers of all streams take more by.
    pub(super) fn keys(&self) -> Vec<CancelKey> {
        self.table.lock().by_key.keys().cloned().collect()
    }

    /// A stream of a caller that takes so many bytes at first, of items that are no larger than `largest`.
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
            is_taken: false,
        };
        let largest = largest.min((1 << 20) - AROUND);
        let (state, taken, kept) = (Mutex::new(state), Notify::new(), self.kept.clone());
        Arc::new(Streaming { replies, route, largest, state, taken, kept })
    }
}

/// The result of one call, in parts.
pub(super) struct Streaming {
    replies: Arc<Replies>,
    route: Route,
    /// The largest item, in bytes.
    largest: usize,
    state: Mutex<State>,
    /// The caller takes more.
    taken: Notify,
    /// Bytes that all streams of the object keep.
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
    /// Bytes that the caller takes, from the beginning on.
    credit: u64,
    /// Bytes that were sent.
    sent: u64,
    /// Items that were sent.
    items: u64,
    has_begun: bool,
    /// Until when the caller waits.
    until: Instant,
    /// Parts that the caller has not taken yet: sent again where it has lost its connection.
    kept: VecDeque<Kept>,
    /// Those are being sent again, and no others meanwhile, as they come in their order.
    resending: bool,
    /// When that was done last.
    resent: Option<Instant>,
    /// The reply that ends it, once there is one.
    end: Option<Reply>,
    /// Whether the caller has said that it has all items.
    is_taken: bool,
}

#[derive(Debug)]
struct Kept {
    from: u64,
    items: u64,
    payload: Bytes,
}

/// What a caller takes more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    items: u64,
    bytes: u64,
    again: bool,
}

impl Taken {
    /// `rpc.more(taken, credit, again=false)`.
    ///
    /// # Errors
    ///
    /// Parameters that are none.
    pub(super) fn read(request: &Request) -> Result<Self, Fault> {
        let mut arguments = Arguments::new(request.params.clone(), &["taken", "credit", "again"])?;
        let (items, bytes) = (arguments.take()?, arguments.take()?);
        Ok(Self { items, bytes, again: arguments.take_optional()?.unwrap_or(false) })
    }
}

impl Streaming {
    /// Until when the caller waits.
    pub(super) fn until(&self) -> Instant {
        self.state.lock().until
    }

    /// Whether a part was sent.
    pub(super) fn has_begun(&self) -> bool {
        self.state.lock().has_begun
    }

    /// Waits until the caller's time is over.
    pub(super) async fn is_over(&self) {
        loop {
            let until = self.until();
            tokio::time::sleep_until(until).await;
            if self.until() <= until {
                return;
            }
        }
    }

    /// The caller takes more, for another so long.
    pub(super) fn more(self: &Arc<Self>, taken: Taken, ttl: Duration) {
        self.prolong(Instant::now() + ttl);
        let mut state = self.state.lock();
        state.is_taken = state.end.is_some() && taken.items >= state.items;
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

    /// The caller waits until then, at least.
    fn prolong(&self, until: Instant) {
        let mut state = self.state.lock();
        state.until = state.until.max(until);
    }

    /// Sends what the caller has not taken once more. Asked for while that goes on, it is not done twice.
    fn send_again(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.state.lock().resending, true) {
            tokio::spawn(self.clone().resend());
        }
    }

    /// Whether it has ended, and its caller may not have all of it.
    fn is_kept(&self) -> bool {
        let state = self.state.lock();
        state.has_begun && state.end.is_some() && !state.is_taken
    }

    fn has_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// Sends what the caller has not taken once more, as fast as the node is written to.
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
                // Before it is unlocked: the next part goes behind the last of these.
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

    /// The reply that ends it, with so many last items.
    pub(super) fn last(&self, payload: Vec<u8>, items: u64) -> Reply {
        let mut state = self.state.lock();
        let from = state.items;
        state.items += items;
        drop(state);
        Reply { payload, properties: self.properties(from, false) }
    }

    /// Ends it with this reply, behind all parts.
    pub(super) fn end(&self, reply: Reply) {
        let mut state = self.state.lock();
        state.end = Some(reply.clone());
        // Whatever is being sent again goes first, and then this.
        let is_behind = state.resending;
        drop(state);
        if !is_behind {
            self.replies.publish(&self.route, reply);
        }
    }

    /// The same reply behind the items that were sent.
    pub(super) fn behind_items(&self, mut reply: Reply) -> Reply {
        let from = self.state.lock().items;
        reply.properties.user.push((FROM.to_owned(), from.to_string()));
        reply
    }

    fn properties(&self, from: u64, more: bool) -> Properties {
        let mut user = vec![
            ("status".to_owned(), "ok".to_owned()),
            ("node".to_owned(), self.replies.node.to_string()),
            (FROM.to_owned(), from.to_string()),
        ];
        if more {
            user.push((MORE.to_owned(), "1".to_owned()));
        }
        Properties { correlation: self.route.correlation.clone(), user, ..Properties::default() }
    }

    fn publish(&self, from: u64, payload: Bytes) {
        let ReplyTo::Topic(topic) = &self.route.reply_to else { return };
        let publish = Publish::new(topic.as_str(), payload).properties(self.properties(from, true));
        self.replies.say(publish.qos(self.route.qos));
    }

    /// Whether the caller takes another part.
    fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.sent < state.credit
    }

    /// Whether another part is to wait for what others send and keep.
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
                // Before it is looked, as the caller could take more meanwhile.
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
            // A stream that never waits leaves the others their turn.
            yield_now().await;
        })
    }
}
