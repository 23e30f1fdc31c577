//! Report of a run: for people, and as one JSON object whose names are stable.

use std::fmt::Write as _;

use rantai_load::latencies::{Latencies, Summary, shown};
use serde_json::{Map, Value, json};

use super::load::Measured;
use super::plot::draw;
use super::tally::{Errors, Tally};

/// Maximum length of a line of a report, in characters.
const COLUMNS: usize = 80;

/// Report of a run.
#[derive(Debug)]
pub(super) struct Report {
    /// Name of the subcommand.
    pub(super) bench: &'static str,
    /// Target of the calls.
    pub(super) what: String,
    pub(super) broker: String,
    /// Settings of the run.
    pub(super) settings: Map<String, Value>,
    pub(super) measured: Measured,
    /// Number of calls that failed during the warm-up.
    pub(super) warmup_errors: u64,
    /// Additional numbers of this load.
    pub(super) figures: Vec<Figure>,
    /// Additional latencies of this load.
    pub(super) times: Vec<Times>,
}

/// Named number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// Name in JSON.
    pub(super) name: &'static str,
    /// Label for people.
    pub(super) label: &'static str,
    pub(super) value: f64,
}

/// Named latencies.
#[derive(Clone, Debug)]
pub(super) struct Times {
    /// Name in JSON.
    pub(super) name: &'static str,
    /// Label for people.
    pub(super) label: &'static str,
    pub(super) latencies: Latencies,
}

impl Report {
    fn tally(&self) -> &Tally {
        &self.measured.tally
    }

    pub(super) fn succeeded(&self) -> u64 {
        self.tally().succeeded
    }

    pub(super) fn total(&self) -> u64 {
        self.tally().succeeded + self.tally().failed
    }

    pub(super) fn seconds(&self) -> f64 {
        self.measured.took.as_secs_f64()
    }

    /// Returns the number of successful calls per second.
    pub(super) fn throughput(&self) -> f64 {
        self.per_second(self.succeeded() as f64)
    }

    pub(super) fn per_second(&self, count: f64) -> f64 {
        let seconds = self.seconds();
        if seconds > 0.0 { count / seconds } else { 0.0 }
    }

    pub(super) fn latency(&self) -> Option<Summary> {
        self.tally().latencies.summary()
    }

    /// Returns how late calls began; `None` without a rate, as calls were not due at a time then.
    fn late(&self) -> Option<Summary> {
        self.settings.get("rate").filter(|rate| !rate.is_null())?;
        self.tally().late.summary()
    }

    /// Returns the report as JSON. Runs are compared by `figures`, which maps each name to one number.
    pub(super) fn json(&self) -> Value {
        let tally = self.tally();
        let mut figures = Map::new();
        figures.insert("throughput".to_owned(), json!(self.throughput()));
        for figure in &self.figures {
            figures.insert(figure.name.to_owned(), json!(figure.value));
        }
        let summary = |summary: Option<Summary>| summary.map_or(Value::Null, Summary::json);
        for (name, value) in self.latency().into_iter().flat_map(Summary::figures) {
            figures.insert(format!("{name}_us"), json!(value));
        }
        let mut told = json!({
            "v": 1,
            "bench": self.bench,
            "what": self.what,
            "broker": self.broker,
            "settings": self.settings,
            "count": self.total(),
            "succeeded": tally.succeeded,
            "failed": tally.failed,
            "errors": tally.errors_json(),
            "warmup_errors": self.warmup_errors,
            "interrupted": self.measured.interrupted,
            "seconds": self.seconds(),
            "throughput": self.throughput(),
            "latency_us": summary(self.latency()),
            "late_us": summary(self.late()),
            "histogram": tally.latencies.buckets().iter()
                .map(|bucket| json!({"up_to_us": bucket.end() as f64 / 1000.0, "count": bucket.count}))
                .collect::<Value>(),
            "nodes": tally.nodes,
            "figures": figures,
        });
        for times in &self.times {
            told[times.name] = summary(times.latencies.summary());
        }
        told
    }

