//! `rantai bench replicas`: measures the same load on one node, on two, and so on.

use std::fmt::Write as _;
use std::path::PathBuf;

use rantai_client::wire::name::ObjectName;
use rantai_load::latencies::{Summary, shown};
use serde_json::{Map, Value, json};

use super::call::Repeated;
use super::nodes::{Nodes, Serving};
use super::options::{Options, Run, Sending};
use super::report::Report;
use super::tally::Errors;
use crate::configurations::Loaded;
use crate::exit::{Exit, Failure};

/// Width of a report, in characters.
const COLUMNS: usize = 80;

/// Call an object that one node serves, then two, and so on
///
/// Starts the nodes itself, as processes that end with it. Prints how much faster several are than one.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rantai bench replicas                                     echo.echo on 1, 2 and 3 nodes
  rantai bench replicas calculator.add 2 3 --replicas 1,4
  rantai bench replicas shop.buy Dune --config my-objects.toml --with stock
")]
pub(super) struct Replicas {
    /// The object and its method, as in calculator.add
    #[arg(value_name = "OBJECT.METHOD", default_value = "echo.echo")]
    pub(super) target: String,
    /// Parameters, as for `rantai call`
    #[arg(value_name = "ARGS", allow_negative_numbers = true, conflicts_with = "size")]
    pub(super) arguments: Vec<String>,
    /// How many nodes serve it, one run after the other
    #[arg(long = "replicas", value_name = "N,…", value_delimiter = ',', default_value = "1,2,3",
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(super) counts: Vec<u8>,
    /// Objects in TOML: the path of a file, or the name of a built-in configuration
    #[arg(long, value_name = "FILE|NAME", env = "RANTAI_NODES", hide_env_values = true)]
    pub(super) config: Option<PathBuf>,
    /// Another object of the configuration that every node serves
    #[arg(long, value_name = "NAME")]
    pub(super) with: Vec<String>,
    /// Another object of the configuration that one node serves during all runs
    #[arg(long, value_name = "NAME")]
    pub(super) beside: Vec<String>,
    #[command(flatten)]
    pub(super) sending: Sending,
    #[command(flatten)]
    pub(super) options: Options,
}

/// Run on a number of nodes.
struct Scaled {
    replicas: u8,
    report: Report,
}

/// Runs on all numbers of nodes.
struct Scaling {
    what: String,
    broker: String,
    settings: Map<String, Value>,
    runs: Vec<Scaled>,
    interrupted: bool,
}

impl Replicas {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let repeated = Repeated::new(&self.target, &self.arguments, &self.sending)?;
        let mut run = self.options.clone().begin()?;
        if let Some(file) = &self.config {
            run.connection.broker.complete(&Loaded::read(Some(file), None)?.config);
        }
        let run = run;
        nobody_else(&run, &repeated.object).await?;
        let mut objects = vec![repeated.object.clone()];
        objects.extend(self.with.iter().filter(|name| **name != repeated.object).cloned());
        let serving = |objects: Vec<String>, replica: bool| Serving {
            objects,
            config: self.config.clone(),
            replica,
            broker: run.connection.broker.clone(),
        };
        let beside = match &self.beside[..] {
            [] => None,
            names => Some(run.unless_stopped(Nodes::start(&serving(names.to_vec(), false), 1)).await??),
        };
        let measured = self.measure(&run, &repeated, &serving(objects, true)).await;
        if let Some(beside) = beside {
            beside.end().await;
        }
        let scaling = measured?;
        let (succeeded, total) = scaling.worst();
        run.tell(scaling.json(), &scaling.text(), succeeded, total)
    }

    async fn measure(&self, run: &Run, repeated: &Repeated, serving: &Serving) -> Result<Scaling, Failure> {
        let mut runs: Vec<Scaled> = Vec::new();
        let mut settings = Map::new();
        for &replicas in &self.counts {
            match self.once(run, repeated, serving, replicas).await {
                Ok(report) => {
                    settings.clone_from(&report.settings);
                    runs.push(Scaled { replicas, report });
                }
                // Interrupted, but there is something to report.
                Err(_) if run.is_stopped() && !runs.is_empty() => {}
                Err(failure) => return Err(failure),
            }
            if run.is_stopped() {
                break;
            }
        }
        settings.insert("replicas".to_owned(), json!(self.counts));
        let interrupted = run.is_stopped();
        Ok(Scaling { what: self.target.clone(), broker: run.shown(), settings, runs, interrupted })
    }

    async fn once(
        &self,
        run: &Run,
        repeated: &Repeated,
        serving: &Serving,
        replicas: u8,
    ) -> Result<Report, Failure> {
        let nodes = run.unless_stopped(Nodes::start(serving, replicas.into())).await??;
        let report = repeated.report(run, "replicas", self.target.clone(), &self.sending).await;
        nodes.end().await;
        report
    }
}

