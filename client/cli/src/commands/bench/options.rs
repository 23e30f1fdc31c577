//! Options common to all runs of `rantai bench`, and the beginning and end of a run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rantai_client::Client;
use rantai_load::pace::{End, precisely};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::compare::Saved;
use super::load::{Measured, Plan, Stop, Ticket, run, stopped};
use super::report::Report;
use super::tally::{Done, Problem};
use crate::connection::{Broker, Connection, duration};
use crate::exit::{Exit, Failure};
use crate::signals::stop_signal;
use crate::terminal;

/// Maximum number of calls in flight of all clients together.
const MAX_CALLS_IN_FLIGHT: usize = 100_000;
/// Default size of a text, in bytes.
pub(super) const SIZE: usize = 60;

/// What every run may be told.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {
    /// Calls under way at the same time, of each client [default: 64; 1 for files]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) in_flight: Option<u16>,
    /// Begin this many calls per second, on time even if earlier ones have not ended; latencies count from the time a
    /// call is due
    #[arg(long, value_name = "CALLS", value_parser = rate)]
    rate: Option<f64>,
    /// Begin calls for this long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    duration: Duration,
    /// Begin this many calls instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "duration")]
    count: Option<u64>,
    /// Make calls for this long before, which are not counted; 0 for none
    #[arg(long, value_name = "TIME", value_parser = warmup, default_value = "500ms")]
    warmup: Duration,
    /// Every call ends within this time: 5, 5s or 500ms
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub(super) timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Keep the figures in this file
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Show every figure as a ratio to the one in this file
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// End with exit code 1 if the throughput is below this part of the one compared with
    #[arg(long, value_name = "RATIO", value_parser = ratio, requires = "compare")]
    fail_below: Option<f64>,
    #[command(flatten)]
    broker: Broker,
}

/// How many connections a run has, and what it sends.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Sending {
    /// Connections that call
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(super) clients: u16,
    /// Bytes of the text that is sent, where no other parameters are given [default: 60]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(super) size: Option<usize>,
    /// Delivery guarantee of the requests
    #[arg(long, value_name = "0|1", default_value = "1", value_parser = clap::value_parser!(u8).range(0..=1))]
    pub(super) qos: u8,
}

/// Run whose options have been checked, and which Ctrl-C interrupts.
pub(super) struct Run {
    pub(super) options: Options,
    pub(super) connection: Connection,
    saved: Option<Saved>,
    stop: Stop,
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.001..=10_000_000.0).contains(rate))
        .ok_or_else(|| format!("{text:?} is no number of calls a second from 0.001 to 10000000"))
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1_000.0).contains(ratio));
    ratio.ok_or_else(|| format!("{text:?} is no ratio; write 0.9 for 90 %"))
}

fn warmup(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

pub(super) fn size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| *size <= 1 << 20);
    size.ok_or_else(|| format!("{text:?} is no size from 0 to 1048576 bytes"))
}

/// Returns a text of this size in bytes.
pub(super) fn text(size: usize) -> String {
    "x".repeat(size)
}

impl Options {
    /// Reads the saved run to compare with, and installs the handler of Ctrl-C.
    pub(super) fn begin(self) -> Result<Run, Failure> {
        let failed = |error: std::io::Error| Failure::from_error(Exit::Failed, &error);
        let saved = self.compare.as_deref().map(Saved::load).transpose()?;
        let signal = stop_signal().map_err(failed)?;
        let (told, stop) = watch::channel(false);
        tokio::spawn(async move {
            signal.await;
            told.send_replace(true);
            // Keeps the sender alive, so that later receivers see the value too.
            std::future::pending::<()>().await;
        });
        let Self { broker, timeout, json, .. } = &self;
        let connection = Connection { broker: broker.clone(), timeout: Some(*timeout), json: *json };
        Ok(Run { connection, saved, stop, options: self })
    }

    fn end(&self) -> End {
        self.count.map_or(End::After(self.duration), End::Count)
    }
}

impl Run {
    pub(super) async fn clients(&self, count: u16) -> Result<Vec<Client>, Failure> {
        let connect = async {
            let mut clients = Vec::with_capacity(count.into());
            for _ in 0..count {
                clients.push(self.connection.client().await?);
            }
            Ok(clients)
        };
        self.unless_stopped(connect).await?
    }

