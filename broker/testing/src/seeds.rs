//! Seeds of a simulation: which ones are run, on how many threads, and reports of failures.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `RANTAI_SIM_SEEDS` | Number of seeds to run, instead of the simulation's own number |
//! | `RANTAI_SIM_FIRST` | First seed, instead of 0 |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// Number of seeds from which on every state must be reached.
const SEEDS_FOR_ALL_STATES: u64 = 100;
/// Minimum number of lines in a trace, on average over the seeds.
const MIN_AVERAGE_LINES: u64 = 50;
/// Number of lines of the trace that a report of a failure contains.
const REPORTED_LINES: usize = 60;

/// Simulation, and what its seeds are expected to reach.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    /// Package of the simulation, as `cargo test -p` names it.
    pub package: &'static str,
    /// Path of its test, as an argument of `cargo test`.
    pub test: &'static str,
    /// Default number of seeds.
    pub seeds: u64,
    /// Minimum number of events of each seed.
    pub events: u64,
    /// States each of which must be reached by at least one of many seeds.
    pub states: &'static [&'static str],
}

/// Record of the run of one seed. Clones share the record.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    events: u64,
    reached: BTreeMap<&'static str, u64>,
    trace: Vec<String>,
}

impl Record {
    /// Counts an event: the seed caused something, or a message arrived.
    pub fn event(&self) {
        self.lock().events += 1;
    }

    /// Returns the number of events so far.
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: String) {
        self.lock().trace.push(line);
    }

    /// Counts that a state was reached.
    pub fn reached(&self, state: &'static str) {
        *self.lock().reached.entry(state).or_default() += 1;
    }

    /// Returns the number of times that a state was reached so far.
    pub fn times(&self, state: &str) -> u64 {
        self.lock().reached.get(state).copied().unwrap_or_default()
    }

    /// Returns the trace so far.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        // The record of a run that panicked is still reported.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Totals over all seeds.
#[derive(Default)]
struct Totals {
    runs: u64,
    events: u64,
    least: Option<u64>,
    reached: BTreeMap<&'static str, u64>,
    failures: BTreeMap<u64, String>,
}

impl Simulation {
    /// Runs the seeds on all cores, and prints to stderr how often each state was reached.
    ///
    /// # Panics
    ///
    /// Panics if a seed fails (for the lowest such seed), if a seed has too few events, and if many seeds have missed
    /// a state.
    pub fn run(&self, run: impl Fn(u64, &Record) + Sync) {
        let first = number("RANTAI_SIM_FIRST").unwrap_or(0);
        self.run_seeds(first, number("RANTAI_SIM_SEEDS").unwrap_or(self.seeds), run);
    }

    /// Asserts that each seed gives the same trace twice, and a different one than the seed before. Checks seed 7 and
    /// the next one; or, from `RANTAI_SIM_FIRST` on, a hundredth of `RANTAI_SIM_SEEDS`.
    ///
    /// # Panics
    ///
    /// Panics if a trace differs from the first one of its seed, or equals that of the seed before, and if the traces
    /// have fewer than 50 lines on average.
    pub fn assert_repeatable(&self, run: impl Fn(u64, &Record)) {
        let first = number("RANTAI_SIM_FIRST").unwrap_or(7);
        let count = (number("RANTAI_SIM_SEEDS").unwrap_or(self.seeds) / 100).max(2);
        let (mut last, mut lines) = (Vec::new(), 0);
        for seed in first..first.saturating_add(count) {
            let trace = self.assert_seed_repeats(seed, &run);
            assert_ne!(trace, last, "seed {seed} has the trace of the one before");
            lines += trace.len() as u64;
            last = trace;
        }
        assert!(lines > MIN_AVERAGE_LINES * count, "{count} seeds have {lines} lines of trace");
    }

    /// Asserts that this seed gives the same trace twice, and returns the trace.
    ///
    /// # Panics
    ///
    /// Panics if the traces differ, with the first line that does, or if they are empty.
    pub fn assert_seed_repeats(&self, seed: u64, run: impl Fn(u64, &Record)) -> Vec<String> {
        let traced = || {
            let record = Record::default();
            run(seed, &record);
            record.trace()
        };
        let (first, again) = (traced(), traced());
        assert!(!first.is_empty(), "seed {seed} has no trace");
        let same = first.iter().zip(&again).take_while(|(one, other)| one == other).count();
        assert_eq!(first.get(same), again.get(same), "seed {seed}: its traces differ after {same} lines");
        first
    }

