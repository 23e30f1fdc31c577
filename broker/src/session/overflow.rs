//! Full queues: which messages are dropped, and how that is logged and reported.

use super::entry::PENDING;
use super::{Scratch, SessionState};
use crate::config::{Limits, QueueDrops, QueueFull};
use crate::counters::Counters;
use crate::log::ClientText;
use crate::shared::BrokerState;
use crate::store::Op;
use crate::tally::Held;

/// Interval between two searches of one full queue for expired messages, in milliseconds.
const SEARCH_INTERVAL_MS: u64 = 250;

impl SessionState {
    /// Checks whether the queue has no room for another message at QoS 1 or 2.
    pub(super) fn full(&self, shared: &BrokerState) -> bool {
        let limits = shared.limits();
        self.queue.len() >= limits.queue_messages
            || self.queue_bytes >= limits.queue_bytes
            || self.above_share(&shared.absent, limits)
    }

    /// Makes room in a full queue by dropping expired messages and, if configured, the oldest ones. Returns whether
    /// there is room now.
    pub(super) fn make_room(
        &mut self,
        (key, client): (u64, &str),
        shared: &BrokerState,
        scratch: &mut Scratch,
    ) -> bool {
        self.drop_expired(key, shared, scratch);
        if shared.limits().queue_drops == QueueDrops::Oldest {
            let mut dropped = 0;
            while self.full(shared) && self.drop_one(key, QueueDrops::Oldest, scratch) {
                dropped += 1;
                // Updated at once, so that the session drops no more than the excess over a shared budget.
                self.count_absent(&shared.absent);
            }
            if dropped > 0 {
                Counters::add(&shared.counters.dropped_queue_full, dropped);
                self.note_dropped(client, dropped, scratch.now, shared);
            }
        }
        !self.full(shared)
    }

    /// Drops expired messages, if there may be any and the queue was not searched within [`SEARCH_INTERVAL_MS`].
    pub(super) fn drop_expired(&mut self, key: u64, shared: &BrokerState, scratch: &mut Scratch) {
        let now = scratch.now;
        let overflow = self.overflow.get_or_insert_default();
        if overflow.next_search > now || overflow.next_expiry > now {
            return;
        }
        let before = self.queue.len();
        let mut next = u64::MAX;
        let (durable, bytes) = (self.durable, &mut self.queue_bytes);
        self.queue.retain(|entry| {
            // An entry cannot be deleted from the store before it was passed to the store.
            if entry.ticket == PENDING || !entry.message.expired(now) {
                next = next.min(entry.message.expires.unwrap_or(u64::MAX));
                return true;
            }
            *bytes -= entry.size();
            if durable {
                scratch.ops.push(Op::Dequeue { key, seq: entry.seq });
            }
            false
        });
        overflow.next_search = now + SEARCH_INTERVAL_MS;
        overflow.next_expiry = next;
        Counters::add(&shared.counters.expired, (before - self.queue.len()) as u64);
        self.count_absent(&shared.absent);
    }

    /// Records that a message with the expiry time `expires` was queued.
    pub(super) fn note_expiry(&mut self, expires: u64) {
        if let Some(overflow) = &mut self.overflow {
            overflow.next_expiry = overflow.next_expiry.min(expires);
        }
    }

    /// Drops queued messages until at most `most` is left. Returns the number of dropped messages.
    pub(crate) fn cut(&mut self, key: u64, most: Held, shared: &BrokerState, scratch: &mut Scratch) -> u64 {
        self.drop_expired(key, shared, scratch);
        let mut dropped = 0;
        while (self.queue.len() > most.messages || self.queue_bytes > most.bytes)
            && self.drop_one(key, shared.limits().queue_drops, scratch)
        {
            dropped += 1;
        }
        self.count_absent(&shared.absent);
        dropped
    }

