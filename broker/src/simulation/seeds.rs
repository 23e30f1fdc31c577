//! Many seeds, on all cores: which ones, what they reached, and how a failure is repeated.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

/// Environment variable with the number of seeds to run.
const COUNT: &str = "RANTAI_SIM_SEEDS";
/// Environment variable with the first of them.
const FIRST: &str = "RANTAI_SIM_FIRST";
/// From so many seeds on each state has to be reached.
const ENOUGH: u64 = 100;
/// Lines of the trace that are shown of a seed that fails.
const SHOWN: usize = 60;

/// What happened in one run, line by line. A clone is the same trace, which outlives the run.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub(super) fn add(&self, line: String) {
        self.0.lock().push(line);
    }

    /// Returns all lines.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    /// Returns how many lines contain `text`.
    pub(super) fn count(&self, text: &str) -> usize {
        self.0.lock().iter().filter(|line| line.contains(text)).count()
    }
}

/// How often each state was reached, by its name.
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

/// Runs as many seeds as the environment says (`default` without it), and prints how often each state was reached. Each
/// state of `required` has to be, in a hundred seeds or more.
///
/// # Panics
///
/// With the first seed that fails: its message, how it is repeated, and the end of its trace.
pub(super) fn run_seeds(default: u64, required: &[&str], run: impl Fn(u64, Trace) -> States + Sync) {
    let (first, count) = (from_environment(FIRST, 1), from_environment(COUNT, default));
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let (reached, failure) = (Mutex::new(States::default()), Mutex::new(None));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let trace = Trace::default();
            match catch_unwind(AssertUnwindSafe(|| run(seed, trace.clone()))) {
                Ok(states) => reached.lock().extend(&states),
                Err(cause) => {
                    failed.store(true, Ordering::Relaxed);
                    let mut failure = failure.lock();
                    if failure.as_ref().is_none_or(|(other, _)| seed < *other) {
                        *failure = Some((seed, report(seed, &*cause, &trace.lines())));
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if let Some((_, report)) = failure.into_inner() {
        panic!("{report}");
    }
    let reached = reached.into_inner().0;
    eprintln!("{count} seeds from {first} on");
    for (state, times) in &reached {
        eprintln!("{times:>10} {state}");
    }
    let missing: Vec<_> = required.iter().filter(|state| !reached.contains_key(**state)).collect();
    assert!(count < ENOUGH || missing.is_empty(), "never reached in {count} seeds: {missing:?}");
}

fn report(seed: u64, cause: &(dyn Any + Send), trace: &[String]) -> String {
    let text = cause.downcast_ref::<&str>().copied();
    let text = text.or_else(|| cause.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic");
    let last = trace[trace.len().saturating_sub(SHOWN)..].join("\n");
    format!(
        "seed {seed}: {text}\n\
         run it again: {FIRST}={seed} {COUNT}=1 cargo test -p rantai-broker --lib simulation\n\
         the end of its trace, of {} lines:\n{last}",
        trace.len()
    )
}

#[test]
fn report_of_a_failed_seed_says_how_it_is_repeated_and_ends_with_its_trace() {
    let trace: Vec<_> = (0..100).map(|number| format!("line {number}")).collect();
    let text = report(7, &"nothing came".to_owned(), &trace);
    assert!(text.starts_with("seed 7: nothing came\n"), "{text}");
    let command = "RANTAI_SIM_FIRST=7 RANTAI_SIM_SEEDS=1 cargo test -p rantai-broker --lib simulation";
    assert!(text.contains(command), "{text}");
    assert!(text.ends_with("\nline 99") && !text.contains("line 39"), "{text}");
}
