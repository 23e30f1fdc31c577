//! From samples to the numbers that are reported.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Durations of single operations.
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Self {
        // 10 ns to 60 s with three digits.
        Self(Histogram::new_with_bounds(10, 60_000_000_000, 3).expect("the bounds are constants"))
    }

    pub(crate) fn record(&mut self, taken: Duration) {
        self.0.saturating_record(taken.as_nanos() as u64);
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The quantile in microseconds.
    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// What several rounds gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Summary {
    /// `None` when there is nothing to sum up.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, low: sorted[0], high: *sorted.last()? })
    }
}
