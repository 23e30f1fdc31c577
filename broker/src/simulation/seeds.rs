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
/// Environment variable that has all seeds run, also behind one that fails.
const ALL: &str = "RANTAI_SIM_ALL";
/// From so many seeds on each state has to be reached.
const ENOUGH: u64 = 100;
/// Environment variable with the number of lines of the trace that are shown of a seed that fails.
const LINES: &str = "RANTAI_SIM_LINES";
/// The same without that variable.
const SHOWN: u64 = 60;

/// What happened in one run, line by line. A clone is the same trace, which outlives the run.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
    /// Nothing is kept: what happens is not written down in runs that are expected to pass.
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

    /// Returns how many lines contain `text`.
    pub(super) fn count(&self, text: &str) -> usize {
        self.lines.lock().iter().filter(|line| line.contains(text)).count()
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
/// With the first seed that fails: its message, how it is repeated, and the end of its trace. Where the environment says
/// so, all seeds are run, and the messages of the others that fail are printed as well.
pub(super) fn run_seeds(default: u64, required: &[&str], run: impl Fn(u64, Trace) -> States + Sync) {
    let (first, count) = (from_environment(FIRST, 1), from_environment(COUNT, default));
    let goes_on = from_environment(ALL, 0) > 0;
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
    assert!(count < ENOUGH || missing.is_empty(), "never reached in {count} seeds: {missing:?}");
}

/// Returns the message of a panic.
fn text(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().copied();
    text.or_else(|| cause.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic").to_owned()
}

fn report(seed: u64, text: &str, trace: &[String]) -> String {
    let shown = from_environment(LINES, SHOWN) as usize;
    let last = trace[trace.len().saturating_sub(shown)..].join("\n");
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
    let text = report(7, "nothing came", &trace);
    assert!(text.starts_with("seed 7: nothing came\n"), "{text}");
    let command = "RANTAI_SIM_FIRST=7 RANTAI_SIM_SEEDS=1 cargo test -p rantai-broker --lib simulation";
    assert!(text.contains(command), "{text}");
    assert!(text.ends_with("\nline 99") && !text.contains("line 39"), "{text}");
}
