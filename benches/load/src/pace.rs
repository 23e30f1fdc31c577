//! Start times of calls: each after another has ended (closed loop), or at fixed times regardless of the others (open loop).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// Upper bound of the error of tokio's timer.
const TIMER_ERROR: Duration = Duration::from_millis(2);

/// Condition after which no more calls start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After this time.
    After(Duration),
    /// After this number of calls.
    Count(u64),
}

/// Source of the times at which calls are to start.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    /// Calls per second in an open loop; `None` in a closed loop, where a call starts as soon as another has ended.
    rate: Option<f64>,
    end: End,
    /// Number of calls that have started.
    taken: AtomicU64,
    /// Number of calls whose start time has passed, in an open loop.
    due: Mutex<u64>,
    /// One permit per due call that has not started.
    released: Semaphore,
    over: AtomicBool,
}

impl Pace {
    /// Creates a pace whose first call is due now.
    pub fn new(rate: Option<f64>, end: End) -> Self {
        Self {
            began: Instant::now(),
            rate,
            end,
            taken: AtomicU64::new(0),
            due: Mutex::new(0),
            released: Semaphore::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Returns the time at which the first call was due.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Returns the end time; `None` if the end is a number of calls.
    pub fn until(&self) -> Option<Instant> {
        match self.end {
            End::After(time) => Some(self.began + time),
            End::Count(_) => None,
        }
    }

    /// Waits until a call may start, and returns the time at which it was due. `None` if there are no more calls.
    pub async fn next(&self) -> Option<Instant> {
        if self.rate.is_some() {
            self.released.acquire().await.ok()?.forget();
        } else if self.until().is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        let most = match self.end {
            End::Count(count) => count,
            End::After(_) => u64::MAX,
        };
        let next = |taken| (taken < most).then(|| taken + 1);
        let number = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(self.rate.map_or_else(Instant::now, |rate| self.due_at(number, rate)))
    }

    fn due_at(&self, number: u64, rate: f64) -> Instant {
        self.began + Duration::from_secs_f64(number as f64 / rate)
    }

    /// Releases calls when they are due, until the end time; `sleep` waits until a given time. If the end is a number of
    /// calls, the calls themselves reach it, and this future never completes.
    pub async fn keep<F: Future<Output = ()>>(&self, sleep: impl Fn(Instant) -> F) {
        while let Some(next) = self.catch_up() {
            sleep(next).await;
        }
        match self.until() {
            Some(until) => {
                sleep_until(until).await;
                self.stop();
            }
            None => std::future::pending().await,
        }
    }

    /// Releases all due calls; returns the time of the next one.
    fn catch_up(&self) -> Option<Instant> {
        let rate = self.rate?;
        let now = Instant::now();
        let mut due = self.due.lock().expect("nobody panics with it");
        let before = *due;
        let next = loop {
            let next = self.due_at(*due, rate);
            let more = match self.end {
                End::Count(count) => *due < count,
                End::After(time) => next < self.began + time,
            };
            if !more {
                break None;
            }
            if next > now {
                break Some(next);
            }
            *due += 1;
        };
        self.released.add_permits((*due - before) as usize);
        if next.is_none() && matches!(self.end, End::Count(_)) && before < *due {
            // Further waiting callers wake up and find that no call is left.
            self.released.add_permits(Semaphore::MAX_PERMITS / 2);
        }
        next
    }

    /// Ends the pace: no more calls start.
    pub fn stop(&self) {
        if !self.over.swap(true, Ordering::Relaxed) {
            self.catch_up();
            self.released.close();
        }
    }

    /// Returns the number of calls that have started.
    pub fn begun(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Returns the number of calls that were due and never started, because too many others were still in flight.
    pub fn missed(&self) -> u64 {
        self.due.lock().expect("nobody panics with it").saturating_sub(self.begun())
    }
}

/// Sleeps until a time, with an error of about 50 microseconds; the timer of tokio alone is up to a millisecond late.
pub async fn precisely(until: Instant) {
    if let Some(early) = until.checked_sub(TIMER_ERROR) {
        sleep_until(early).await;
    }
    let left = until.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        // Cannot fail: the task neither panics nor is aborted.
        let _ = tokio::task::spawn_blocking(move || std::thread::sleep(left)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn kept(pace: &Arc<Pace>) -> tokio::task::JoinHandle<()> {
        let pace = pace.clone();
        tokio::spawn(async move { pace.keep(sleep_until).await })
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_loop_keeps_its_times_when_callers_are_late() {
        let pace = Arc::new(Pace::new(Some(10.0), End::After(Duration::from_secs(1))));
        let keeper = kept(&pace);
        let due = |number: u64| pace.began() + Duration::from_millis(100 * number);
        for number in 0..3 {
            assert_eq!(pace.next().await, Some(due(number)));
            assert_eq!(Instant::now(), due(number), "and not before");
        }
        tokio::time::sleep(Duration::from_millis(450)).await;
        let late: Vec<_> = [pace.next().await, pace.next().await, pace.next().await].to_vec();
        assert_eq!(late, [Some(due(3)), Some(due(4)), Some(due(5))], "they are due since then");
        assert_eq!(Instant::now(), due(6) + Duration::from_millis(50));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(pace.next().await, None, "it is over");
        assert_eq!((pace.begun(), pace.missed()), (6, 4), "ten were due, and four never began");
        keeper.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_callers_end_when_the_count_is_reached() {
        for rate in [None, Some(1_000.0)] {
            let pace = Arc::new(Pace::new(rate, End::Count(5)));
            let keeper = kept(&pace);
            let workers: Vec<_> = (0..8)
                .map(|_| {
                    let pace = pace.clone();
                    tokio::spawn(async move { pace.next().await.is_some() })
                })
                .collect();
            let mut begun = 0;
            for worker in workers {
                begun += usize::from(worker.await.expect("it ends"));
            }
            assert_eq!((begun, pace.begun(), pace.missed()), (5, 5, 0), "{rate:?}");
            assert_eq!(pace.next().await, None);
            keeper.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_ends_with_its_time() {
        let pace = Pace::new(None, End::After(Duration::from_secs(1)));
        assert_eq!(pace.next().await, Some(pace.began()));
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(pace.next().await, Some(Instant::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(pace.next().await, None);
        assert_eq!((pace.begun(), pace.missed()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_callers_end_at_a_stop_and_due_calls_count_as_missed() {
        let pace = Arc::new(Pace::new(Some(2.0), End::Count(1_000)));
        let first = pace.clone();
        let waiting = tokio::spawn(async move { first.next().await });
        tokio::time::sleep(Duration::from_millis(1_600)).await;
        pace.stop();
        assert_eq!(waiting.await.expect("it ends"), None);
        assert_eq!((pace.begun(), pace.missed()), (0, 4), "at 0, 0.5, 1 and 1.5 s");
    }

    #[tokio::test]
    async fn precisely_is_never_early_and_at_most_slightly_late() {
        let mut late = Vec::new();
        for wait in [0, 150, 700, 2_300, 3_100, 400, 900, 1_700, 2_900] {
            let until = Instant::now() + Duration::from_micros(wait);
            precisely(until).await;
            late.push(Instant::now().checked_duration_since(until).expect("not early"));
        }
        late.sort_unstable();
        // Other calls may have waited for a core.
        assert!(late[0] < Duration::from_millis(5), "{late:?}");
    }
}
