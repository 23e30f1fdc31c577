//! Options of a task.

use rantai_client::wire::fault::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::after::When;

/// Maximum number of retries.
const MOST_RETRIES: u32 = 1_000;
/// Maximum of all times in options: a year, in milliseconds.
const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;
/// Maximum delay between two attempts: an hour, in milliseconds.
pub(crate) const LONGEST_BACKOFF_MS: u64 = 60 * 60 * 1000;
/// Maximum duration of a run: an hour, in milliseconds, as for any call.
const LONGEST_RUN_MS: u64 = 60 * 60 * 1000;
/// Maximum length of a key, in bytes.
const LONGEST_KEY: usize = 256;
/// Maximum number of dependencies of a task.
const MOST_BEFORE: usize = 1_000;

/// How a task is to be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How often it is called again after it failed.
    pub retries: u32,
    /// The wait before the first of them, doubled with every further one up to an hour; the real wait is a random
    /// part of it.
    pub backoff_ms: u64,
    /// Not before this time is over.
    pub delay_ms: u64,
    /// Not before this time, in milliseconds since 1970.
    pub at_ms: Option<u64>,
    /// Not at all after this time.
    pub expires_ms: Option<u64>,
    /// What one run may take at most.
    pub timeout_ms: u64,
    /// One key, one task of its owner: a second submission of the same call is the first, and one of another call is
    /// refused.
    pub key: Option<String>,
    /// Of a caller's tasks that are due the highest go first: 0 to 9.
    pub priority: u8,
    /// Not before these tasks have ended: their ids, or `#0` for the first call of the same submission.
    pub after: Vec<String>,
    /// Which ends of theirs let it begin.
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
        if self.retries > MOST_RETRIES {
            return wrong("options.retries", "at most 1,000");
        }
        if self.backoff_ms > LONGEST_BACKOFF_MS {
            return wrong("options.backoff_ms", "at most an hour");
        }
        if self.delay_ms > YEAR_MS || self.expires_ms.is_some_and(|time| time == 0 || time > YEAR_MS) {
            return wrong("options", "a delay of at most a year, and an expiry of 1 ms to a year");
        }
        if !(1..=LONGEST_RUN_MS).contains(&self.timeout_ms) {
            return wrong("options.timeout_ms", "1 ms to an hour");
        }
        if self.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > LONGEST_KEY) {
            return wrong("options.key", "1 to 256 bytes");
        }
        if self.key.as_ref().is_some_and(|key| key.contains('\0')) {
            // NUL separates the user and the key on disk.
            return wrong("options.key", "a text without NUL");
        }
        if self.after.len() > MOST_BEFORE {
            return wrong("options.after", "at most 1,000 tasks");
        }
        if self.priority > 9 { wrong("options.priority", "0 to 9") } else { Ok(()) }
    }
}