    /// Returns the report for people: no line is longer than 80 characters, unless a name in it is.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} {} on {}\n", self.bench, self.what, self.broker);
        let _ = writeln!(text, "{}\n", self.settings_text());
        let tally = self.tally();
        let line = |text: &mut String, label: &str, value: &str| {
            let _ = writeln!(text, "{label:<18}{value}");
        };
        let failed =
            if tally.failed > 0 { format!(", {} of them failed", tally.failed) } else { String::new() };
        line(&mut text, "Total requests", &format!("{}{failed}", self.total()));
        let early = if self.measured.interrupted { ", ended early" } else { "" };
        line(&mut text, "Total time", &format!("{:.3} s{early}", self.seconds()));
        line(&mut text, "Throughput", &format!("{} a second", number(self.throughput())));
        for figure in &self.figures {
            line(&mut text, figure.label, &number(figure.value));
        }
        if self.warmup_errors > 0 {
            line(&mut text, "Before", &format!("{} calls of the warm-up failed", self.warmup_errors));
        }
        if !tally.nodes.is_empty() {
            text.push_str("\nAnswered by\n");
            for (node, count) in &tally.nodes {
                let _ = writeln!(text, "  {count:>12}  {node}");
            }
        }
        if !tally.errors.is_empty() {
            text.push_str("\nErrors\n");
            for (kind, Errors { count, example }) in &tally.errors {
                let line = format!("  {count:>12}  {kind}: {example}");
                let _ = writeln!(text, "{}", line.chars().take(COLUMNS - 1).collect::<String>());
            }
        }
        let mut summaries = vec![("Latency", self.latency())];
        summaries.extend(self.times.iter().map(|times| (times.label, times.latencies.summary())));
        summaries.push(("Begun late by", self.late()));
        summaries.retain(|(_, summary)| summary.is_some());
        if !summaries.is_empty() {
            let _ = writeln!(text, "\n{:<18}{}", "", row(["p50", "p90", "p99", "p99.9", "max"]));
        }
        for (label, summary) in summaries {
            let Some(Summary { p50, p90, p99, p999, max, .. }) = summary else { continue };
            let times = [p50, p90, p99, p999, max].map(shown);
            let _ = writeln!(text, "{label:<18}{}", row(times.each_ref().map(String::as_str)));
        }
        let drawing = draw(&tally.latencies.buckets());
        if !drawing.is_empty() {
            let _ = writeln!(text, "\n{}", drawing.join("\n"));
        }
        text
    }

    /// Formats the settings for people.
    pub(super) fn settings_text(&self) -> String {
        let get = |name: &str| self.settings.get(name).filter(|value| !value.is_null());
        let mut parts = Vec::new();
        if let Some(in_flight) = get("in_flight") {
            parts.push(format!("{in_flight} in flight"));
        }
        for (name, one, many) in [
            ("clients", "client", "clients"),
            ("publishers", "publisher", "publishers"),
            ("subscribers", "subscriber", "subscribers"),
        ] {
            if let Some(count) = get(name) {
                parts.push(format!("{count} {}", if *count == 1 { one } else { many }));
            }
        }
        if let Some(qos) = get("qos") {
            parts.push(format!("QoS {qos}"));
        }
        if let Some(size) = get("size") {
            parts.push(format!("{size} bytes"));
        }
        if let Some(rate) = get("rate").and_then(Value::as_f64) {
            parts.push(format!("{} a second", number(rate)));
        }
        parts.join(", ")
    }
}

/// Formats a row of five columns.
fn row(cells: [&str; 5]) -> String {
    cells.iter().fold(String::new(), |line, cell| line + &format!("{cell:>12}"))
}

