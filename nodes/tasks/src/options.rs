//! Options of a task.

use rantai_client::wire::fault::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::after::When;

/// Maximum number of retries.
const MAX_RETRIES: u32 = 1_000;
/// Maximum of all times in options: a year, in milliseconds.
const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;
/// Maximum delay between two attempts: an hour, in milliseconds.
pub(crate) const MAX_BACKOFF_MS: u64 = 60 * 60 * 1000;
/// Maximum duration of a run: an hour, in milliseconds, as for any call.
const MAX_RUN_MS: u64 = 60 * 60 * 1000;
/// Maximum length of a key, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// Maximum number of dependencies of a task.
const MAX_DEPENDENCIES: usize = 1_000;

/// Options of a task: when, how often and after which other tasks it is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Maximum number of repetitions after a failed run.
    pub retries: u32,
    /// Delay before the first repetition, in milliseconds, doubled for each further one up to an hour. The actual delay
    /// is a random part of it.
    pub backoff_ms: u64,
    /// Delay before the first run, in milliseconds.
    pub delay_ms: u64,
    /// Earliest time of the first run, in milliseconds since 1970.
    pub at_ms: Option<u64>,
    /// Time after which the task expires instead of being executed, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
    /// Maximum duration of one run, in milliseconds.
    pub timeout_ms: u64,
    /// Key that is unique among the tasks of one owner: submitting the same call again with the key returns the first
    /// task, and submitting another call is refused.
    pub key: Option<String>,
    /// Priority from 0 to 9: of a caller's tasks that are due, those with the highest go first.
    pub priority: u8,
    /// Dependencies: ids of tasks that must end before, or `#0` for the first call of the same submission.
    pub after: Vec<String>,
    /// Condition on the dependencies under which the task may begin.
    pub when: When,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retries: 0,
            backoff_ms: 1_000,
            delay_ms: 0,
            at_ms: None,
            expires_ms: None,
            timeout_ms: 10 * 60 * 1000,
            key: None,
            priority: 5,
            after: Vec::new(),
            when: When::default(),
        }
    }
}

impl Options {
    pub(super) fn check(&self) -> Result<(), Fault> {
        let wrong = |path: &str, expected: &str| Err(Fault::wrong_parameter(path, expected));
        if self.retries > MAX_RETRIES {
            return wrong("options.retries", "at most 1,000");
        }
        if self.backoff_ms > MAX_BACKOFF_MS {
            return wrong("options.backoff_ms", "at most an hour");
        }
        if self.delay_ms > YEAR_MS || self.expires_ms.is_some_and(|time| time == 0 || time > YEAR_MS) {
            return wrong("options", "a delay of at most a year, and an expiry of 1 ms to a year");
        }
        if !(1..=MAX_RUN_MS).contains(&self.timeout_ms) {
            return wrong("options.timeout_ms", "1 ms to an hour");
        }
        if self.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_KEY_BYTES) {
            return wrong("options.key", "1 to 256 bytes");
        }
        if self.key.as_ref().is_some_and(|key| key.contains('\0')) {
            // NUL separates the user and the key on disk.
            return wrong("options.key", "a text without NUL");
        }
        if self.after.len() > MAX_DEPENDENCIES {
            return wrong("options.after", "at most 1,000 tasks");
        }
        if self.priority > 9 { wrong("options.priority", "0 to 9") } else { Ok(()) }
    }
}
