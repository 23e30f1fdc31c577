//! Measurement of a case on every target in turn, and its results.

use std::time::{Duration, Instant};

use rantai_load::failure::Failure;
use rantai_load::spread::Spread;
use tempfile::TempDir;

use crate::options::Options;
use crate::target::{self, Cores, Server, Target};

/// Unit of a metric, which determines its format.
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

/// Column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
}

/// Goal for Rantai's broker.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::enum_variant_names, reason = "the aims are worded at most and at least")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// At most this many times the value of another target.
    AtMostTimes(f64, Target),
    /// At least this many times the value of another target.
    AtLeastTimes(f64, Target),
}

/// Goal for one metric of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CaseGoal {
    pub(crate) metric: usize,
    pub(crate) goal: Goal,
}

/// Kind of load, with the results of each target.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) label: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) aims: Vec<CaseGoal>,
}

/// Results of one target.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) target: Target,
    /// One summary per metric; empty if every round failed.
    pub(crate) summaries: Vec<Spread>,
    pub(crate) rounds: usize,
    pub(crate) failed: usize,
    /// Failure of the last failed round.
    pub(crate) failure: Option<Failure>,
}

/// Table of one scenario.
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
    /// Starts a new process without persistence.
    pub(crate) fn server(&self) -> Result<Server, Failure> {
        Server::start(self.target, None, Cores::Shared, self.deadline)
    }

    /// Same as [`server`](Self::server), on a core of its own.
    pub(crate) fn server_apart(&self) -> Result<Server, Failure> {
        Server::start(self.target, None, Cores::Apart, self.deadline)
    }

    /// Starts a process that persists its state in `directory`.
    pub(crate) fn durable_server(&self, directory: &TempDir) -> Result<Server, Failure> {
        Server::start(self.target, Some(directory.path()), Cores::Shared, self.deadline)
    }
}

/// Context of every scenario.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) options: Options,
}

impl Bench {
    /// Returns the brokers: Rantai's, mosquitto if it is installed, rumqttd if it is compiled in.
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

    /// Returns the brokers, and the TCP relay as the baseline.
    pub(crate) fn brokers_and_relay() -> Vec<Target> {
        [Self::brokers(), vec![Target::Relay]].concat()
    }

    /// Measures a case with the usual number of short rounds.
    pub(crate) fn short_case(
        &self,
        label: impl Into<String>,
        targets: &[Target],
        aims: Vec<CaseGoal>,
        measure: impl Fn(&Round) -> Result<Vec<f64>, Failure>,
    ) -> Case {
        let limit = self.options.sample() * 3 + Duration::from_secs(10);
        alternate(label, targets, self.options.rounds(), limit, aims, measure)
    }
}

/// Runs `measure` on each target in turn, `rounds` times, so that the load of other processes affects all of them.
pub(crate) fn alternate(
    label: impl Into<String>,
    targets: &[Target],
    rounds: usize,
    limit: Duration,
    aims: Vec<CaseGoal>,
    measure: impl Fn(&Round) -> Result<Vec<f64>, Failure>,
) -> Case {
    let label = label.into();
    let mut samples: Vec<Vec<Vec<f64>>> = vec![Vec::new(); targets.len()];
    let mut failures: Vec<Vec<Failure>> = vec![Vec::new(); targets.len()];
    for round in 1..=rounds {
        for (index, &target) in targets.iter().enumerate() {
            // A target that failed twice in a row is skipped, because its timeouts would add up.
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
