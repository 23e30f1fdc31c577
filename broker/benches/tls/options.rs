//! Command-line options.

use std::time::Duration;

/// Text for `--help`, and after an error.
pub(crate) const USAGE: &str = "\
usage: cargo bench -p rantai-broker --bench tls -- [OPTIONS]

  --seconds N   how long each measurement counts: 1
  --rounds N    rounds of all of them, in turn for each broker: 5
  --only NAME   calls, latency, handshakes, idle or flood: 0 for the others
  --quick       one round of 0.25 seconds

mosquitto takes part where it is installed. Prints the report.";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) sample: Duration,
    pub(crate) rounds: usize,
    only: Option<String>,
}

impl Options {
    /// Parses the arguments; an unknown one is an error.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { sample: Duration::from_secs(1), rounds: 5, only: None };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--seconds" => {
                    let seconds = value()?;
                    let sample = seconds.parse().ok().and_then(|it| Duration::try_from_secs_f64(it).ok());
                    options.sample = sample.ok_or_else(|| format!("expected seconds, got '{seconds}'"))?;
                }
                "--rounds" => {
                    let rounds = value()?;
                    let count = rounds.parse().ok().filter(|count| *count > 0);
                    options.rounds =
                        count.ok_or_else(|| format!("expected a number from 1 on, got '{rounds}'"))?;
                }
                "--only" => options.only = Some(value()?),
                "--quick" => {
                    options.sample = Duration::from_millis(250);
                    options.rounds = 1;
                }
                // Cargo passes it to every benchmark.
                "--bench" => {}
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(options)
    }

    /// Returns whether a part of this name is to be measured.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(&**only))
    }
}
