//! Errors of backups.

use std::io;
use std::path::{Path, PathBuf};

/// Error of making, reading or restoring a backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Another backup is being made in the same folder.
    #[error("another backup is being made in {}; try again when it is done", .0.display())]
    Busy(PathBuf),
    /// A file is locked by another process.
    #[error(
        "{} is in use by another process: have that process make the backup, or stop it",
        .0.display()
    )]
    InUse(PathBuf),
    /// Nothing in the data directory is kept in a backup.
    #[error("{} has nothing to back up: neither *.redb nor node-name", .0.display())]
    Nothing(PathBuf),
    /// The backup would leave less free space on the disk than configured.
    #[error("not enough space at {}: {free} bytes are free, {needed} are needed; make room", path.display())]
    NoSpace {
        /// Folder of the backups.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes needed: the size of the backup and the space to leave free.
        needed: u64,
    },
    /// Other users may write the folder of the backups.
    #[error("other users may write {}, and could put links there; chmod go-w it", .0.display())]
    OpenFolder(PathBuf),
    /// A database cannot be read, or its copy cannot be written.
    #[error("cannot copy {}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Error of the database.
        source: Box<redb::Error>,
    },
    /// Error of the operating system.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// Operation that failed, as a verb.
        doing: &'static str,
        /// File or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The backup differs from its manifest.
    #[error("{} is damaged or incomplete: {reason}; use another backup", path.display())]
    Damaged {
        /// File or folder.
        path: PathBuf,
        /// Difference from the manifest.
        reason: String,
    },
    /// The backup was made by a later version.
    #[error("{} has format {found}; this version reads up to {supported}: use a newer rantai", path.display())]
    Newer {
        /// File.
        path: PathBuf,
        /// Format of the file.
        found: u64,
        /// Latest format that can be read.
        supported: u64,
    },
    /// The data directory is not empty.
    #[error("{} is not empty; --replace moves it aside, another --data-dir leaves it", .0.display())]
    NotEmpty(PathBuf),
    /// The system cannot exchange the data directory in one step.
    #[error(
        "cannot put {} in place in one step; restore to a new folder beside or below it, and use that as the data directory",
        path.display()
    )]
    NotExchanged {
        /// The data directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

impl BackupError {
    /// Returns a function that converts an I/O error into a `BackupError` about this operation and path.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }
}
