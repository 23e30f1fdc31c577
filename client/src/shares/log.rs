//! Refusals of callers that are over their share: counted, and logged.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Minimum interval between two log lines of one caller and table.
const LOG_INTERVAL: Duration = Duration::from_mins(1);
/// Maximum number of callers logged for one table within that interval.
const MAX_LOGGED_CALLERS: usize = 16;

/// Counts the refusals of one table, and logs each caller at most once a minute; of many callers only some.
#[derive(Debug, Default)]
pub struct ShareLog {
    refused: AtomicU64,
    /// Time of the last log line of each caller.
    logged: Mutex<HashMap<String, Instant>>,
}

impl ShareLog {
    /// Counts a refusal of a place in `table`, and logs the caller unless it was logged within the last minute.
    pub fn refused(&self, table: impl std::fmt::Display, caller: impl std::fmt::Display) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if self.may_log(caller.to_string()) {
            tracing::warn!("{caller} has its share of {table} and is told that it is busy");
        }
    }

    /// Returns the number of refusals so far.
    pub fn count(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns whether a line about this caller may be logged now: once a minute, and of many callers only some.
    pub fn may_log(&self, caller: String) -> bool {
        let (mut logged, now) = (self.logged.lock(), Instant::now());
        if logged.contains_key(&caller) || logged.len() >= MAX_LOGGED_CALLERS {
            logged.retain(|_, last| now.duration_since(*last) < LOG_INTERVAL);
        }
        if logged.contains_key(&caller) || logged.len() >= MAX_LOGGED_CALLERS {
            return false;
        }
        logged.insert(caller, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_caller_is_logged_once_a_minute_and_all_are_counted() {
        let log = ShareLog::default();
        assert!(log.may_log("a".to_owned()) && log.may_log("b".to_owned()));
        assert!(!log.may_log("a".to_owned()), "a second line within a minute");
        let many = (0..100).filter(|number| log.may_log(number.to_string())).count();
        assert_eq!(many, MAX_LOGGED_CALLERS - 2);
        tokio::time::advance(LOG_INTERVAL).await;
        assert!(log.may_log("a".to_owned()) && log.may_log("new".to_owned()));
        assert!(log.logged.lock().len() <= MAX_LOGGED_CALLERS);
        (0..3).for_each(|_| log.refused("the places", "a"));
        assert_eq!(log.count(), 3);
    }
}
