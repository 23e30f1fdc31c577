//! Retries of transfers: which errors, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::interface::SharedFilesProxy;
use crate::error::CallError;
use crate::proxy::Proxy;
use crate::wire::fault::Code;
use crate::wire::name::ObjectName;

/// The first wait between tries, doubled up to the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// The time the first try for a block has, doubled with every further one: a node that ended in the middle does
/// not answer, and over a slow line eight blocks take their time.
const BLOCK: Duration = Duration::from_secs(3);

/// Longer than anybody waits, and short enough to be added to any time.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// The object, and the time in which something has to move.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    proxy: Proxy,
    whole: Duration,
    /// It has answered once. Only then it may come back when it is unknown; else its name is wrong.
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

    /// The same for a block, which is asked for again early.
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

    /// Whether the same call may succeed in a moment.
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

    /// A node that is away for some minutes fails each try at once: the time of the next, doubled every two seconds,
    /// was more than there is, and the transfer panicked.
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
