//! Folder of the backups. One backup at a time is made in it; a backup is renamed to its final name when it is
//! complete, and then the oldest ones are removed.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rantai_group_commit::{Space, make_private_folder, open_private};

use crate::copying::sync_folder;
use crate::error::BackupError;
use crate::making::BackupSettings;

const LOCK: &str = ".lock";
/// Prefixes of folders that are not complete backups.
const PARTIAL: &str = ".partial-";
const REMOVING: &str = ".removing-";

/// Folder of backups, locked while a backup is made.
#[derive(Debug)]
pub(crate) struct BackupFolder<'a> {
    settings: &'a BackupSettings,
    _lock: File,
}

/// Backup in progress. Removed on drop unless it was finished.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) path: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl<'a> BackupFolder<'a> {
    /// Creates the folder if it is missing, locks it, and removes incomplete backups that earlier processes left in
    /// it.
    pub(crate) fn open(settings: &'a BackupSettings) -> Result<Self, BackupError> {
        let folder = &settings.folder;
        make_private_folder(folder).map_err(BackupError::io("make", folder))?;
        let mode = fs::metadata(folder).map_err(BackupError::io("read", folder))?.mode();
        if mode & 0o022 != 0 {
            return Err(BackupError::OpenFolder(folder.clone()));
        }
        let path = folder.join(LOCK);
        let lock = open_private(&path).map_err(BackupError::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BackupError::Busy(folder.clone())),
            Err(TryLockError::Error(error)) => return Err(BackupError::io("lock", &path)(error)),
        }
        for name in names(folder)? {
            if name.starts_with(PARTIAL) || name.starts_with(REMOVING) {
                let path = folder.join(name);
                fs::remove_dir_all(&path).map_err(BackupError::io("remove", &path))?;
            }
        }
        Ok(Self { settings, _lock: lock })
    }

    /// Fails unless the disk has room for `bytes` more.
    pub(crate) fn check_space(&self, bytes: u64) -> Result<(), BackupError> {
        let path = &self.settings.folder;
        let space = Space::at(path).map_err(BackupError::io("read the free space of", path))?;
        // A broker on the same disk refuses messages below its own reserve, so the backup leaves twice as much.
        let needed = space.floor(self.settings.free_space).saturating_mul(2).saturating_add(bytes);
        if space.free < needed {
            return Err(BackupError::NoSpace { path: path.clone(), free: space.free, needed });
        }
        Ok(())
    }

    /// Creates a folder under a temporary name for a backup that began at `now`.
    pub(crate) fn stage(&self, now: DateTime<Utc>) -> Result<Staged, BackupError> {
        let path = self.settings.folder.join(format!("{PARTIAL}{}", now.format("%Y%m%dT%H%M%SZ")));
        DirBuilder::new().mode(0o700).create(&path).map_err(BackupError::io("make", &path))?;
        Ok(Staged { path })
    }

    /// Renames a complete backup to its final name, and removes the oldest backups above the number to keep. Returns
    /// the path of the backup.
    pub(crate) fn finish(&self, staged: &Staged, now: DateTime<Utc>) -> Result<PathBuf, BackupError> {
        let folder = &self.settings.folder;
        sync_folder(&staged.path).map_err(BackupError::io("sync", &staged.path))?;
        let time = now.format("%Y%m%dT%H%M%SZ").to_string();
        // The number is higher than those of other backups of the same second, even if lower numbers are free again,
        // so that names sort by age.
        let same = names(folder)?.into_iter().filter(|name| is_backup_name(name) && name.starts_with(&time));
        let last = same.map(|name| name[time.len()..].trim_start_matches('-').parse().unwrap_or(1)).max();
        let name = last.map_or_else(|| time.clone(), |last: u64| format!("{time}-{:03}", last + 1));
        let path = folder.join(&name);
        fs::rename(&staged.path, &path).map_err(BackupError::io("name", &path))?;
        sync_folder(folder).map_err(BackupError::io("sync", folder))?;
        self.remove_oldest(&name)?;
        Ok(path)
    }

    /// Removes the oldest backups except `made`, whose name may sort before others if the clock was set back.
    fn remove_oldest(&self, made: &str) -> Result<(), BackupError> {
        let folder = &self.settings.folder;
        let mut backups: Vec<String> =
            names(folder)?.into_iter().filter(|name| is_backup_name(name) && name != made).collect();
        backups.sort();
        let surplus = (backups.len() + 1).saturating_sub(self.settings.keep.max(1));
        for name in &backups[..surplus] {
            let (path, removing) = (folder.join(name), folder.join(format!("{REMOVING}{name}")));
            // Renamed before it is removed, so that a folder with the name of a backup is always complete.
            let removed = fs::rename(&path, &removing).and_then(|()| fs::remove_dir_all(&removing));
            removed.map_err(BackupError::io("remove", &path))?;
        }
        Ok(())
    }
}

/// Returns the names in a folder that are valid UTF-8.
fn names(folder: &Path) -> Result<Vec<String>, BackupError> {
    let read = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    };
    read().map_err(BackupError::io("read", folder))
}

/// Returns whether a name is that of a backup: `20261201T003218Z`, or the same followed by a number such as `-002`.
fn is_backup_name(name: &str) -> bool {
    let (time, number) = name.split_at_checked(16).unwrap_or((name, ""));
    let is_time = time.len() == 16
        && time.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    let digits = number
        .strip_prefix('-')
        .is_some_and(|digits| digits.len() >= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()));
    is_time && (number.is_empty() || digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_named_like_backups_count_as_old_backups() {
        for name in ["20261201T003218Z", "20261201T003218Z-002", "20261201T003218Z-1000"] {
            assert!(is_backup_name(name), "{name}");
        }
        for name in [
            "",
            "20261201",
            "20261201T003218Z-",
            "20261201T003218Z-2",
            "20261201T003218Z.old",
            "2026é201T00321Z",
            ".lock",
        ] {
            assert!(!is_backup_name(name), "{name}");
        }
    }
}
