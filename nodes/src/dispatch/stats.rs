//! What `rpc.stats` tells.

use std::collections::{BTreeMap, HashMap};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rantai_client::wire::fault::Fault;
use rantai_client::wire::name::MethodName;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Counts of one object.
#[derive(Debug, Default)]
pub(super) struct Stats {
    methods: Mutex<HashMap<MethodName, Counts>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

#[derive(Debug)]
struct Counts {
    calls: u64,
    errors: u64,
    last_error: Option<Value>,
    in_flight: u64,
    /// In microseconds.
    times: Histogram<u32>,
}

impl Default for Counts {
    fn default() -> Self {
        // Two digits of what may be an hour.
        let times = Histogram::new(2).expect("two digits are in range");
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
            methods.insert(method.clone(), Counts { calls: 1, in_flight: 1, ..Counts::default() });
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
