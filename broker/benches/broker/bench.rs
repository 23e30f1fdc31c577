//! Running one case on every target in turn, and what comes of it.

use std::time::{Duration, Instant};

use rantai_load::failure::Failure;
use rantai_load::spread::Spread;
use tempfile::TempDir;

use crate::options::Options;
use crate::target::{self, Cores, Server, Target};

/// What a metric counts, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Micros,
    Seconds,
    PerSecond,
    KiB,
    MiB,
    Bytes,
    Count,
    Ratio,
}

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
}

/// What our broker should reach.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::enum_variant_names, reason = "the aims are worded at most and at least")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// At most so many times another target's value.
    AtMostTimes(f64, Target),
    /// At least so many times another target's value.
    AtLeastTimes(f64, Target),
}

/// A goal for one metric of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    pub(crate) metric: usize,
    pub(crate) goal: Goal,
}

/// One way of loading the targets, with what each of them did.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) label: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) aims: Vec<Aim>,
}

/// One target's rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) target: Target,
    /// One per metric; empty when every round failed.
    pub(crate) summaries: Vec<Spread>,
    pub(crate) rounds: usize,
    pub(crate) failed: usize,
    /// Why the last of the failed rounds failed.
    pub(crate) failure: Option<Failure>,
}

/// One scenario's part of the report.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) title: &'static str,
    pub(crate) text: String,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) cases: Vec<Case>,
}

/// One measurement of one target.
pub(crate) struct Round {
    pub(crate) target: Target,
    pub(crate) deadline: Instant,
}

impl Round {
    /// Starts a fresh process that keeps all in memory.
    pub(crate) fn server(&self) -> Result<Server, Failure> {
        Server::start(self.target, None, Cores::Shared, self.deadline)
    }

    /// The same, on a core of its own.
    pub(crate) fn server_apart(&self) -> Result<Server, Failure> {
        Server::start(self.target, None, Cores::Apart, self.deadline)
    }

    /// Starts a process that keeps its state in `directory`.
    pub(crate) fn durable_server(&self, directory: &TempDir) -> Result<Server, Failure> {
        Server::start(self.target, Some(directory.path()), Cores::Shared, self.deadline)
    }
}

/// What every scenario is given.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) options: Options,
}

impl Bench {
    /// The brokers there are: ours always, mosquitto if it is installed, rumqttd if it is compiled in.
    pub(crate) fn brokers() -> Vec<Target> {
        let mut brokers = vec![Target::Rantai];
        if target::mosquitto().is_some() {
            brokers.push(Target::Mosquitto);
        }
        if cfg!(feature = "rumqttd") {
            brokers.push(Target::Rumqttd);
        }
        brokers
    }

    /// The brokers, and the TCP relay to compare them with.
    pub(crate) fn brokers_and_relay() -> Vec<Target> {
        [Self::brokers(), vec![Target::Relay]].concat()
    }

    /// A case of the usual number of short rounds.
    pub(crate) fn short_case(
        &self,
        label: impl Into<String>,
        targets: &[Target],
        aims: Vec<Aim>,
        measure: impl Fn(&Round) -> Result<Vec<f64>, Failure>,
    ) -> Case {
        let limit = self.options.sample() * 3 + Duration::from_secs(10);
        alternate(label, targets, self.options.rounds(), limit, aims, measure)
    }
}

/// Runs `measure` on each target in turn, `rounds` times over: what else the machine does in the
/// meantime then falls on all of them alike.
pub(crate) fn alternate(
    label: impl Into<String>,
    targets: &[Target],
    rounds: usize,
    limit: Duration,
    aims: Vec<Aim>,
    measure: impl Fn(&Round) -> Result<Vec<f64>, Failure>,
) -> Case {
    let label = label.into();
    let mut samples: Vec<Vec<Vec<f64>>> = vec![Vec::new(); targets.len()];
    let mut failures: Vec<Vec<Failure>> = vec![Vec::new(); targets.len()];
    for round in 1..=rounds {
        for (index, &target) in targets.iter().enumerate() {
            // A target that failed twice running will fail again, and its time limits would add up.
            if failures[index].len() >= 2 && samples[index].is_empty() {
                continue;
            }
            let started = Instant::now();
            let outcome = measure(&Round { target, deadline: started + limit });
            let shown = match &outcome {
                Ok(values) => format!("{values:.1?}"),
                Err(failure) => format!("failed: {failure}"),
            };
            let taken = started.elapsed().as_secs_f64();
            eprintln!("  {label}, round {round} of {rounds}, {target}: {shown} in {taken:.1} s");
            match outcome {
                Ok(values) => samples[index].push(values),
                Err(failure) => failures[index].push(failure),
            }
        }
    }
    let rows = targets.iter().zip(samples).zip(failures).map(|((&target, samples), mut failures)| {
        let metrics = samples.first().map_or(0, Vec::len);
        let column = |metric: usize| samples.iter().map(|values| values[metric]).collect::<Vec<_>>();
        Row {
            target,
            summaries: (0..metrics).filter_map(|metric| Spread::of(&column(metric))).collect(),
            rounds,
            failed: failures.len(),
            failure: failures.pop(),
        }
    });
    Case { label, rows: rows.collect(), aims }
}
