//! Retries of transfers: which errors are retried, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::interface::SharedFilesProxy;
use crate::error::CallError;
use crate::proxy::Proxy;
use crate::wire::fault::Code;
use crate::wire::name::ObjectName;

/// Delay before the first retry; doubled for each further one, up to `MAX_RETRY_DELAY`.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(100);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);
/// Time limit of the first attempt for a block, doubled for each further one. A node that was killed does not reply,
/// and eight blocks over a slow line take long.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum of a time limit: longer than any caller waits, and short enough to be added to any `Instant`.
const MAX_TIME_LIMIT: Duration = Duration::from_hours(24 * 365);

/// Retries calls of the object until the time limit.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    proxy: Proxy,
    whole: Duration,
    /// Whether the object has replied once. An unknown object is retried only then, because otherwise its name is
    /// probably wrong.
    answered: Arc<AtomicBool>,
}

impl Patience {
    pub(super) fn new(proxy: Proxy, whole: Duration) -> Self {
        Self { proxy: proxy.idempotent(), whole: whole.min(MAX_TIME_LIMIT), answered: Arc::default() }
    }

    /// Returns the object's name; empty if it is invalid, which every call reports.
    pub(super) fn object(&self) -> &str {
        self.proxy.name().map_or("", ObjectName::as_str)
    }

    /// Repeats a call until it succeeds, fails permanently, or the time limit is reached. A lost object may come back.
    pub(super) async fn call<T, F>(&self, call: impl FnMut(SharedFilesProxy) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        self.tries(self.whole, call).await
    }

    /// Like [`call`](Self::call) for a block, which is retried after a shorter time limit.
    pub(super) async fn block<T, F>(&self, call: impl FnMut(SharedFilesProxy) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        self.tries(BLOCK_TIMEOUT, call).await
    }

    async fn tries<T, F>(
        &self,
        time: Duration,
        mut call: impl FnMut(SharedFilesProxy) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let (end, mut pace) = (Instant::now() + self.whole, Pace { time, wait: FIRST_RETRY_DELAY });
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let share = SharedFilesProxy::from(self.proxy.clone().deadline(pace.time.min(left)));
            let error = match call(share).await {
                Ok(value) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(value);
                }
                Err(error) => error,
            };
            if !self.passes(&error) || Instant::now() + pace.wait >= end {
                return Err(error);
            }
            sleep(pace.wait).await;
            pace.slow_down();
        }
    }

    /// Checks whether the error is temporary, so that the same call may succeed soon.
    fn passes(&self, error: &CallError) -> bool {
        match error.code() {
            Some(Code::UNKNOWN_OBJECT) => self.answered.load(Ordering::Relaxed),
            Some(Code::EXPIRED | Code::TIMED_OUT) => true,
            _ => error.is_retryable(),
        }
    }
}

/// Time limit of one attempt, and the delay after it.
struct Pace {
    time: Duration,
    wait: Duration,
}

impl Pace {
    fn slow_down(&mut self) {
        self.wait = (self.wait * 2).min(MAX_RETRY_DELAY);
        self.time = (self.time * 2).min(MAX_TIME_LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: while a node is away for some minutes, each attempt fails at once. The time limit, doubled every two
    /// seconds, exceeded what can be added to an `Instant`, and the transfer panicked.
    #[test]
    fn time_limit_of_retries_does_not_overflow() {
        for whole in [BLOCK_TIMEOUT, MAX_TIME_LIMIT] {
            let mut pace = Pace { time: whole, wait: FIRST_RETRY_DELAY };
            for _ in 0..10_000 {
                pace.slow_down();
            }
            assert_eq!((pace.time, pace.wait), (MAX_TIME_LIMIT, MAX_RETRY_DELAY));
            let _ = Instant::now() + pace.time;
        }
    }
}
