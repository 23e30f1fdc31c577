//! Passwords of users: how they are kept, and how they are checked.
//!
//! A [`Record`] is what is kept instead of a password. A [`PasswordFile`] has a record for each user, in mosquitto's
//! format. A [`Verifier`] checks passwords on threads of its own, since a check takes tens of milliseconds on purpose.

mod cost;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod key;
mod queue;
mod record;
mod records;
mod secret;
mod verifier;

pub use cost::Cost;
pub use file::{LineError, PasswordFile, PasswordFileError};
pub use key::{KeyRecord, random_key};
pub use record::{HashError, MAX_PASSWORD_BYTES, Record, RecordError};
pub use verifier::{Busy, Verification, Verifier, VerifierCounts, VerifierLimits};
