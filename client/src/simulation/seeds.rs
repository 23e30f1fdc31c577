//! Runs many seeds on all processors, and counts the states that they reach.

use std::collections::BTreeMap;
use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

/// Number of seeds from which all states must be reached.
const SEEDS_OF_ALL_STATES: u64 = 100;

/// Outcome of one seed.
pub(super) struct Run {
    pub(super) events: u64,
    /// Number of times that each state was reached.
    pub(super) reached: BTreeMap<&'static str, u64>,
    /// Last events, one per line.
    pub(super) trace: Vec<String>,
    /// First violation, with the end of the trace.
    pub(super) violation: Option<String>,
}

#[derive(Default)]
struct Total {
    events: u64,
    reached: BTreeMap<&'static str, u64>,
    /// Lowest seed that failed.
    failed: Option<(u64, String)>,
}

fn variable(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// Runs the seeds given by `RANTAI_SIM_FIRST` and `RANTAI_SIM_SEEDS`, and prints the reached states.
///
/// # Panics
///
/// A seed has found a violation; or a hundred seeds or more have not reached one of `states`.
pub(super) fn for_each_seed(
    package: &str,
    default_count: u64,
    states: &[&'static str],
    run: impl Fn(u64) -> Run + Sync,
) {
    let (first, count) = (variable("RANTAI_SIM_FIRST", 1), variable("RANTAI_SIM_SEEDS", default_count));
    let next = AtomicU64::new(first);
    let total = Mutex::new(Total::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || total.lock().failed.is_some() {
                        return;
                    }
                    let run = run(seed);
                    let mut total = total.lock();
                    total.events += run.events;
                    for (state, times) in run.reached {
                        *total.reached.entry(state).or_default() += times;
                    }
                    if let Some(violation) = run.violation
                        && total.failed.as_ref().is_none_or(|(failed, _)| seed < *failed)
                    {
                        total.failed = Some((seed, violation));
                    }
                }
            });
        }
    });
    let Total { events, reached, failed } = total.into_inner();
    if let Some((seed, violation)) = failed {
        panic!(
            "seed {seed}: {violation}\nto repeat it: RANTAI_SIM_FIRST={seed} RANTAI_SIM_SEEDS=1 \
             cargo test -p {package} --lib simulation"
        );
    }
    eprintln!("{count} seeds from {first} on, {events} events");
    for (state, times) in &reached {
        eprintln!("{times:>9}  {state}");
    }
    if count >= SEEDS_OF_ALL_STATES {
        let missing: Vec<_> = states.iter().filter(|state| !reached.contains_key(**state)).collect();
        assert!(missing.is_empty(), "states that no seed has reached: {missing:?}");
    }
}
