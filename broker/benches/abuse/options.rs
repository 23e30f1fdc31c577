//! Command-line options.

use std::path::PathBuf;
use std::time::Duration;

/// Text for `--help`, and after an error.
pub(crate) const USAGE: &str = "\
usage: cargo bench -p rantai-broker --bench abuse -- [OPTIONS]

  --scenario NAME  the one of this name, or all whose names contain NAME; prints the report
  --seconds N      how long each attack lasts: 5
  --rounds N       pairs of measurements of each scenario: 3
  --after N        seconds from the end of an attack until the broker is weighed: 60
  --quick          each attack once, for a second, and weighed after 3 seconds; prints the report
  --mosquitto      mosquitto takes part, with its defaults
  --binary PATH    `rantai` as built of some revision, instead of this one's broker
  --list           names the scenarios

Without --scenario, --quick and --binary the report is written to docs/abuse.md. Fails where an honest client of ours lost a
message or was refused, or a descriptor was left.";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) scenario: Option<String>,
    pub(crate) lasts: Duration,
    pub(crate) rounds: usize,
    pub(crate) after: Duration,
    quick: bool,
    pub(crate) mosquitto: bool,
    pub(crate) binary: Option<PathBuf>,
    pub(crate) list: bool,
}

impl Options {
    /// Parses the arguments; an unknown one is an error.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            scenario: None,
            lasts: Duration::from_secs(5),
            rounds: 3,
            after: Duration::from_mins(1),
            quick: false,
            mosquitto: false,
            binary: None,
            list: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--scenario" => options.scenario = Some(value()?),
                "--seconds" => options.lasts = seconds(&argument, &value()?)?,
                "--rounds" => options.rounds = count(&argument, &value()?)?,
                "--after" => options.after = seconds(&argument, &value()?)?,
                "--quick" => {
                    options.quick = true;
                    options.rounds = 1;
                    options.lasts = Duration::from_secs(1);
                    options.after = Duration::from_secs(3);
                }
                "--mosquitto" => options.mosquitto = true,
                "--binary" => options.binary = Some(value()?.into()),
                "--list" => options.list = true,
                // Cargo passes it to every benchmark.
                "--bench" => {}
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(options)
    }

    /// Returns the arguments after `--` that select the measurements.
    pub(crate) fn shown(&self) -> String {
        let mosquitto = self.mosquitto.then(|| "--mosquitto".to_owned());
        let binary = self.binary.as_ref().map(|binary| format!("--binary {}", binary.display()));
        let shown: Vec<_> = mosquitto.into_iter().chain(binary).collect();
        if shown.is_empty() { String::new() } else { format!(" -- {}", shown.join(" ")) }
    }

    /// Returns whether the report replaces the one in docs/abuse.md.
    pub(crate) fn writes_report(&self) -> bool {
        !self.quick && self.scenario.is_none() && self.binary.is_none()
    }
}

fn seconds(option: &str, text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("{option}: expected seconds, got '{text}'"))
}

fn count(option: &str, text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("{option}: expected a number from 1 on, got '{text}'"))
}