/// Fails if another node serves the object already, as it would get a part of the calls.
async fn nobody_else(run: &Run, object: &str) -> Result<(), Failure> {
    let name = ObjectName::new(object).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
    let client = run.unless_stopped(run.connection.client()).await??;
    let found = client.registry().find(&name).await.map_err(|error| run.connection.failed(&error))?;
    let holder = found.served(&name).next().map(|entry| entry.node.clone());
    client.close().await;
    match holder {
        None => Ok(()),
        Some(node) => {
            let text =
                format!("{object} is served by node {node} already, which would answer too; end it first");
            Err(Failure::new(Exit::Failed, text))
        }
    }
}

impl Scaling {
    fn one(&self) -> Option<f64> {
        let one = self.runs.iter().find(|run| run.replicas == 1)?.report.throughput();
        (one > 0.0).then_some(one)
    }

    /// Returns the throughput relative to that of one node, if that was measured.
    fn speedup(&self, run: &Scaled) -> Option<f64> {
        Some(run.report.throughput() / self.one()?)
    }

    /// Returns the number of calls that succeeded, and of all calls, of the run with the fewest successes.
    fn worst(&self) -> (u64, u64) {
        let counts = self.runs.iter().map(|run| (run.report.succeeded(), run.report.total()));
        counts.filter(|(_, total)| *total > 0).min().unwrap_or_default()
    }

    fn json(&self) -> Value {
        let (mut runs, mut figures) = (Vec::new(), Map::new());
        for run in &self.runs {
            let mut told = run.report.json();
            if let Some(known) = told["figures"].as_object() {
                for (name, value) in known {
                    figures.insert(format!("{name}_{}", run.replicas), value.clone());
                }
            }
            let speedup = self.speedup(run);
            if let Some(speedup) = speedup {
                figures.insert(format!("speedup_{}", run.replicas), json!(speedup));
            }
            told["replicas"] = json!(run.replicas);
            told["speedup"] = json!(speedup);
            runs.push(told);
        }
        json!({
            "v": 1,
            "bench": "replicas",
            "what": self.what,
            "broker": self.broker,
            "settings": self.settings,
            "interrupted": self.interrupted,
            "runs": runs,
            "figures": figures,
        })
    }