    /// Drops the oldest or the newest queued message. Returns false if there is none that may be dropped.
    fn drop_one(&mut self, key: u64, which: QueueDrops, scratch: &mut Scratch) -> bool {
        let entry = match which {
            QueueDrops::Oldest => self.queue.front(),
            QueueDrops::Newest => self.queue.back(),
        };
        // An entry cannot be deleted from the store before it was passed to the store.
        if entry.is_none_or(|entry| entry.ticket == PENDING) {
            return false;
        }
        let entry = match which {
            QueueDrops::Oldest => self.pop(),
            QueueDrops::Newest => self.pop_newest(),
        };
        let Some(entry) = entry else { return false };
        if self.durable {
            scratch.ops.push(Op::Dequeue { key, seq: entry.seq });
        }
        true
    }

    /// Records that messages for the session were dropped: they are reported to the client, and the overflow is
    /// logged.
    pub(crate) fn note_dropped(&mut self, client: &str, count: u64, now: u64, shared: &BrokerState) {
        self.overflow.get_or_insert_default().unreported += count;
        self.note_full(client, count, now, shared);
    }

    /// Records that messages for the session were dropped or refused. Logged once until the queue has room again.
    pub(super) fn note_full(&mut self, client: &str, count: u64, now: u64, shared: &BrokerState) {
        let overflow = self.overflow.get_or_insert_default();
        overflow.lost += count;
        if overflow.logged || !shared.may_log(&shared.log_lines.queues) {
            return;
        }
        overflow.logged = true;
        let quiet = now.saturating_sub(self.since) / 1_000;
        tracing::warn!(
            client = %ClientText(client),
            user = %ClientText(self.principal.user.as_deref().unwrap_or("-")),
            connected = self.link.is_some(),
            messages = self.queue.len(),
            bytes = self.queue_bytes,
            took_nothing_for_s = quiet,
            "queue full: messages for this session are dropped or refused until it has taken half of them"
        );
    }

    /// Applies the rule `full` after a message was dropped.
    pub(super) fn apply_rule(&mut self, full: QueueFull) {
        if full == QueueFull::Disconnect
            && let Some(overflow) = &mut self.overflow
        {
            overflow.disconnect = true;
        }
    }

    /// Ends an overflow after messages have left the queue: only at half of the limits, so that a session that takes
    /// messages slowly does not flood the log.
    pub(super) fn drained(&mut self, client: &str, shared: &BrokerState) {
        let limits = shared.limits();
        if let Some(overflow) = &mut self.overflow
            && self.queue.len() <= limits.queue_messages / 2
            && self.queue_bytes <= limits.queue_bytes / 2
        {
            let dropped = std::mem::take(&mut overflow.lost);
            if dropped > 0 && shared.may_log(&shared.log_lines.queues) {
                tracing::info!(client = %ClientText(client), dropped, "queue has room again");
            }
            overflow.disconnect = false;
            overflow.logged = false;
            if overflow.unreported == 0 {
                self.overflow = None;
            }
        }
    }

    /// Returns the number of messages dropped since the last report to the client, and marks them as reported.
    pub(crate) fn report_dropped(&mut self) -> u64 {
        self.overflow.as_mut().map_or(0, |overflow| std::mem::take(&mut overflow.unreported))
    }

    /// Marks `count` dropped messages as unreported again, because the report could not be sent to the client.
    pub(crate) fn mark_unreported(&mut self, count: u64) {
        self.overflow.get_or_insert_default().unreported += count;
    }

    /// Starts the time limit for a new connection to take messages, at `now`.
    pub(crate) fn begin_taking(&mut self, now: u64) {
        self.since = now;
        if let Some(overflow) = &mut self.overflow {
            overflow.disconnect = false;
        }
    }

