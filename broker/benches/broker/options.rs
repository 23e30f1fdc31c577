//! Command-line options, and the amount of work in each mode.

use std::time::Duration;

/// Text for `--help`, and after an error.
pub(crate) const USAGE: &str = "\
usage: cargo bench -p rantai-broker -- [--quick | --full] [--only NAME]

  --quick      every scenario, small and once: under two minutes; prints the report
  --full       more rounds, longer samples, idle connections for five minutes
  --only NAME  scenarios whose name contains NAME; prints the report

Without --quick and --only the report is written to docs/performance.md.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Quick,
    Normal,
    Full,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) only: Option<String>,
}

impl Options {
    /// Parses the arguments; an unknown one is an error.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { mode: Mode::Normal, only: None };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.mode = Mode::Quick,
                "--full" => options.mode = Mode::Full,
                "--only" => options.only = Some(arguments.next().ok_or("--only needs a name")?),
                // Cargo passes it to every benchmark.
                "--bench" => {}
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(options)
    }

    /// Returns whether the report replaces the one in docs/performance.md.
    pub(crate) fn writes_report(&self) -> bool {
        self.mode != Mode::Quick && self.only.is_none()
    }

    fn pick<T>(&self, quick: T, normal: T, full: T) -> T {
        match self.mode {
            Mode::Quick => quick,
            Mode::Normal => normal,
            Mode::Full => full,
        }
    }

    /// Returns the number of rounds of a short measurement.
    pub(crate) fn rounds(&self) -> usize {
        self.pick(1, 5, 11)
    }

    /// Returns the number of rounds of a measurement that takes many seconds.
    pub(crate) fn long_rounds(&self) -> usize {
        self.pick(1, 1, 3)
    }

    /// Returns the duration of a short measurement.
    pub(crate) fn sample(&self) -> Duration {
        self.pick(Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3))
    }

    /// Returns the duration of the warm-up before a measurement.
    pub(crate) fn warm_up(&self) -> Duration {
        self.sample() / 4
    }

    pub(crate) fn idle_connections(&self) -> usize {
        self.pick(2_000, 10_000, 10_000)
    }

    /// Returns the time for which idle connections are left alone before their memory is measured again.
    pub(crate) fn idle_time(&self) -> Duration {
        Duration::from_secs(self.pick(2, 15, 300))
    }

    /// Returns the number of groups of 10,000 retained topics.
    pub(crate) fn retained_groups(&self) -> usize {
        self.pick(10, 100, 100)
    }

    pub(crate) fn flood_bytes(&self) -> usize {
        self.pick(20 << 20, 100 << 20, 100 << 20)
    }

    pub(crate) fn churn_calls(&self) -> u64 {
        self.pick(50_000, 1_000_000, 1_000_000)
    }
}
