//! Reason why a measurement has no result. It becomes a row of the report, so its text is a sentence.

use std::fmt;
use std::io;

/// Reason for a failed measurement, as text.
#[derive(Clone, Debug)]
pub struct Failure(String);

impl Failure {
    /// Creates a failure from a sentence or the end of one.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// Adds what was being done when the failure occurred, as a prefix.
    #[must_use]
    pub fn during(self, what: &str) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // A timeout of a socket has either kind, depending on the platform; the system's text ("resource temporarily
        // unavailable") would mislead a reader of the report.
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::new("no answer in time"),
            _ => Self(error.to_string()),
        }
    }
}
