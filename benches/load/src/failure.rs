//! Why a measurement did not give a number. It ends up as a row of the report, so it is a sentence.

use std::fmt;
use std::io;

/// One reason, in words.
#[derive(Clone, Debug)]
pub struct Failure(String);

impl Failure {
    /// A reason that is a sentence or the end of one.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// Says what was being done when it went wrong.
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
        // A socket's time limit shows as either kind; its own text ("resource temporarily unavailable")
        // would mislead a reader of the report.
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::new("no answer in time"),
            _ => Self(error.to_string()),
        }
    }
}
