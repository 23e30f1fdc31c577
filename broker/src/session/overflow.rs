//! Full queues: which messages are dropped, and how this is logged and reported.

use super::entry::PENDING;
use super::{Scratch, State};
use crate::config::{Limits, QueueDrops, QueueFull};
use crate::counters::Counters;
use crate::log::ClientText;
use crate::shared::Shared;
use crate::store::Op;
use crate::tally::Held;

/// Interval between two searches of one full queue for expired messages, in milliseconds.
const SEARCH_INTERVAL: u64 = 250;

impl State {
    /// Checks whether the queue has no room for another message at QoS 1 or 2.
    pub(super) fn full(&self, shared: &Shared) -> bool {
        let limits = shared.limits();
        self.queue.len() >= limits.queue_messages
            || self.queue_bytes >= limits.queue_bytes
            || self.above_share(&shared.absent, limits)
    }

    /// Makes room in a full queue by dropping expired messages and, if so configured, the oldest ones. Returns whether
    /// there is room now.
    pub(super) fn make_room(
        &mut self,
        (key, client): (u64, &str),
        shared: &Shared,
        scratch: &mut Scratch,
    ) -> bool {
        self.drop_expired(key, shared, scratch);
        if shared.limits().queue_drops == QueueDrops::Oldest {
            let mut dropped = 0;
            while self.full(shared) && self.drop_one(key, QueueDrops::Oldest, scratch) {
                dropped += 1;
                // Updated at once: of a shared budget that is exceeded, the session gives up no more than the excess.
                self.count_absent(&shared.absent);
            }
            if dropped > 0 {
                Counters::add(&shared.counters.dropped_queue_full, dropped);
                self.note_dropped(client, dropped, scratch.now, shared);
            }
        }
        !self.full(shared)
    }

    /// Drops expired messages if there may be any and the queue has not been searched within [`SEARCH_INTERVAL`].
    pub(super) fn drop_expired(&mut self, key: u64, shared: &Shared, scratch: &mut Scratch) {
        let now = scratch.now;
        let overflow = self.overflow.get_or_insert_default();
        if overflow.next_search > now || overflow.next_expiry > now {
            return;
        }
        let before = self.queue.len();
        let mut next = u64::MAX;
        let (durable, bytes) = (self.durable, &mut self.queue_bytes);
        self.queue.retain(|entry| {
            // An entry cannot be deleted from the store before the store has it.
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
        overflow.next_search = now + SEARCH_INTERVAL;
        overflow.next_expiry = next;
        Counters::add(&shared.counters.expired, (before - self.queue.len()) as u64);
        self.count_absent(&shared.absent);
    }

    /// Notes that a message that expires at `expires` was queued.
    pub(super) fn note_expiry(&mut self, expires: u64) {
        if let Some(overflow) = &mut self.overflow {
            overflow.next_expiry = overflow.next_expiry.min(expires);
        }
    }

    /// Drops queued messages until at most `most` is held. Returns their number.
    pub(crate) fn cut(&mut self, key: u64, most: Held, shared: &Shared, scratch: &mut Scratch) -> u64 {
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
        // An entry cannot be deleted from the store before the store has it.
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

    /// Notes that messages for the session were dropped: they are reported to the client, and the overflow is logged.
    pub(crate) fn note_dropped(&mut self, client: &str, count: u64, now: u64, shared: &Shared) {
        self.overflow.get_or_insert_default().untold += count;
        self.note_full(client, count, now, shared);
    }

    /// Notes that messages for the session were dropped or refused. Logged once until the queue has room again.
    pub(super) fn note_full(&mut self, client: &str, count: u64, now: u64, shared: &Shared) {
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

    /// Ends an overflow after messages have left the queue. It ends only at half of the limits, so that a session that
    /// takes a message now and then does not flood the log.
    pub(super) fn drained(&mut self, client: &str, shared: &Shared) {
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
            if overflow.untold == 0 {
                self.overflow = None;
            }
        }
    }

    /// Returns the number of messages dropped since the last report to the client, and counts them as reported.
    pub(crate) fn tell_dropped(&mut self) -> u64 {
        self.overflow.as_mut().map_or(0, |overflow| std::mem::take(&mut overflow.untold))
    }

    /// Takes back the report of `count` dropped messages, which could not be sent to the client.
    pub(crate) fn keep_untold(&mut self, count: u64) {
        self.overflow.get_or_insert_default().untold += count;
    }

    /// Begins the time that a new connection has for taking messages, at `now`.
    pub(crate) fn begin_taking(&mut self, now: u64) {
        self.since = now;
        if let Some(overflow) = &mut self.overflow {
            overflow.disconnect = false;
        }
    }

    /// Checks whether the client is to be disconnected: its queue overflows, and either a rule says so or it has taken
    /// no message for `slow_reader`.
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

    use super::super::entry::Entry;
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::message::{Message, QoS};
    use crate::random::Random;
    use crate::session::Delivery;

    fn entry(bytes: usize, expires: Option<u64>) -> Entry {
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

    fn shared(limits: Limits) -> Arc<Shared> {
        let config = Config { limits, ..Config::default() };
        Shared::new(config, None, Clock::system(), Random::System)
    }

    /// After a search that had found no message with an expiry, the queue was once never searched again.
    #[test]
    fn what_is_queued_after_a_search_makes_room_when_it_has_expired() {
        let shared = shared(Limits::default());
        let mut state = State::default();
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
        let mut state = State::default();
        let mut left = |now| {
            state.push(entry(1, Some(now)));
            state.drop_expired(1, &shared, &mut Scratch::at(now));
            state.queue.len()
        };
        assert_eq!([10_000, 10_001, 10_249, 10_250].map(&mut left), [0, 1, 2, 0]);
    }

    /// A session above its share of the common budget once gave up everything above the share for one message.
    #[test]
    fn the_oldest_give_no_more_than_the_absent_have_too_much() {
        let mut state = State::default();
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
    fn a_slow_reader_has_its_time_from_its_connection_and_from_each_message_it_takes() {
        let limits = Limits { slow_reader: Duration::from_secs(1), ..Limits::default() };
        let shared = Shared::new(Config::default(), None, Clock::system(), Random::System);
        let mut state = State::default();
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
        assert_eq!((state.tell_dropped(), state.tell_dropped()), (1, 0));
        state.drained("a", &shared);
        assert!(state.overflow.is_none());
    }
}