/// Formats a number for people: whole numbers unchanged, others with one digit after the point, or three if below 10.
pub(super) fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        format!("{value:.0}")
    } else if value.abs() < 10.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::tally::{Done, Problem};
    use super::*;

    /// A thousand calls in two seconds, of 1 to 1000 us; ten more failed.
    pub(in super::super) fn report() -> Report {
        let mut tally = Tally::new();
        let due = Instant::now();
        for us in 1..=1_000 {
            let node = Some(if us % 4 == 0 { "one" } else { "two" }.to_owned());
            tally.begun(due, due);
            tally.ended(due, due + Duration::from_micros(us), Ok(Done { node, bytes: 0 }));
        }
        tally.problem(&Problem::new("busy", "y".repeat(300)), 10);
        let settings = json!({"in_flight": 64, "clients": 1, "rate": null, "qos": 1, "size": 60});
        Report {
            bench: "call",
            what: "echo.echo".to_owned(),
            broker: "mqtt://localhost:1883".to_owned(),
            settings: settings.as_object().expect("an object").clone(),
            measured: Measured { tally, took: Duration::from_secs(2), interrupted: false },
            warmup_errors: 0,
            figures: vec![Figure { name: "mib_per_second", label: "MiB a second", value: 12.5 }],
            times: vec![Times { name: "stored_us", label: "Stored", latencies: Latencies::new() }],
        }
    }

    #[test]
    fn json_report_has_stable_names() {
        let told = report().json();
        let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        let mut found = names(&told);
        found.sort_unstable();
        let expected = [
            "bench",
            "broker",
            "count",
            "errors",
            "failed",
            "figures",
            "histogram",
            "interrupted",
            "late_us",
            "latency_us",
            "nodes",
            "seconds",
            "settings",
            "stored_us",
            "succeeded",
            "throughput",
            "v",
            "warmup_errors",
            "what",
        ];
        assert_eq!(found, expected);
        let mut figures = names(&told["figures"]);
        figures.sort_unstable();
        let expected = [
            "max_us",
            "mean_us",
            "mib_per_second",
            "min_us",
            "p50_us",
            "p90_us",
            "p999_us",
            "p99_us",
            "throughput",
        ];
        assert_eq!(figures, expected);
        assert_eq!(
            (&told["count"], &told["succeeded"], &told["failed"]),
            (&json!(1_010), &json!(1_000), &json!(10))
        );
        assert_eq!((&told["seconds"], &told["throughput"]), (&json!(2.0), &json!(500.0)));
        assert_eq!(told["errors"]["busy"]["count"], 10);
        assert_eq!(told["nodes"], json!({"one": 250, "two": 750}));
        assert_eq!((&told["stored_us"], &told["late_us"]), (&Value::Null, &Value::Null), "there were none");
        let counted: u64 =
            told["histogram"].as_array().expect("a list").iter().filter_map(|b| b["count"].as_u64()).sum();
        assert_eq!(counted, 1_000);
    }

    #[test]
    fn text_report_fits_80_columns() {
        let text = report().text();
        for part in [
            "call echo.echo on mqtt://localhost:1883\n64 in flight, 1 client, QoS 1, 60 bytes\n",
            "Total requests    1010, 10 of them failed\n",
            "Total time        2.000 s\n",
            "Throughput        500 a second\n",
            "MiB a second      12.5\n",
            "           250  one\n           750  two\n",
            "            10  busy: yyy",
            "         p50         p90         p99       p99.9         max\n",
            "Latency                 500 us      900 us      990 us",
            "  <=  1.00 ms  ####",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(!text.contains("Stored") && !text.contains("late") && !text.contains("warm-up"), "{text}");
        for line in text.lines() {
            assert!(
                line.len() < COLUMNS && line.chars().all(|c| c.is_ascii() && !c.is_control()),
                "{line:?}"
            );
        }
    }

    #[test]
    fn run_without_calls_is_reported() {
        let mut empty = report();
        empty.measured = Measured { tally: Tally::new(), took: Duration::ZERO, interrupted: true };
        empty.settings.insert("rate".to_owned(), json!(100.0));
        empty.warmup_errors = 3;
        let text = empty.text();
        assert!(text.contains("Total requests    0\n") && text.contains("0.000 s, ended early\n"), "{text}");
        assert!(text.contains("3 calls of the warm-up failed") && text.contains("100 a second"), "{text}");
        let told = empty.json();
        assert_eq!((&told["throughput"], &told["latency_us"]), (&json!(0.0), &Value::Null));
        assert_eq!(told["histogram"], json!([]));
    }
}
