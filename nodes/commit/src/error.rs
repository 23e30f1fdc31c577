//! Errors of reading and writing.

use std::sync::Arc;
use std::time::Duration;

use rantai_client::wire::fault::{Code, Fault};

/// Suggested delay for a retry if the time of the next attempt to open the file is not known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Error of reading or writing a database.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The database failed, or the disk.
    #[error("{}", explain(.0))]
    Failed(Arc<redb::Error>),
    /// The commit failed with an I/O error, and the file could not be opened again to check whether the write is on disk.
    #[error("cannot tell whether a write is on disk: {0}")]
    Unknown(Arc<redb::Error>),
    /// The file was closed after an I/O error, and is not open again yet.
    #[error("cannot use the database file since an I/O error; it is opened again in {} ms", .0.as_millis())]
    Closed(Duration),
    /// The disk does not respond. Nothing of this write is on disk.
    #[error("cannot use the database file: its disk does not answer")]
    Stalled,
    /// The write panicked, and nothing of it is on disk.
    #[error("cannot write to the database file: the write panicked, and nothing of it was kept")]
    Panicked,
}

impl<E: Into<redb::Error>> From<E> for DiskError {
    fn from(error: E) -> Self {
        Self::Failed(Arc::new(error.into()))
    }
}

impl DiskError {
    /// Checks whether a retry may succeed, once the disk works or has room again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Failed(error) => is_io(error),
            Self::Unknown(_) | Self::Closed(_) | Self::Stalled => true,
            Self::Panicked => false,
        }
    }

    /// Returns the delay after which a retry makes sense.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Closed(wait) => (*wait).max(Duration::from_millis(50)),
            _ => RETRY_AFTER,
        }
    }

    /// Returns the fault for a caller: busy if a retry may succeed. `what` names what cannot be used, such as "the ledger".
    pub fn fault(&self, what: &str) -> Fault {
        if !self.is_retryable() {
            tracing::error!("{what}: {self}");
            return Fault::new(Code::BROKEN_OBJECT, format!("cannot use {what}"));
        }
        tracing::debug!("{what}: {self}");
        let text = format!("cannot use {what} now: its disk is full or does not work; try again later");
        let wait = u64::try_from(self.retry_after().as_millis()).unwrap_or(u64::MAX);
        Fault { message: text, ..Fault::busy(wait) }
    }
}

fn explain(error: &redb::Error) -> String {
    match error {
        redb::Error::DatabaseAlreadyOpen => {
            "another process may have it open; stop that process, or choose another file".to_owned()
        }
        redb::Error::Io(error) => format!("cannot use the database: {error}"),
        error => format!("cannot use the database: {}", error.to_string().trim_end_matches('.')),
    }
}

/// Checks whether the database has to be opened again before it can be used.
pub(super) fn is_io(error: &redb::Error) -> bool {
    matches!(
        error,
        redb::Error::Io(_)
            | redb::Error::PreviousIo
            | redb::Error::DatabaseClosed
            | redb::Error::DatabaseAlreadyOpen
            | redb::Error::LockPoisoned(_)
    )
}
