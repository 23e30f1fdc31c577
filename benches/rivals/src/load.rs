//! The load that every call of the comparison is: so many callers, each of which begins a call when its last one has
//! ended. Rust's clients all run here; what Pyro's measured comes here to be counted.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::LocalSet;

use crate::failure::Failure;

/// Text of every call, in bytes.
pub(crate) const TEXT: usize = 60;
/// How long a load may take besides its warm-up and its length.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long each load of a round is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
}

/// What one load came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Calls, or messages delivered, a second.
    pub(crate) rate: f64,
    /// p50 and p99 of calls, in microseconds.
    pub(crate) latency: Option<(f64, f64)>,
    /// Calls altogether, those of the warm-up too.
    pub(crate) made: u64,
}

/// A connected client that makes one kind of call.
pub(crate) trait Caller: Clone + 'static {
    /// Calls, and looks whether the answer is the right one.
    async fn call(&self) -> Result<(), Failure>;
}

/// `callers` at a time over one connection. Counted is what ends between the warm-up and the end.
pub(crate) fn calls<C: Caller>(
    callers: usize,
    plan: Plan,
    connect: impl AsyncFnOnce() -> Result<C, Failure>,
) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let load = async {
        let caller = connect().await?;
        caller.call().await?;
        let made = Rc::new(Cell::new(0));
        let counted = Instant::now() + plan.warm_up;
        let end = counted + plan.length;
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (caller, made) = (caller.clone(), made.clone());
                tokio::task::spawn_local(async move {
                    let mut times = Vec::new();
                    loop {
                        let began = Instant::now();
                        if began >= end {
                            return Ok::<_, Failure>(times);
                        }
                        caller.call().await?;
                        let ended = Instant::now();
                        made.set(made.get() + 1);
                        if (counted..end).contains(&ended) {
                            times.push((ended - began).as_nanos() as u64);
                        }
                    }
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.map_err(|error| Failure::new(error.to_string()))??);
        }
        Ok(outcome(&times, made.get(), plan))
    };
    let limit = plan.warm_up + plan.length + PATIENCE;
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(limit, load).await.map_err(|_| Failure::new("no end in time"))?
    })
}

/// From the times of the calls that count, in nanoseconds.
pub(crate) fn outcome(times: &[u64], made: u64, plan: Plan) -> Outcome {
    let mut histogram: Histogram<u64> =
        Histogram::new_with_max(60_000_000_000, 3).expect("a minute in three digits");
    for time in times {
        histogram.saturating_record(*time);
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    let rate = times.len() as f64 / plan.length.as_secs_f64();
    Outcome { rate, latency: Some((at(0.5), at(0.99))), made }
}
