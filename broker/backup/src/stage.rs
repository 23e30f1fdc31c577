//! Folder of the restored files before they are in place.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

use crate::error::BackupError;

/// Folder that is filled; removed on drop, unless its files are put in place.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) path: PathBuf,
    pub(crate) is_placed: bool,
    /// Holds a lock, by which other processes recognize that it is not left over. Files are created and owners changed by
    /// it: where another user could exchange the path for a link, root would write where that leads to.
    folder: File,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Stage {
    /// Creates the folder, for its owner alone.
    ///
    /// # Errors
    ///
    /// It is there already, or another restore has taken it.
    pub(crate) fn create(path: PathBuf) -> Result<Self, BackupError> {
        DirBuilder::new().mode(0o700).create(&path).map_err(BackupError::io("make", &path))?;
        let folder = lock(&path)?;
        Ok(Self { path, is_placed: false, folder })
    }

    /// Creates a file in it, for its owner alone.
    pub(crate) fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Gives it the owner and mode of the earlier directory, and the owner to `files`: root may restore for a service.
    pub(crate) fn keep_owner(&self, data_dir: &Path, files: &[File]) -> io::Result<()> {
        let (earlier, own) = (fs::metadata(data_dir)?, self.folder.metadata()?);
        if (own.uid(), own.gid()) != (earlier.uid(), earlier.gid()) {
            for file in files.iter().chain([&self.folder]) {
                fchown(file, Some(earlier.uid()), Some(earlier.gid()))?;
            }
        }
        self.folder.set_permissions(fs::Permissions::from_mode(earlier.mode() & 0o7777))
    }

    /// Returns once its names are on disk.
    pub(crate) fn sync(&self) -> Result<(), BackupError> {
        match self.folder.sync_all() {
            // Not every file system syncs folders.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                Err(BackupError::io("sync", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Locks a folder until the result is dropped.
///
/// # Errors
///
/// A running restore has it locked.
pub(crate) fn lock(folder: &Path) -> Result<File, BackupError> {
    let file = File::open(folder).map_err(BackupError::io("open", folder))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(BackupError::Restoring(folder.to_owned())),
        // Not every file system locks folders.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}

/// Removes a folder that a killed restore has left, if it is there.
pub(crate) fn remove_left_over(path: &Path) -> Result<(), BackupError> {
    if !is_there(path)? {
        return Ok(());
    }
    let _lock = lock(path)?;
    fs::remove_dir_all(path).map_err(BackupError::io("remove", path))
}

/// Checks whether something has this name, also a link that leads nowhere.
pub(crate) fn is_there(path: &Path) -> Result<bool, BackupError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(BackupError::io("read", path)(error)),
    }
}
