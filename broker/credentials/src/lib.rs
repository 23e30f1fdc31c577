//! Storage and verification of users' passwords.
//!
//! A [`Record`] is the salted hash of a password. A [`PasswordFile`] contains a record for each user, in mosquitto's
//! format. A [`Verifier`] checks passwords on its own threads, because a check takes tens of milliseconds by design.

mod cost;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod key;
mod priority;
mod queue;
mod record;
mod records;
mod secret;
mod verifier;

pub use cost::Cost;
pub use file::{LineError, PasswordFile, PasswordFileError};
pub use key::{KeyRecord, random_key};
pub use priority::lower_priority;
pub use record::{HashError, MAX_PASSWORD_BYTES, Record, RecordError};
pub use verifier::{Busy, Verification, Verifier, VerifierCounts, VerifierLimits};
