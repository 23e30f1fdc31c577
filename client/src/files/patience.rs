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

/// Delay before the first retry; doubled for each further one, up to the maximum.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// Time limit of the first attempt for a block, doubled for each further one: a node that was killed does not reply, and
/// eight blocks over a slow line take long.
const BLOCK: Duration = Duration::from_secs(3);

/// Maximum of a time limit: longer than any caller waits, and short enough to be added to any time.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// Retries calls of the object until the time limit.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    proxy: Proxy,
    whole: Duration,
    /// Whether the object has replied once. Only then an unknown object is retried, as otherwise its name is wrong.
    answered: Arc<AtomicBool>,
}

impl Patience {
    pub(super) fn new(proxy: Proxy, whole: Duration) -> Self {
        Self { proxy: proxy.idempotent(), whole: whole.min(FOREVER), answered: Arc::default() }
    }

    /// Returns the object's name; empty where that is none, which every call says.
    pub(super) fn object(&self) -> &str {
        self.proxy.name().map_or("", ObjectName::as_str)
    }

    /// Calls until there is an answer, or an error that stays one: an object that is lost may come back.
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
        self.tries(BLOCK, call).await
    }

    async fn tries<T, F>(
        &self,
        time: Duration,
        mut call: impl FnMut(SharedFilesProxy) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let (end, mut pace) = (Instant::now() + self.whole, Pace { time, wait: FIRST });
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

/// Time limit of a try, and the pause after it.
struct Pace {
    time: Duration,
    wait: Duration,
}

impl Pace {
    fn slow_down(&mut self) {
        self.wait = (self.wait * 2).min(LONGEST);
        self.time = (self.time * 2).min(FOREVER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cause: while a node is away for some minutes, each attempt fails at once. The time limit, doubled every two seconds,
    /// exceeded what can be added to a time, and the transfer panicked.
    #[test]
    fn however_long_it_is_tried_the_time_has_an_end() {
        for whole in [BLOCK, FOREVER] {
            let mut pace = Pace { time: whole, wait: FIRST };
            for _ in 0..10_000 {
                pace.slow_down();
            }
            assert_eq!((pace.time, pace.wait), (FOREVER, LONGEST));
            let _ = Instant::now() + pace.time;
        }
    }
}