    fn text(&self) -> String {
        let mut text = format!("replicas {} on {}\n", self.what, self.broker);
        if let Some(run) = self.runs.first() {
            let _ = writeln!(text, "{}\n", run.report.settings_text());
        }
        let head =
            ["Replicas", "Total requests", "Total time", "Throughput", "p50", "p90", "p99", "Speed-up"];
        text.push_str(&row(head.map(ToOwned::to_owned)));
        for run in &self.runs {
            let report = &run.report;
            let times = report.latency().map(|Summary { p50, p90, p99, .. }| [p50, p90, p99]);
            let [p50, p90, p99] = times.map_or([(); 3].map(|()| "-".to_owned()), |times| times.map(shown));
            let speedup = self.speedup(run).map_or("-".to_owned(), |speedup| format!("{speedup:.2}"));
            text.push_str(&row([
                run.replicas.to_string(),
                report.total().to_string(),
                format!("{:.3} s", report.seconds()),
                format!("{:.0}/s", report.throughput()),
                p50,
                p90,
                p99,
                speedup,
            ]));
        }
        for run in &self.runs {
            let tally = &run.report.measured.tally;
            let _ = writeln!(text, "\n{} {}", run.replicas, if run.replicas == 1 { "node" } else { "nodes" });
            for (node, count) in &tally.nodes {
                let _ = writeln!(text, "  {count:>12}  {node}");
            }
            for (kind, Errors { count, example }) in &tally.errors {
                let line = format!("  {count:>12}  {kind}: {example}");
                let _ = writeln!(text, "{}", line.chars().take(COLUMNS - 1).collect::<String>());
            }
        }
        if self.interrupted {
            text.push_str("\nended early\n");
        }
        text
    }
}

fn row([replicas, requests, time, throughput, p50, p90, p99, speedup]: [String; 8]) -> String {
    format!("{replicas:>8}{requests:>15}{time:>11}{throughput:>11}{p50:>8}{p90:>8}{p99:>8}{speedup:>10}\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::load::Measured;
    use super::super::report::tests::report;
    use super::super::tally::Tally;
    use super::*;

    fn scaling(runs: &[(u8, u64)]) -> Scaling {
        let runs = runs.iter().map(|(replicas, seconds)| {
            let mut report = report();
            report.measured.took = Duration::from_secs(*seconds);
            Scaled { replicas: *replicas, report }
        });
        let runs = runs.collect();
        Scaling {
            what: "echo.echo".into(),
            broker: "mqtt://localhost".into(),
            settings: Map::new(),
            runs,
            interrupted: false,
        }
    }

    #[test]
    fn speed_up_is_relative_to_one_node() {
        let told = scaling(&[(3, 5), (1, 10)]).json();
        assert_eq!((&told["runs"][0]["speedup"], &told["runs"][1]["speedup"]), (&json!(2.0), &json!(1.0)));
        assert_eq!(
            (&told["figures"]["throughput_3"], &told["figures"]["speedup_3"]),
            (&json!(200.0), &json!(2.0))
        );
        assert_eq!(told["figures"]["p99_us_1"], told["runs"][1]["latency_us"]["p99"]);
        let told = scaling(&[(2, 5), (3, 10)]).json();
        assert_eq!(told["runs"][0]["speedup"], Value::Null, "one was not measured");
        assert!(told["figures"].get("speedup_2").is_none());
    }

    #[test]
    fn the_table_fits_on_80_columns() {
        let text = scaling(&[(1, 10), (2, 5), (64, 3_599)]).text();
        for part in [
            "Replicas Total requests Total time Throughput",
            "\n       1           1010   10.000 s      100/s  500 us  900 us  990 us      1.00\n",
            "\n       2           1010    5.000 s      200/s  500 us  900 us  990 us      2.00\n",
            "\n1 node\n           250  one\n           750  two\n            10  busy: yyy",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(text.lines().all(|line| line.len() < COLUMNS), "{text}");
    }

    #[test]
    fn run_without_successful_calls_is_visible_in_the_report() {
        let mut scaling = scaling(&[(1, 10), (2, 5)]);
        assert_eq!(scaling.worst(), (1_000, 1_010));
        let mut tally = Tally::new();
        tally.problem(&super::super::tally::Problem::new("busy", ""), 7);
        scaling.runs[1].report.measured = Measured { tally, took: Duration::from_secs(1), interrupted: true };
        scaling.interrupted = true;
        assert_eq!(scaling.worst(), (0, 7));
        let text = scaling.text();
        assert!(
            text.contains(" -       -       -      0.00\n") && text.ends_with("\nended early\n"),
            "{text}"
        );
    }
}
