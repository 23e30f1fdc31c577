//! One streamed result: flow control, retransmission.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use rantai_client::object::{Arguments, Parts};
use rantai_client::session::Publish;
use rantai_client::wire::Properties;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::reply::Reply;
use rantai_client::wire::request::{ReplyTo, Request};
use rantai_client::wire::stream::{FROM_PROPERTY, MAX_CREDIT_BYTES, MORE_PROPERTY, part_bytes};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::replies::{Replies, Route};

/// Send queue of the node above which streams pause, in bytes.
const PAUSE_BACKLOG: usize = 1 << 20;
/// Minimum interval between retransmissions of one stream.
const MIN_RESEND_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum number of turns that a stream leaves to other tasks until its first part is written.
const FIRST_PART_TURNS: usize = 64;
/// Interval at which a paused stream checks the send queue.
const BACKLOG_CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Unacknowledged bytes of an object's streams above which a stream keeps at most one part in flight.
const MAX_KEPT_BYTES: u64 = 64 << 20;
/// Maximum overhead of a packet besides its payload, in bytes.
const MAX_PACKET_OVERHEAD: usize = 4 << 10;

/// Result of one call, in parts.
pub(super) struct Streaming {
    replies: Arc<Replies>,
    route: Route,
    /// Maximum item size, in bytes.
    largest: usize,
    state: Mutex<StreamState>,
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
struct StreamState {
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
    kept: VecDeque<KeptPart>,
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
struct KeptPart {
    from: u64,
    items: u64,
    payload: Bytes,
}

/// Parameters of `rpc.more`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MoreRequest {
    items: u64,
    bytes: u64,
    again: bool,
}

impl MoreRequest {
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
    /// Creates a stream with an initial credit and a maximum item size, both in bytes. `kept` counts the unacknowledged bytes of
    /// all streams of the object.
    pub(super) fn new(
        replies: Arc<Replies>,
        route: Route,
        (credit, largest): (u64, usize),
        kept: Arc<AtomicU64>,
    ) -> Arc<Self> {
        let state = StreamState {
            credit: credit.min(MAX_CREDIT_BYTES),
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
        let largest = largest.min((1 << 20) - MAX_PACKET_OVERHEAD);
        let (state, taken) = (Mutex::new(state), Notify::new());
        Arc::new(Streaming { replies, route, largest, state, taken, kept })
    }

    /// Returns the deadline.
    pub(super) fn until(&self) -> Instant {
        self.state.lock().until
    }

    /// Returns whether a part was sent.
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
    pub(super) fn more(self: &Arc<Self>, taken: MoreRequest, ttl: Duration) {
        self.prolong(Instant::now() + ttl);
        let mut state = self.state.lock();
        // Of an end without items, the caller may have taken all items and miss the end.
        state.is_taken = state.end_items > 0 && state.end.is_some() && taken.items >= state.items;
        state.credit = state.credit.max(taken.bytes.min(state.sent + MAX_CREDIT_BYTES));
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
    pub(super) fn prolong(&self, until: Instant) {
        let mut state = self.state.lock();
        state.until = state.until.max(until);
    }

    /// Starts a retransmission, unless one is running.
    pub(super) fn send_again(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.state.lock().resending, true) {
            tokio::spawn(self.clone().resend());
        }
    }

    /// Returns whether it has ended and is not fully acknowledged.
    pub(super) fn is_kept(&self) -> bool {
        let state = self.state.lock();
        state.has_begun && state.end.is_some() && !state.is_taken
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// Retransmits unacknowledged parts and the final reply, paced by the send queue.
    async fn resend(self: Arc<Self>) {
        let mut next = 0;
        let again = self.state.lock().resent.map(|at| at + MIN_RESEND_INTERVAL);
        if let Some(again) = again {
            tokio::time::sleep_until(again).await;
        }
        loop {
            while self.replies.out.backlog() > PAUSE_BACKLOG {
                sleep(BACKLOG_CHECK_INTERVAL).await;
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
            status: ByteString::from_static("ok"),
            node: self.replies.node_property.clone(),
            is_binary: false,
            further: vec![(ByteString::from_static(FROM_PROPERTY), from.to_string().into())],
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
        reply.further.push((ByteString::from_static(FROM_PROPERTY), from.to_string().into()));
        reply
    }

    /// Returns the properties of a part that is not the last.
    fn properties(&self, from: u64) -> Properties {
        let user = [
            (ByteString::from_static("status"), ByteString::from_static("ok")),
            (ByteString::from_static("node"), self.replies.node_property.clone()),
            (ByteString::from_static(FROM_PROPERTY), from.to_string().into()),
            (ByteString::from_static(MORE_PROPERTY), ByteString::from_static("1")),
        ];
        let correlation = self.route.correlation.clone();
        Properties { correlation, user: user.into(), ..Properties::default() }
    }

    fn publish(&self, from: u64, payload: Bytes) {
        let ReplyTo::Topic(topic) = &self.route.reply_to else { return };
        let publish = Publish::new(topic.shared(), payload).properties(self.properties(from));
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

    /// Returns whether the caller has credit left.
    fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.sent < state.credit
    }

    /// Returns whether the next part must wait although there is credit.
    fn is_held_back(&self) -> bool {
        let state = self.state.lock();
        let is_full = self.kept.load(Ordering::Relaxed) > MAX_KEPT_BYTES && !state.kept.is_empty();
        state.resending || is_full || self.replies.out.backlog() > PAUSE_BACKLOG
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
                    sleep(BACKLOG_CHECK_INTERVAL).await;
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
                state.kept.push_back(KeptPart { from, items, payload: payload.clone() });
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
