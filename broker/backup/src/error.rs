//! Errors of backups.

use std::io;
use std::path::{Path, PathBuf};

use crate::stage::Stage;

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
    /// A file that is to be replaced is locked by another process.
    #[error("{} is in use by another process; stop that before you restore", .0.display())]
    Running(PathBuf),
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
    /// The data directory has files already.
    #[error("{} is not empty; --replace moves it aside, another --data-dir leaves it", .0.display())]
    NotEmpty(PathBuf),
    /// A restore is under way.
    #[error("a restore is under way in {}; wait for its end", .0.display())]
    Restoring(PathBuf),
    /// Another folder has the name that a restore needs.
    #[error("{} is in the way, and not of a restore; move it away", .0.display())]
    Taken(PathBuf),
    /// The data directory can be restored only within, which its owner does.
    #[error(
        "{} cannot be exchanged for another directory, and only its owner (uid {owner}) may replace its files; restore as that \
         user, as `setpriv --reuid {owner} --clear-groups rantai restore …` does",
        path.display()
    )]
    NotOwner {
        /// The data directory.
        path: PathBuf,
        /// Number of the user who owns it.
        owner: u32,
    },
    /// A file of a data directory that can be restored only within cannot be moved.
    #[error("{} is a mount point, or a folder in place of a file; unmount it or move it away", .0.display())]
    NotMovable(PathBuf),
    /// A restore was killed while it put its files in place.
    #[error("a restore was interrupted, and its files are in {}; start the process or restore again, which does the rest", .0.display())]
    Interrupted(PathBuf),
    /// The backup is restored, but not all of its files are in place.
    #[error(
        "the backup is restored, but not all of it is in place; mend the cause, then start the process or restore again, which \
         does the rest for {}",
        path.display()
    )]
    Unfinished {
        /// The data directory.
        path: PathBuf,
        /// What has failed.
        source: Box<BackupError>,
    },
    /// The data directory cannot be exchanged in one step.
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

    /// Wraps an error of putting a stage in place, once there is no way back.
    pub(crate) fn unfinished(self, data_dir: &Path, stage: &Stage) -> Self {
        if stage.is_placed {
            return Self::Unfinished { path: data_dir.to_owned(), source: Box::new(self) };
        }
        self
    }

    /// Checks whether the user may not write a folder.
    pub(crate) fn is_denied(&self) -> bool {
        let denied = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
        matches!(self, Self::Io { source, .. } if denied.contains(&source.kind()))
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }
}
