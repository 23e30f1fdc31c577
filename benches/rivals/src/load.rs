//! Closed loop used for every kind of call in the comparison: a fixed number of callers, each of which starts a call when
//! its previous one has ended. All Rust clients run here; the latencies measured by other clients are evaluated here.

use std::time::Duration;

use rantai_load::closed::{Calls, ClosedLoop};
use rantai_load::failure::Failure;
use tokio::task::LocalSet;

/// Length of the text in every call, in bytes.
pub(crate) const TEXT: usize = 60;
/// Time limit of a load, in addition to its warm-up and its length.
const LOAD_GRACE: Duration = Duration::from_secs(10);

/// Durations of each load in a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
}

/// Result of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Calls, or delivered messages, per second.
    pub(crate) rate: f64,
    /// p50 and p99 of calls, in microseconds.
    pub(crate) latency: Option<(f64, f64)>,
    /// Number of all calls, including those of the warm-up.
    pub(crate) made: u64,
}

/// Connected client that makes one kind of call.
pub(crate) trait Caller: Clone + 'static {
    /// Makes a call, and checks the reply.
    async fn call(&self) -> Result<(), Failure>;
}

/// Measures `callers` calls in flight over one connection. Calls that end between the warm-up and the end count.
pub(crate) fn calls<C: Caller>(
    callers: usize,
    plan: Plan,
    connect: impl AsyncFnOnce() -> Result<C, Failure>,
) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let load = async {
        let caller = connect().await?;
        caller.call().await?;
        let Plan { warm_up, length } = plan;
        let closed = ClosedLoop { in_flight: callers, warm_up, length };
        let calls = closed.run(&[caller], |caller: C| async move { caller.call().await }).await?;
        Ok(Outcome::of(&calls, plan))
    };
    let limit = plan.warm_up + plan.length + LOAD_GRACE;
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(limit, load).await.map_err(|_| Failure::new("no end in time"))?
    })
}

impl Outcome {
    /// Returns the result for these calls.
    pub(crate) fn of(calls: &Calls, plan: Plan) -> Self {
        let Calls { latencies, made } = calls;
        let rate = latencies.count() as f64 / plan.length.as_secs_f64();
        Self { rate, latency: Some((latencies.micros(0.5), latencies.micros(0.99))), made: *made }
    }
}
