//! Histogram of latencies: any number of values in a fixed amount of memory.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Maximum value, in nanoseconds: an hour, as no call may take longer. Longer times count as this.
const MAX_NANOS: u64 = 3_600_000_000_000;
/// Number of significant decimal digits of each value.
const DIGITS: u8 = 3;
/// Upper bounds of the buckets for charts, within a decade: ten steps of about 25% each.
const STEPS: [u64; 10] = [1_000, 1_250, 1_600, 2_000, 2_500, 3_150, 4_000, 5_000, 6_300, 8_000];
/// Number of decades, starting at a microsecond.
const DECADES: u32 = 10;

/// Latencies, with a precision of three digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

/// Summary of latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Minimum.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Maximum.
    pub max: f64,
}

/// Bucket of latencies: above the end of the previous bucket, and up to the end of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Index among all possible buckets, the same in every run; ten buckets are a decade.
    pub place: usize,
    /// Number of latencies in the bucket.
    pub count: u64,
}

impl Bucket {
    /// Returns the upper bound of the bucket, inclusive, in nanoseconds.
    pub fn end(self) -> u64 {
        end(self.place)
    }
}

fn end(place: usize) -> u64 {
    STEPS[place % STEPS.len()] * 10_u64.pow((place / STEPS.len()) as u32)
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// Creates an empty histogram.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX_NANOS, DIGITS).expect("an hour in three digits");
        Self { histogram }
    }

    /// Adds a latency; one above an hour counts as an hour.
    pub fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(nanoseconds.max(1));
    }

    /// Returns the number of latencies.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Returns the value at a quantile from 0 to 1, in microseconds; 0 if there are no latencies.
    pub fn micros(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Returns the summary; `None` if there are no latencies.
    pub fn summary(&self) -> Option<Summary> {
        if self.histogram.is_empty() {
            return None;
        }
        let us = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        Some(Summary {
            min: us(self.histogram.min()),
            mean: self.histogram.mean() / 1000.0,
            p50: self.micros(0.5),
            p90: self.micros(0.9),
            p99: self.micros(0.99),
            p999: self.micros(0.999),
            max: us(self.histogram.max()),
        })
    }

    /// Returns the buckets from the first to the last that is not empty.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut counts = [0_u64; STEPS.len() * DECADES as usize];
        for recorded in self.histogram.iter_recorded() {
            let time = recorded.value_iterated_to().min(MAX_NANOS);
            let place = (0..counts.len()).position(|place| time <= end(place)).unwrap_or(counts.len() - 1);
            counts[place] += recorded.count_since_last_iteration();
        }
        let all = counts.iter().enumerate().map(|(place, count)| Bucket { place, count: *count });
        let mut buckets: Vec<Bucket> = all.skip_while(|bucket| bucket.count == 0).collect();
        while buckets.last().is_some_and(|bucket| bucket.count == 0) {
            buckets.pop();
        }
        buckets
    }
}

impl Summary {
    /// Returns the values with their names.
    pub fn figures(self) -> [(&'static str, f64); 7] {
        let Self { min, mean, p50, p90, p99, p999, max } = self;
        [("min", min), ("mean", mean), ("p50", p50), ("p90", p90), ("p99", p99), ("p999", p999), ("max", max)]
    }

    /// Returns a JSON object with the names as keys.
    pub fn json(self) -> Value {
        self.figures().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
    }
}

/// Formats a time for people, with three digits: `83.0 us`, `1.25 ms`, `12.5 s`.
pub fn shown(microseconds: f64) -> String {
    let (value, unit) = match microseconds {
        us if us < 1_000.0 => (us, "us"),
        us if us < 1_000_000.0 => (us / 1_000.0, "ms"),
        us => (us / 1_000_000.0, "s"),
    };
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: impl IntoIterator<Item = Duration>) -> Latencies {
        let mut latencies = Latencies::new();
        times.into_iter().for_each(|time| latencies.record(time));
        latencies
    }

    #[test]
    fn quantiles_are_those_of_the_times_to_three_digits() {
        let latencies = of((1..=1_000).map(Duration::from_micros));
        let summary = latencies.summary().expect("times");
        for (found, expected) in summary.figures().into_iter().zip([
            ("min", 1.0),
            ("mean", 500.5),
            ("p50", 500.0),
            ("p90", 900.0),
            ("p99", 990.0),
            ("p999", 999.0),
            ("max", 1_000.0),
        ]) {
            assert_eq!(found.0, expected.0);
            assert!((found.1 / expected.1 - 1.0).abs() < 0.001, "{found:?}, expected {expected:?}");
        }
        assert_eq!(Latencies::new().summary(), None);
    }

    #[test]
    fn every_time_is_in_exactly_one_bucket() {
        let latencies = of([1, 999, 1_000, 1_001, 126_000, 9_000_000].map(Duration::from_nanos));
        let buckets = latencies.buckets();
        let filled: Vec<(u64, u64)> = buckets
            .iter()
            .filter(|bucket| bucket.count > 0)
            .map(|bucket| (bucket.end(), bucket.count))
            .collect();
        assert_eq!(filled, [(1_000, 3), (1_250, 1), (160_000, 1), (10_000_000, 1)]);
        assert_eq!(buckets.len(), 41, "from a microsecond to ten milliseconds, ten for each decade");
        assert!(buckets.windows(2).all(|two| two[0].place + 1 == two[1].place));
        assert!(Latencies::new().buckets().is_empty());
    }

    #[test]
    fn times_above_the_maximum_count_as_the_maximum() {
        let latencies = of([Duration::ZERO, Duration::from_secs(1 << 40)]);
        assert_eq!(latencies.buckets().iter().map(|bucket| bucket.count).sum::<u64>(), 2);
        let most = latencies.summary().expect("times").max;
        assert!((most / 3.6e9 - 1.0).abs() < 0.001, "{most}");
    }

    #[test]
    fn times_are_displayed_with_three_digits() {
        for (microseconds, expected) in [
            (0.5, "0.50 us"),
            (83.04, "83.0 us"),
            (999.0, "999 us"),
            (1_250.0, "1.25 ms"),
            (12_500.0, "12.5 ms"),
            (3_600_000_000.0, "3600 s"),
        ] {
            assert_eq!(shown(microseconds), expected);
        }
    }
}
