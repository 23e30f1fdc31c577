//! One file per scenario; this is only the list.

mod accepts;
mod calls;
mod churn;
mod fan_in;
mod fan_out;
mod flood;
mod idle;
mod latency;
mod retained;
mod subscriptions;

use crate::bench::{Bench, Table};

/// A scenario's name, as `--only` takes it, and what runs it.
pub(crate) type Scenario = (&'static str, fn(&Bench) -> Table);

/// All of them, in the order of the report.
pub(crate) const ALL: [Scenario; 10] = [
    ("latency", latency::run),
    ("calls", calls::run),
    ("fan-out", fan_out::run),
    ("fan-in", fan_in::run),
    ("accepts", accepts::run),
    ("idle", idle::run),
    ("retained", retained::run),
    ("flood", flood::run),
    ("subscriptions", subscriptions::run),
    ("churn", churn::run),
];

/// The payloads most scenarios run with.
const PAYLOADS: [(&str, usize); 2] = [("100 B", 100), ("64 KiB", 64 << 10)];

/// Every QoS and payload that most scenarios run with, and the label of each.
fn grid() -> impl Iterator<Item = (String, u8, usize)> {
    [0, 1]
        .into_iter()
        .flat_map(|qos| PAYLOADS.map(|(name, payload)| (format!("QoS {qos}, {name}"), qos, payload)))
}
