//! A closed loop: so many callers, each of which begins a call when its last one has ended.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::latencies::Latencies;

/// How long a closed loop runs.
#[derive(Clone, Copy, Debug)]
pub struct ClosedLoop {
    /// Calls under way at the same time for each caller.
    pub in_flight: usize,
    /// How long calls are made before they count.
    pub warm_up: Duration,
    /// How long calls count.
    pub length: Duration,
}

/// What the calls came to.
#[derive(Debug)]
pub struct Calls {
    /// Times of the calls that ended between the warm-up and the end.
    pub latencies: Latencies,
    /// Calls altogether, those of the warm-up too.
    pub made: u64,
}

impl ClosedLoop {
    /// Calls again and again with each of `callers`, on the thread of the [`LocalSet`](tokio::task::LocalSet) that runs
    /// this. No call begins after the end, and those under way are waited for.
    ///
    /// # Errors
    ///
    /// A call failed. Calls of the others go on until the end, or until the `LocalSet` is dropped.
    ///
    /// # Panics
    ///
    /// When a call panics, or outside of a `LocalSet`.
    pub async fn run<C, E, F>(
        self,
        callers: &[C],
        call: impl Fn(C) -> F + Clone + 'static,
    ) -> Result<Calls, E>
    where
        C: Clone + 'static,
        E: 'static,
        F: Future<Output = Result<(), E>>,
    {
        let made = Rc::new(Cell::new(0));
        let counted = Instant::now() + self.warm_up;
        let end = counted + self.length;
        let mut tasks = Vec::new();
        for caller in callers {
            for _ in 0..self.in_flight {
                let (caller, call, made) = (caller.clone(), call.clone(), made.clone());
                tasks.push(tokio::task::spawn_local(async move {
                    let mut times = Vec::new();
                    loop {
                        let began = Instant::now();
                        if began >= end {
                            return Ok(times);
                        }
                        call(caller.clone()).await?;
                        let ended = Instant::now();
                        made.set(made.get() + 1);
                        if (counted..end).contains(&ended) {
                            times.push(ended - began);
                        }
                    }
                }));
            }
        }
        let mut latencies = Latencies::new();
        for task in tasks {
            let times: Result<Vec<Duration>, E> = task.await.expect("a call does not panic");
            times?.into_iter().for_each(|time| latencies.record(time));
        }
        Ok(Calls { latencies, made: made.get() })
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    fn run(
        closed: ClosedLoop,
        call: impl AsyncFn() -> Result<(), String> + Clone + 'static,
    ) -> Result<Calls, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, closed.run(&[call], |call| async move { call().await }))
    }

    #[test]
    fn so_many_calls_are_under_way_and_the_warm_up_does_not_count() {
        let (under_way, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (seen, peak) = (under_way.clone(), most.clone());
        let length = Duration::from_millis(20);
        let closed = ClosedLoop { in_flight: 3, warm_up: length, length };
        let calls = run(closed, async move || {
            seen.set(seen.get() + 1);
            peak.set(peak.get().max(seen.get()));
            tokio::task::yield_now().await;
            seen.set(seen.get() - 1);
            Ok(())
        });
        let calls = calls.expect("no call fails");
        assert_eq!((under_way.get(), most.get()), (0, 3));
        assert!(calls.latencies.count() < calls.made, "{calls:?}");
    }

    #[test]
    fn a_call_that_fails_is_the_result() {
        let closed = ClosedLoop { in_flight: 2, warm_up: Duration::ZERO, length: Duration::from_hours(1) };
        let failed = run(closed, async || Err("refused".to_owned()));
        assert_eq!(failed.expect_err("it failed"), "refused");
    }
}
