//! Streamed results of one object: those that run, and those that have ended and may have to be retransmitted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::wire::request::Request;
use tokio::time::Instant;

use super::cancelling::CancelKey;
use super::replies::{Replies, Route};
use super::streaming::{MoreRequest, Streaming};

/// Limit of ended streams kept per object for retransmission.
const MAX_ENDED_STREAMS: usize = 256;
/// Unacknowledged bytes above which no ended stream is kept.
const MAX_KEPT_ENDED_BYTES: u64 = 16 << 20;

/// Streams of one object.
#[derive(Default)]
pub(super) struct Streams {
    table: Mutex<StreamTable>,
    /// Unacknowledged bytes of all of them.
    kept: Arc<AtomicU64>,
}

#[derive(Default)]
struct StreamTable {
    /// Running and ended streams.
    by_key: HashMap<CancelKey, Arc<Streaming>>,
    /// Ended streams that are not fully acknowledged, oldest first.
    ended: VecDeque<(CancelKey, Arc<Streaming>)>,
}

impl StreamTable {
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
                || table.ended.len() >= MAX_ENDED_STREAMS
                || self.kept.load(Ordering::Relaxed) > MAX_KEPT_ENDED_BYTES)
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
    pub(super) fn more(&self, request: &Request, taken: MoreRequest) -> bool {
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
        Streaming::new(replies, route, (credit, largest), self.kept.clone())
    }
}
