//! Which events of a device are passed on: those of its description, of bounded size and rate.

use std::time::Duration;

use rantai_client::object::Event;
use rantai_client::wire::json;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

/// Events of one device.
#[derive(Debug)]
pub(crate) struct Events {
    described: Vec<Event>,
    largest: usize,
    /// Time between two events at the highest rate.
    interval: Duration,
    /// Time at which everything that was passed on is paid for; it may lie one second ahead.
    paid: Option<Instant>,
    passed: u64,
    unknown: u64,
    unreadable: u64,
    too_many: u64,
}

/// How an event is passed on.
#[derive(Debug, PartialEq)]
pub(crate) struct Passed {
    /// Payload.
    pub(crate) value: Value,
    /// Whether it is retained.
    pub(crate) is_state: bool,
}

impl Events {
    /// For the events of this description, of at most `largest` bytes, and `per_s` of them in a second.
    pub(crate) fn new(described: Vec<Event>, largest: usize, per_s: u64) -> Self {
        let interval = Duration::from_secs(1) / u32::try_from(per_s.max(1)).unwrap_or(u32::MAX);
        Self { described, largest, interval, paid: None, passed: 0, unknown: 0, unreadable: 0, too_many: 0 }
    }

    /// Returns the event if it is passed on; counts it otherwise. Of events that are retained on the device's topic, only states
    /// are.
    pub(crate) fn pass(
        &mut self,
        name: &str,
        payload: &[u8],
        is_retained: bool,
        now: Instant,
    ) -> Option<Passed> {
        let Some(event) = self.described.iter().find(|event| event.name == name) else {
            self.unknown += 1;
            return None;
        };
        if is_retained && !event.state {
            return None;
        }
        let paid = self.paid.map_or(now, |paid| paid.max(now));
        if paid + self.interval > now + Duration::from_secs(1) {
            self.too_many += 1;
            return None;
        }
        // Also for one that cannot be read: reading takes most of the work.
        self.paid = Some(paid + self.interval);
        let value = if payload.len() <= self.largest { json::read(payload).ok() } else { None };
        let Some(value) = value else {
            self.unreadable += 1;
            return None;
        };
        self.passed += 1;
        Some(Passed { value, is_state: event.state })
    }

    /// Returns counts for `rpc.stats`.
    pub(crate) fn report(&self) -> Map<String, Value> {
        let counts = [
            ("passed_on", self.passed),
            ("unknown", self.unknown),
            ("unreadable", self.unreadable),
            ("too_many", self.too_many),
        ];
        counts.map(|(name, count)| (name.to_owned(), json!(count))).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Events {
        let event = |name: &str, state| Event { name: name.to_owned(), schema: json!({}), state };
        Events::new(vec![event("pressed", false), event("level", true)], 100, 10)
    }

    #[tokio::test(start_paused = true)]
    async fn only_described_events_are_passed_on() {
        let mut events = events();
        let now = Instant::now();
        let mut passed = |name, payload: &str, retained| events.pass(name, payload.as_bytes(), retained, now);
        assert_eq!(passed("pressed", "5", false), Some(Passed { value: json!(5), is_state: false }));
        assert_eq!(passed("level", "[1]", true), Some(Passed { value: json!([1]), is_state: true }));
        assert_eq!(passed("pressed", "5", true), None, "an old one");
        assert_eq!(passed("released", "5", false), None);
        assert_eq!(passed("pressed", "on", false), None);
        assert_eq!(passed("pressed", &format!("\"{}\"", "x".repeat(99)), false), None);
        let expected = json!({"passed_on": 2, "unknown": 1, "unreadable": 2, "too_many": 0});
        assert_eq!(Value::from(events.report()), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_to_its_rate() {
        let mut events = events();
        let start = Instant::now();
        for ms in 0..10_000 {
            events.pass("pressed", b"1", false, start + Duration::from_millis(ms));
        }
        // A second's worth at once, and ten a second from then on.
        assert!((100..=111).contains(&events.passed), "{}", events.passed);
        assert_eq!(events.passed + events.too_many, 10_000);
    }
}