    fn run_seeds(&self, first: u64, count: u64, run: impl Fn(u64, &Record) + Sync) {
        let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
        let (totals, began) = (Mutex::new(Totals::default()), Instant::now());
        let work = || {
            while !failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first.saturating_add(count) {
                    return;
                }
                let record = Record::default();
                let failure = catch_unwind(AssertUnwindSafe(|| run(seed, &record)))
                    .err()
                    .map(|panic| message(&*panic))
                    .or_else(|| self.too_few(&record));
                let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                totals.add(&record);
                if let Some(failure) = failure {
                    failed.store(true, Ordering::Relaxed);
                    totals.failures.insert(seed, self.report(seed, &failure, &record));
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            work();
            for other in others {
                other.join().unwrap_or_else(|panic| resume_unwind(panic));
            }
        });
        let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
        eprint!("{}", totals.report(began.elapsed().as_secs_f64()));
        if let Some(failure) = totals.failures.into_values().next() {
            panic!("{failure}");
        }
        let missed: Vec<_> =
            self.states.iter().filter(|state| !totals.reached.contains_key(*state)).collect();
        assert!(
            missed.is_empty() || totals.runs < SEEDS_FOR_ALL_STATES,
            "no seed of {} has reached {missed:?}",
            totals.runs
        );
    }

    fn too_few(&self, record: &Record) -> Option<String> {
        let events = record.events();
        (events < self.events).then(|| format!("{events} events, and {} are the least", self.events))
    }

    fn report(&self, seed: u64, failure: &str, record: &Record) -> String {
        let trace = record.trace();
        let mut text = format!("seed {seed}: {failure}\n\nThe end of its trace:\n");
        for line in &trace[trace.len().saturating_sub(REPORTED_LINES)..] {
            let _ = writeln!(text, "  {line}");
        }
        let _ = write!(
            text,
            "\nTo repeat it: RANTAI_SIM_FIRST={seed} RANTAI_SIM_SEEDS=1 cargo test -p {} --lib {}",
            self.package, self.test
        );
        text
    }
}

impl Totals {
    fn add(&mut self, record: &Record) {
        let recorded = record.lock();
        self.runs += 1;
        self.events += recorded.events;
        self.least = Some(self.least.map_or(recorded.events, |least| least.min(recorded.events)));
        for (state, times) in &recorded.reached {
            *self.reached.entry(state).or_default() += times;
        }
    }

    fn report(&self, seconds: f64) -> String {
        let mut text = String::new();
        for (state, times) in &self.reached {
            let _ = writeln!(text, "{times:>12} {state}");
        }
        let _ = writeln!(
            text,
            "{} seeds with {} events, at least {} each, in {seconds:.1} s: {:.0} a minute",
            self.runs,
            self.events,
            self.least.unwrap_or_default(),
            self.runs as f64 / seconds * 60.0
        );
        text
    }
}

/// Returns the number in an environment variable; `None` if it is not set.
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}: expected a number, got {value:?}")))
}

/// Returns the message of a panic.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIMULATION: Simulation =
        Simulation { package: "some-package", test: "some::test", seeds: 150, events: 2, states: &["even"] };

    fn outcome(simulation: Simulation, run: impl Fn(u64, &Record) + Sync) -> Result<(), String> {
        let run_all = || simulation.run_seeds(0, simulation.seeds, run);
        catch_unwind(AssertUnwindSafe(run_all)).map_err(|panic| message(&*panic))
    }

    fn step(seed: u64, record: &Record) {
        record.event();
        record.note(format!("step of {seed}"));
        record.event();
        if seed.is_multiple_of(2) {
            record.reached("even");
        }
    }

    #[test]
    fn a_run_without_failures_passes() {
        assert_eq!(outcome(SIMULATION, step), Ok(()));
    }

    #[test]
    fn failure_names_its_seed_its_trace_and_how_to_repeat_it() {
        let failed = outcome(SIMULATION, |seed, record| {
            step(seed, record);
            assert!(seed < 90, "it went wrong");
        });
        let text = failed.expect_err("it failed");
        assert!(text.starts_with("seed 9") && text.contains(": it went wrong"), "{text}");
        assert!(text.contains("step of 9"), "{text}");
        assert!(text.contains("RANTAI_SIM_SEEDS=1 cargo test -p some-package --lib some::test"), "{text}");
    }

    #[test]
    fn too_few_events_and_states_that_are_never_reached_are_failures() {
        let text = outcome(Simulation { events: 3, ..SIMULATION }, step).expect_err("too few");
        assert!(text.starts_with("seed ") && text.contains("2 events"), "{text}");
        let states = &["even", "odd"];
        let text = outcome(Simulation { states, ..SIMULATION }, step).expect_err("never odd");
        assert!(text.contains("odd"), "{text}");
        assert_eq!(outcome(Simulation { states, seeds: 99, ..SIMULATION }, step), Ok(()), "too few to tell");
    }
}