    /// Runs `doing`, which precedes all measuring; fails if it is interrupted.
    pub(super) async fn unless_stopped<T>(&self, doing: impl Future<Output = T>) -> Result<T, Failure> {
        let mut stop = self.stop.clone();
        tokio::select! {
            done = doing => Ok(done),
            () = stopped(&mut stop) => Err(Failure::new(Exit::Cancelled, "stopped before anything was measured")),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    pub(super) fn in_flight(&self, otherwise: u16) -> usize {
        self.options.in_flight.unwrap_or(otherwise).into()
    }

    /// Makes calls: first those of the warm-up, which are not counted, then `anew`, then those that are counted. Returns the
    /// results, and the number of failed calls in the warm-up.
    pub(super) async fn measure<F: Future<Output = Result<Done, Problem>> + Send + 'static>(
        &self,
        workers: usize,
        anew: impl FnOnce(),
        call: impl Fn(Ticket) -> F + Send + Sync + 'static,
    ) -> Result<(Measured, u64), Failure> {
        if workers > MAX_CALLS_IN_FLIGHT {
            let text = format!(
                "{workers} calls at the same time; at most {MAX_CALLS_IN_FLIGHT} of all clients together"
            );
            return Err(Failure::new(Exit::Usage, text));
        }
        let (mut stop, call) = (self.stop.clone(), Arc::new(call));
        let Options { rate, warmup, timeout, .. } = self.options;
        let plan = Plan { workers, rate, end: self.options.end(), patience: timeout };
        let mut lost = 0;
        if !warmup.is_zero() {
            let warm = Plan { end: End::After(warmup), ..plan };
            lost = run(&warm, &mut stop, precisely, call.clone()).await.tally.failed;
        }
        anew();
        Ok((run(&plan, &mut stop, precisely, call).await, lost))
    }

    /// Returns the settings of the run, for the report.
    pub(super) fn settings(&self, in_flight: usize, clients: u16) -> Map<String, Value> {
        let Options { rate, duration, count, warmup, timeout, .. } = &self.options;
        let seconds = count.is_none().then_some(duration.as_secs_f64());
        let settings = json!({
            "in_flight": in_flight,
            "clients": clients,
            "rate": rate,
            "duration_s": seconds,
            "count": count,
            "warmup_s": warmup.as_secs_f64(),
            "timeout_s": timeout.as_secs_f64(),
        });
        match settings {
            Value::Object(settings) => settings,
            _ => Map::new(),
        }
    }

    pub(super) fn shown(&self) -> String {
        self.connection.broker.shown()
    }

    /// Prints the report, saves it, and compares it; fails if every call failed, or if the run was slower than allowed.
    pub(super) fn conclude(&self, report: &Report) -> Result<(), Failure> {
        self.tell(report.json(), &report.text(), report.succeeded(), report.total())
    }

    pub(super) fn tell(
        &self,
        mut told: Value,
        text: &str,
        succeeded: u64,
        total: u64,
    ) -> Result<(), Failure> {
        let saved = match &self.options.save {
            None => Ok(()),
            Some(file) => std::fs::write(file, format!("{told:#}\n")).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot write {}: {error}", file.display()))
            }),
        };
        let comparison = self.saved.as_ref().map(|saved| saved.compare(&told));
        if self.connection.json {
            if let Some(comparison) = &comparison {
                told["compared"] = comparison.json();
            }
            terminal::print_json(&told);
        } else {
            terminal::print_text(text.trim_end());
            if let Some(comparison) = &comparison {
                terminal::print_text(&format!("\n{}", comparison.text().trim_end()));
            }
        }
        saved.map_err(Failure::shown)?;
        if total > 0 && succeeded == 0 {
            return Err(Failure::new(Exit::Failed, format!("all {total} calls failed")).shown());
        }
        match (&comparison, self.options.fail_below) {
            (Some(comparison), Some(least)) => comparison.check(least).map_err(Failure::shown),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_numbers_of_options_are_refused() {
        assert_eq!(rate("2500.5"), Ok(2_500.5));
        assert_eq!(ratio("0.9"), Ok(0.9));
        assert_eq!(warmup("0"), Ok(Duration::ZERO));
        assert_eq!(warmup("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(size("1024"), Ok(1_024));
        for text in ["", "0", "-1", "NaN", "inf", "1e9"] {
            assert!(rate(text).is_err(), "{text}");
        }
        for text in ["", "-0.1", "NaN", "90%"] {
            assert!(ratio(text).is_err(), "{text}");
        }
        assert!(size("1048577").is_err() && size("-1").is_err() && warmup("-1").is_err());
    }
}
