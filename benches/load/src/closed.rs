//! Closed loop: a fixed number of callers, each of which starts a call when its previous one has ended.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::latencies::Latencies;

/// Parameters of a closed loop.
#[derive(Clone, Copy, Debug)]
pub struct ClosedLoop {
    /// Number of calls in flight per caller.
    pub in_flight: usize,
    /// Duration of the warm-up, whose calls do not count.
    pub warm_up: Duration,
    /// Duration of the measurement.
    pub length: Duration,
}

/// Result of a closed loop.
#[derive(Debug)]
pub struct Calls {
    /// Latencies of the calls that ended between the warm-up and the end.
    pub latencies: Latencies,
    /// Number of all calls, including those of the warm-up.
    pub made: u64,
}

impl ClosedLoop {
    /// Calls repeatedly with each of `callers`, on the thread of the [`LocalSet`](tokio::task::LocalSet) that runs this
    /// future. No call starts after the end; calls in flight are awaited.
    ///
    /// # Errors
    ///
    /// A call failed. Calls of other callers continue until the end, or until the `LocalSet` is dropped.
    ///
    /// # Panics
    ///
    /// Panics if a call panics, or outside of a `LocalSet`.
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
    fn the_number_of_calls_in_flight_is_kept_and_the_warm_up_does_not_count() {
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
