//! Generates load: a number of calls in flight (closed loop), or a rate of calls per second (open loop).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rantai_load::pace::{End, Pace};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::tally::{Done, Problem, Tally};

/// Time limit for calls in flight when the run is interrupted.
const INTERRUPTED_TIMEOUT: Duration = Duration::from_secs(1);

/// Parameters of a load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Maximum number of calls in flight.
    pub(super) workers: usize,
    /// Calls per second; `None` for as many as possible.
    pub(super) rate: Option<f64>,
    pub(super) end: End,
    /// Time limit for calls in flight at the end; each should end within it by its own timeout.
    pub(super) patience: Duration,
}

/// Call that is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    /// Number of the worker that makes the call; a worker makes one call at a time.
    pub(super) worker: usize,
    /// Time at which the call was due.
    pub(super) due: Instant,
}

/// Results of a run.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) tally: Tally,
    /// Time from the beginning until the last call was due and the last that succeeded had ended.
    pub(super) took: Duration,
    /// Whether the run was interrupted.
    pub(super) interrupted: bool,
}

/// Receiver of the signal to end early.
pub(super) type Stop = watch::Receiver<bool>;

/// Completes when the run is to end early; never if the sender is gone.
pub(super) async fn stopped(stop: &mut Stop) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().expect("nobody panics with it")
}

/// Makes the calls. Counts all calls that began, including those that had not ended within the time limit, and in an open
/// loop also those that were due and did not begin.
pub(super) async fn run<F, S>(
    plan: &Plan,
    stop: &mut Stop,
    sleep: impl Fn(Instant) -> S,
    call: Arc<impl Fn(Ticket) -> F + Send + Sync + 'static>,
) -> Measured
where
    F: Future<Output = Result<Done, Problem>> + Send + 'static,
    S: Future<Output = ()>,
{
    let pace = Arc::new(Pace::new(plan.rate, plan.end));
    let tally = Arc::new(Mutex::new(Tally::new()));
    let mut workers = JoinSet::new();
    if *stop.borrow() {
        return Measured { tally: Tally::new(), took: Duration::ZERO, interrupted: true };
    }
    for worker in 0..plan.workers {
        let (pace, tally, call) = (pace.clone(), tally.clone(), call.clone());
        workers.spawn(async move {
            while let Some(due) = pace.next().await {
                locked(&tally).begun(due, Instant::now());
                let result = call(Ticket { worker, due }).await;
                locked(&tally).ended(due, Instant::now(), result);
            }
        });
    }
    let mut interrupted = false;
    let patience = tokio::select! {
        () = all(&mut workers) => None,
        () = pace.keep(sleep) => Some(plan.patience),
        () = stopped(stop) => {
            interrupted = true;
            pace.stop();
            Some(INTERRUPTED_TIMEOUT)
        }
    };
    let over = Instant::now();
    if let Some(patience) = patience {
        let ended = tokio::select! {
            ended = timeout(patience, all(&mut workers)) => ended.is_ok(),
            () = stopped(stop), if !interrupted => {
                interrupted = true;
                timeout(INTERRUPTED_TIMEOUT, all(&mut workers)).await.is_ok()
            }
        };
        if !ended {
            workers.shutdown().await;
        }
    }
    // All workers have ended: the tally does not change any more.
    let mut tally = locked(&tally).clone();
    let left = pace.begun() - tally.succeeded - tally.failed;
    tally.problem(&Problem::new("abandoned", "still under way when the run ended"), left);
    let text = "it was due, and too many calls were under way";
    tally.problem(&Problem::new("not_begun", text), pace.missed());
    let planned = match pace.until() {
        Some(until) => over.min(until),
        None if interrupted => over,
        None => tally.last_begun.unwrap_or(over),
    };
    let end = tally.last_succeeded.map_or(planned, |last| last.max(planned));
    Measured { took: end.duration_since(pace.began()), tally, interrupted }
}

