//! Runs of many seeds on all cores, the states they reach, and reports of failures.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

/// Environment variable with the number of seeds to run.
const COUNT_VARIABLE: &str = "RANTAI_SIM_SEEDS";
/// Environment variable with the first seed.
const FIRST_VARIABLE: &str = "RANTAI_SIM_FIRST";
/// Environment variable that makes all seeds run, even after one has failed.
const ALL_VARIABLE: &str = "RANTAI_SIM_ALL";
/// Number of seeds from which on every required state must be reached.
const SEEDS_FOR_ALL_STATES: u64 = 100;
/// Environment variable with the number of lines of the trace to print for a seed that fails.
const LINES_VARIABLE: &str = "RANTAI_SIM_LINES";
/// Default number of those lines.
const DEFAULT_LINES: u64 = 60;

/// Trace of one run: a line per packet or event. Clones share the lines, so that they outlive a run that panics.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
    /// Whether nothing is recorded, as in runs that are expected to pass.
    is_off: bool,
}

impl Trace {
    fn off() -> Self {
        Self { is_off: true, ..Self::default() }
    }

    pub(super) fn is_kept(&self) -> bool {
        !self.is_off
    }

    pub(super) fn add(&self, line: String) {
        self.lines.lock().push(line);
    }

    /// Returns all lines.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// Returns the number of lines that contain `text`.
    pub(super) fn count(&self, text: &str) -> usize {
        self.lines.lock().iter().filter(|line| line.contains(text)).count()
    }
}

/// Number of times that each state was reached, by its name.
#[derive(Clone, Debug, Default)]
pub(super) struct States(BTreeMap<&'static str, u64>);

impl States {
    pub(super) fn reach(&mut self, state: &'static str) {
        self.add(state, 1);
    }

    pub(super) fn add(&mut self, state: &'static str, times: u64) {
        if times > 0 {
            *self.0.entry(state).or_default() += times;
        }
    }

    fn extend(&mut self, other: &Self) {
        for (state, times) in &other.0 {
            self.add(state, *times);
        }
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    let Ok(value) = std::env::var(name) else { return default };
    value.parse().unwrap_or_else(|_| panic!("expected a number in {name}, got {value:?}"))
}

/// Runs the number of seeds given by the environment, or `default`, and prints how often each state was reached. From
/// a hundred seeds on, each state of `required` must be reached.
///
/// # Panics
///
/// Panics for the first seed that fails, with its message, the command to repeat it, and the end of its trace. If the
/// environment asks for all seeds, the others are run too, and the messages of their failures are printed.
pub(super) fn run_seeds(default: u64, required: &[&str], run: impl Fn(u64, Trace) -> States + Sync) {
    let (first, count) = (from_environment(FIRST_VARIABLE, 1), from_environment(COUNT_VARIABLE, default));
    let goes_on = from_environment(ALL_VARIABLE, 0) > 0;
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let (reached, failures) = (Mutex::new(States::default()), Mutex::new(BTreeMap::new()));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed, Trace::off()))) {
                Ok(states) => reached.lock().extend(&states),
                Err(cause) => {
                    failed.store(!goes_on, Ordering::Relaxed);
                    let text = text(&*cause);
                    eprintln!("seed {seed} failed: {text}");
                    failures.lock().insert(seed, text);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner();
    if let Some((seed, text)) = failures.first_key_value() {
        let trace = Trace::default();
        let again = catch_unwind(AssertUnwindSafe(|| run(*seed, trace.clone())));
        assert!(again.is_err(), "seed {seed} failed and passed when it was run again: {text}");
        panic!("{}", report(*seed, text, &trace.lines()));
    }
    let reached = reached.into_inner().0;
    eprintln!("{count} seeds from {first} on");
    for (state, times) in &reached {
        eprintln!("{times:>10} {state}");
    }
    let missing: Vec<_> = required.iter().filter(|state| !reached.contains_key(**state)).collect();
    assert!(
        count < SEEDS_FOR_ALL_STATES || missing.is_empty(),
        "never reached in {count} seeds: {missing:?}"
    );
}

/// Returns the message of a panic.
fn text(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().copied();
    text.or_else(|| cause.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic").to_owned()
}

fn report(seed: u64, text: &str, trace: &[String]) -> String {
    let shown = from_environment(LINES_VARIABLE, DEFAULT_LINES) as usize;
    let last = trace[trace.len().saturating_sub(shown)..].join("\n");
    format!(
        "seed {seed}: {text}\n\
         run it again: {FIRST_VARIABLE}={seed} {COUNT_VARIABLE}=1 cargo test -p rantai-broker --lib simulation\n\
         the end of its trace, of {} lines:\n{last}",
        trace.len()
    )
}

#[test]
fn report_of_a_failed_seed_has_the_command_to_repeat_it_and_its_trace() {
    let trace: Vec<_> = (0..100).map(|number| format!("line {number}")).collect();
    let text = report(7, "nothing came", &trace);
    assert!(text.starts_with("seed 7: nothing came\n"), "{text}");
    let command = "RANTAI_SIM_FIRST=7 RANTAI_SIM_SEEDS=1 cargo test -p rantai-broker --lib simulation";
    assert!(text.contains(command), "{text}");
    assert!(text.ends_with("\nline 99") && !text.contains("line 39"), "{text}");
}
