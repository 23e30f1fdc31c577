//! Statistics of an object, as returned by `rpc.stats`.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rantai_client::shares::ShareReport;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::MethodName;
use rantai_client::wire::request::MAX_TTL_MS;
use rantai_client::wire::user::User;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Reader of `rpc.stats`.
#[derive(Clone, Copy, Debug)]
pub(super) enum StatsReader<'a> {
    /// An admin, who sees the names of all callers.
    Admin,
    /// Any other user, who sees no user but itself.
    Other(Option<&'a str>),
}

impl<'a> StatsReader<'a> {
    pub(super) fn of(caller: Option<&'a User>, admins: &[String]) -> Self {
        let is_admin = caller.is_some_and(|user| admins.iter().any(|admin| admin == user.as_str()));
        if is_admin { Self::Admin } else { Self::Other(caller.map(User::as_str)) }
    }

    pub(super) fn told(self, report: ShareReport) -> ShareReport {
        match self {
            Self::Admin => report,
            Self::Other(user) => report.hide_users_except(user),
        }
    }
}

/// Counters of one object.
#[derive(Debug, Default)]
pub(super) struct Stats {
    methods: Mutex<HashMap<MethodName, MethodCounts>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

#[derive(Debug)]
struct MethodCounts {
    calls: u64,
    errors: u64,
    last_error: Option<Value>,
    in_flight: u64,
    /// Run times, in microseconds.
    times: Histogram<u32>,
}

impl Default for MethodCounts {
    fn default() -> Self {
        // Created with its maximum, because an auto-resizing histogram does not grow for values that are clamped to its
        // present maximum.
        let times = Histogram::new_with_max(MAX_TTL_MS * 1000, 2).expect("an hour in two digits");
        Self { calls: 0, errors: 0, last_error: None, in_flight: 0, times }
    }
}

impl Stats {
    pub(super) fn began(&self, method: &MethodName) {
        let mut methods = self.methods.lock();
        if let Some(counts) = methods.get_mut(method) {
            counts.calls += 1;
            counts.in_flight += 1;
        } else {
            methods
                .insert(method.clone(), MethodCounts { calls: 1, in_flight: 1, ..MethodCounts::default() });
        }
    }

    pub(super) fn ended(&self, method: &MethodName, began: Instant, fault: Option<&Fault>) {
        let mut methods = self.methods.lock();
        let Some(counts) = methods.get_mut(method) else { return };
        counts.in_flight = counts.in_flight.saturating_sub(1);
        counts.times.saturating_record(began.elapsed().as_micros() as u64);
        if let Some(fault) = fault {
            counts.errors += 1;
            counts.last_error = Some(json!({"code": fault.code, "message": fault.message}));
        }
    }

    pub(super) fn refused(&self, kind: &'static str) {
        *self.refused.lock().entry(kind).or_default() += 1;
    }

    pub(super) fn report(&self) -> Value {
        let methods = self.methods.lock();
        let methods: BTreeMap<&str, Value> = methods
            .iter()
            .map(|(method, counts)| {
                let report = json!({
                    "calls": counts.calls,
                    "errors": counts.errors,
                    "last_error": counts.last_error,
                    "in_flight": counts.in_flight,
                    "p50_us": counts.times.value_at_quantile(0.5),
                    "p99_us": counts.times.value_at_quantile(0.99),
                });
                (method.as_str(), report)
            })
            .collect();
        json!({"methods": methods, "refused": *self.refused.lock()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Regression: the histogram had no room beyond 255 microseconds, and all slower calls were counted as that.
    #[tokio::test(start_paused = true)]
    async fn slow_calls_are_counted_with_their_time() {
        let (stats, method) = (Stats::default(), MethodName::new("add").expect("a name"));
        for ms in [1, 1, 5_000] {
            let began = Instant::now();
            stats.began(&method);
            tokio::time::advance(Duration::from_millis(ms)).await;
            stats.ended(&method, began, None);
        }
        let report = stats.report();
        let add = &report["methods"]["add"];
        let near =
            |found: &Value, expected: f64| (found.as_f64().expect("a number") / expected - 1.0).abs() < 0.02;
        assert!(near(&add["p50_us"], 1_000.0) && near(&add["p99_us"], 5_000_000.0), "{report}");
        assert_eq!((&add["calls"], &add["in_flight"]), (&json!(3), &json!(0)));
    }
}
