//! The load that every call of the comparison is: so many callers, each of which begins a call when its last one has
//! ended. Rust's clients all run here; what Pyro's measured comes here to be counted.

use std::time::Duration;

use rantai_load::closed::{Calls, ClosedLoop};
use rantai_load::failure::Failure;
use tokio::task::LocalSet;

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
        let Plan { warm_up, length } = plan;
        let closed = ClosedLoop { in_flight: callers, warm_up, length };
        let calls = closed.run(&[caller], |caller: C| async move { caller.call().await }).await?;
        Ok(Outcome::of(&calls, plan))
    };
    let limit = plan.warm_up + plan.length + PATIENCE;
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(limit, load).await.map_err(|_| Failure::new("no end in time"))?
    })
}

impl Outcome {
    /// Of calls.
    pub(crate) fn of(calls: &Calls, plan: Plan) -> Self {
        let Calls { latencies, made } = calls;
        let rate = latencies.count() as f64 / plan.length.as_secs_f64();
        Self { rate, latency: Some((latencies.micros(0.5), latencies.micros(0.99))), made: *made }
    }
}
