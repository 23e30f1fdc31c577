//! List of all scenarios, each in a file of its own.

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

/// Name of a scenario, as for `--only`, and its function.
pub(crate) type Scenario = (&'static str, fn(&Bench) -> Table);

/// All scenarios, in the order of the report.
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

/// Payloads of most scenarios.
const PAYLOADS: [(&str, usize); 2] = [("100 B", 100), ("64 KiB", 64 << 10)];

/// Returns the combinations of QoS and payload of most scenarios, each with its label.
fn grid() -> impl Iterator<Item = (String, u8, usize)> {
    [0, 1]
        .into_iter()
        .flat_map(|qos| PAYLOADS.map(|(name, payload)| (format!("QoS {qos}, {name}"), qos, payload)))
}