async fn all(workers: &mut JoinSet<()>) {
    // The panic of a worker has been printed; its call counts as abandoned.
    while workers.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::{sleep, sleep_until};

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn never() -> Stop {
        watch::channel(false).1
    }

    fn plan(workers: usize, rate: Option<f64>, end: End) -> Plan {
        Plan { workers, rate, end, patience: MS(2_000) }
    }

    fn about(found: f64, expected: f64) -> bool {
        (found / expected - 1.0).abs() < 0.002
    }

    #[tokio::test(start_paused = true)]
    async fn open_loop_counts_the_delay_of_calls_behind_a_stall() {
        // 100 calls a second for a second, each of 1 ms; the call that begins at 0.5 s stalls all others for 200 ms.
        let began = Instant::now();
        let server = Arc::new(tokio::sync::Mutex::new(()));
        let call = move |_: Ticket| {
            let server = server.clone();
            async move {
                let _turn = server.lock().await;
                let now = Instant::now() - began;
                sleep(if now >= MS(500) && now < MS(501) { MS(200) } else { MS(1) }).await;
                Ok(Done::default())
            }
        };
        let plan = plan(1, Some(100.0), End::After(MS(1_000)));
        let measured = run(&plan, &mut never(), sleep_until, Arc::new(call)).await;
        let tally = &measured.tally;
        assert_eq!((tally.succeeded, tally.failed), (100, 0));
        let summary = tally.latencies.summary().expect("calls");
        assert!(about(summary.p50, 1_000.0) && about(summary.max, 200_000.0), "{summary:?}");
        // Each call that waited catches up 9 ms: latencies are 191, 182, 173 ms and so on.
        assert!(about(summary.p90, 110_000.0), "what waited counts: {summary:?}");
        assert!(about(tally.late.summary().expect("calls").max, 190_000.0));
        assert_eq!(measured.took, MS(1_000));
        assert!(!measured.interrupted);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_were_due_and_never_began_count_as_errors() {
        let call = |_: Ticket| async {
            sleep(MS(500)).await;
            Ok(Done::default())
        };
        let plan = plan(2, Some(100.0), End::After(MS(1_000)));
        let measured = run(&plan, &mut never(), sleep_until, Arc::new(call)).await;
        let tally = &measured.tally;
        assert_eq!(tally.succeeded, 4, "two at a time, for half a second each");
        assert_eq!((tally.failed, tally.errors["not_begun"].count), (96, 96));
        assert_eq!(measured.took, MS(1_010), "until the last that began had succeeded");
    }

    #[tokio::test(start_paused = true)]
    async fn closed_loop_keeps_the_number_in_flight_and_makes_the_number_of_calls() {
        let under_way = Arc::new(AtomicU64::new(0));
        let most = Arc::new(AtomicU64::new(0));
        let (seen, peak) = (under_way.clone(), most.clone());
        let call = move |ticket: Ticket| {
            let (seen, peak) = (seen.clone(), peak.clone());
            async move {
                peak.fetch_max(seen.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                sleep(MS(10)).await;
                seen.fetch_sub(1, Ordering::Relaxed);
                if ticket.worker == 0 { Err(Problem::new("busy", "")) } else { Ok(Done::default()) }
            }
        };
        let measured = run(&plan(4, None, End::Count(40)), &mut never(), sleep_until, Arc::new(call)).await;
        assert_eq!((measured.tally.succeeded, measured.tally.failed), (30, 10));
        assert_eq!(most.load(Ordering::Relaxed), 4);
        assert_eq!(measured.took, MS(100));
        let max = measured.tally.latencies.summary().expect("calls").max;
        assert!(about(max, 10_000.0), "from when each began: {max}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_never_end_are_counted_as_abandoned() {
        let calls = AtomicU64::new(0);
        let call = move |_: Ticket| {
            let hangs = calls.fetch_add(1, Ordering::Relaxed) >= 10;
            async move {
                sleep(if hangs { MS(1_000_000) } else { MS(10) }).await;
                Ok(Done::default())
            }
        };
        let measured =
            run(&plan(2, None, End::After(MS(1_000))), &mut never(), sleep_until, Arc::new(call)).await;
        assert_eq!((measured.tally.succeeded, measured.tally.errors["abandoned"].count), (10, 2));
        assert_eq!(measured.took, MS(1_000), "a server that hangs after 50 ms was measured for a second");
    }

    #[tokio::test(start_paused = true)]
    async fn interrupted_run_keeps_its_results() {
        for rate in [None, Some(10.0)] {
            let (told, mut stop) = watch::channel(false);
            tokio::spawn(async move {
                sleep(MS(1_050)).await;
                told.send_replace(true);
                std::future::pending::<()>().await;
            });
            let call = |_: Ticket| async {
                sleep(MS(100)).await;
                Ok(Done::default())
            };
            let measured =
                run(&plan(1, rate, End::Count(1_000)), &mut stop, sleep_until, Arc::new(call)).await;
            assert!(measured.interrupted);
            assert_eq!((measured.tally.succeeded, measured.tally.failed), (11, 0), "{rate:?}");
            assert_eq!(measured.took, MS(1_100));
            let again = run(&plan(1, rate, End::Count(1_000)), &mut stop, sleep_until, Arc::new(call)).await;
            assert_eq!((again.tally.succeeded, again.tally.failed), (0, 0), "it was told already");
        }
    }
}