    /// Returns whether the client is to be disconnected: its queue overflows, and either a rule requires it or the
    /// client has taken no message for `slow_reader`.
    pub(crate) fn too_slow(&self, now: u64, limits: &Limits) -> bool {
        let Some(overflow) = self.overflow.as_ref().filter(|overflow| overflow.lost > 0) else {
            return false;
        };
        let patience = limits.slow_reader.as_millis() as u64;
        overflow.disconnect || patience > 0 && now.saturating_sub(self.since) > patience
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::entry::QueueEntry;
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::message::{Message, QoS};
    use crate::random::Random;
    use crate::session::Delivery;

    fn entry(bytes: usize, expires: Option<u64>) -> QueueEntry {
        let message = Message { payload: vec![0; bytes].into(), expires, ..Message::default() };
        let delivery = Delivery {
            message: &message,
            kept: &mut None,
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers: &[],
            shared: None,
        };
        { delivery }.entry(1)
    }

    fn shared(limits: Limits) -> Arc<BrokerState> {
        let config = Config { limits, ..Config::default() };
        BrokerState::new(config, None, Clock::system(), Random::System)
    }

    /// Once, after a search that had found no message with an expiry time, the queue was never searched again.
    #[test]
    fn messages_queued_after_a_search_make_room_when_they_expire() {
        let shared = shared(Limits::default());
        let mut state = SessionState::default();
        state.push(entry(1, None));
        state.drop_expired(1, &shared, &mut Scratch::at(10_000));
        for expires in [30_000, 20_000] {
            state.push(entry(1, Some(expires)));
        }
        let mut left = |now| {
            state.drop_expired(1, &shared, &mut Scratch::at(now));
            state.queue.len()
        };
        assert_eq!([19_999, 20_000, 29_999, 30_000].map(&mut left), [3, 2, 2, 1]);
        assert_eq!(shared.counters.read().expired, 2);
    }

    #[test]
    fn a_full_queue_is_not_searched_again_at_once() {
        let shared = shared(Limits::default());
        let mut state = SessionState::default();
        let mut left = |now| {
            state.push(entry(1, Some(now)));
            state.drop_expired(1, &shared, &mut Scratch::at(now));
            state.queue.len()
        };
        assert_eq!([10_000, 10_001, 10_249, 10_250].map(&mut left), [0, 1, 2, 0]);
    }

    /// Once, a session above its share of the common budget dropped everything above the share for one message.
    #[test]
    fn no_more_messages_are_dropped_than_the_budget_is_exceeded_by() {
        let mut state = SessionState::default();
        for _ in 0..8 {
            state.push(entry(100, None));
        }
        let each = state.held().bytes / 8;
        let limits = Limits { absent_bytes: 10 * each, queue_drops: QueueDrops::Oldest, ..Limits::default() };
        let shared = shared(limits);
        shared.absent.change(None, Held::default(), Held { messages: 2, bytes: 2 * each });
        state.count_absent(&shared.absent);
        assert!(state.full(&shared), "it has more than its half, and all together have all they may");
        assert!(state.make_room((1, "a"), &shared, &mut Scratch::at(10_000)));
        assert_eq!((state.queue.len(), shared.absent.held().bytes), (7, 9 * each));
    }

    #[test]
    fn the_time_of_a_slow_reader_starts_at_its_connection_and_with_each_message() {
        let limits = Limits { slow_reader: Duration::from_secs(1), ..Limits::default() };
        let shared = BrokerState::new(Config::default(), None, Clock::system(), Random::System);
        let mut state = SessionState::default();
        state.begin_taking(10_000);
        assert!(!state.too_slow(99_000, &limits), "nothing was lost");
        state.note_dropped("a", 1, 10_500, &shared);
        assert!(!state.too_slow(11_000, &limits));
        assert!(state.too_slow(11_001, &limits));
        let patient = Limits { slow_reader: Duration::ZERO, ..Limits::default() };
        assert!(!state.too_slow(u64::MAX, &patient));
        state.apply_rule(QueueFull::Disconnect);
        assert!(state.too_slow(10_600, &patient));
        state.begin_taking(20_000);
        assert!(!state.too_slow(20_500, &limits), "the rule counts for the next message that is dropped");
        assert_eq!((state.report_dropped(), state.report_dropped()), (1, 0));
        state.drained("a", &shared);
        assert!(state.overflow.is_none());
    }
}
