//! Restoring a backup into a data directory, in one step.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use chrono::Utc;
use rantai_group_commit::{Layout, make_private_folder};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::copying::{Content, content, copy, sync_folder};
use crate::error::BackupError;
use crate::formats::{Verdict, check_formats};
use crate::manifest::{Entry, Manifest};

/// Result of a restore.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Manifest of the backup.
    pub manifest: Manifest,
    /// New path of the earlier data directory.
    pub previous: Option<PathBuf>,
    /// Files from outside the data directory, which the user has to restore: their paths in the backup, and their
    /// original paths.
    pub elsewhere: Vec<(PathBuf, PathBuf)>,
}

/// New data directory before it gets its final name. Removed on drop unless it was put in place.
struct Stage {
    path: PathBuf,
    is_placed: bool,
    /// Locked for as long as the restore runs, so that another restore does not remove the directory as a leftover.
    _lock: File,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Checks that a backup is complete and unchanged: the manifest, and the size and digest of each file. Returns the
/// manifest.
///
/// # Errors
///
/// A file is missing, or differs from the manifest.
pub fn verify(backup: &Path) -> Result<Manifest, BackupError> {
    let manifest = Manifest::read(backup)?;
    for entry in &manifest.files {
        let (path, file) = open(backup, entry)?;
        let found = content(file, entry.bytes).map_err(BackupError::io("read", &path))?;
        compare(&path, entry, &found)?;
    }
    Ok(manifest)
}

/// Restores the files of a backup into `data_dir`, which must be missing or empty; with `replace`, an existing
/// directory is moved aside. Checks before that the backup is complete, and that this program can read it by
/// `layouts`. The directory is exchanged in one step: if the process is killed, `data_dir` is either the earlier
/// directory or the restored one.
///
/// # Errors
///
/// The backup is damaged or too new, `data_dir` is not empty or is in use, or the disk fails. The earlier directory
/// then stays in place, unchanged.
pub fn restore(
    backup: &Path,
    data_dir: &Path,
    replace: bool,
    layouts: &[&'static Layout],
) -> Result<Restored, BackupError> {
    let backup = fs::canonicalize(backup).map_err(BackupError::io("read", backup))?;
    let manifest = verify(&backup)?;
    let data_dir = resolved(data_dir)?;
    let is_there = data_dir.try_exists().map_err(BackupError::io("read", &data_dir))?;
    let mut entries = Vec::new();
    if is_there {
        let read = fs::read_dir(&data_dir).and_then(|names| names.map(|entry| Ok(entry?.path())).collect());
        entries = read.map_err(BackupError::io("read", &data_dir))?;
    }
    if !entries.is_empty() && !replace {
        return Err(BackupError::NotEmpty(data_dir));
    }
    let _locks = lock_all(&entries)?;
    let stage = stage(&data_dir)?;
    for entry in manifest.files.iter().filter(|entry| entry.elsewhere.is_none()) {
        let (path, file) = open(&backup, entry)?;
        let copied = copy(file, entry.bytes, &stage.path.join(&entry.name), &|| Ok(()));
        compare(&path, entry, &copied.map_err(BackupError::io("copy", &path))?)?;
    }
    for format in check_formats(&stage.path, layouts)? {
        if let Verdict::Unreadable { reason } = format.verdict {
            return Err(BackupError::damaged(&backup.join(format.name), reason));
        }
    }
    if is_there {
        keep_owner(&data_dir, &stage.path)?;
    }
    sync_folder(&stage.path).map_err(BackupError::io("sync", &stage.path))?;
    let previous = put_in_place(stage, &data_dir, !entries.is_empty())?;
    if let Some(previous) = &previous {
        keep_backups(&backup, previous, &data_dir)?;
    }
    let elsewhere =
        manifest.files.iter().filter_map(|entry| Some((backup.join(&entry.name), entry.elsewhere.clone()?)));
    let elsewhere = elsewhere.collect();
    Ok(Restored { manifest, previous, elsewhere })
}

fn open(backup: &Path, entry: &Entry) -> Result<(PathBuf, File), BackupError> {
    let path = backup.join(&entry.name);
    // Only regular files are read: reading a pipe would block forever.
    match fs::symlink_metadata(&path) {
        Ok(about) if about.is_file() => {}
        Ok(_) => return Err(BackupError::damaged(&path, "it is no regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::damaged(&path, "it is missing"));
        }
        Err(error) => return Err(BackupError::io("read", &path)(error)),
    }
    let file = File::open(&path).map_err(BackupError::io("open", &path))?;
    Ok((path, file))
}

fn compare(path: &Path, entry: &Entry, found: &Content) -> Result<(), BackupError> {
    if found.bytes != entry.bytes {
        let than = if found.bytes < entry.bytes { "less" } else { "more" };
        let reason = format!("it has {than} than the {} bytes of the manifest", entry.bytes);
        return Err(BackupError::damaged(path, reason));
    }
    if found.blake3 != entry.blake3 {
        return Err(BackupError::damaged(path, "its BLAKE3 digest is not that of the manifest"));
    }
    Ok(())
}

/// Returns the absolute path of a folder without links; the folder need not exist. Creates its parents.
fn resolved(data_dir: &Path) -> Result<PathBuf, BackupError> {
    match fs::canonicalize(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        resolved => return resolved.map_err(BackupError::io("read", data_dir)),
    }
    let absolute = std::path::absolute(data_dir).map_err(BackupError::io("read", data_dir))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else { return Ok(absolute) };
    make_private_folder(parent).map_err(BackupError::io("make", parent))?;
    Ok(fs::canonicalize(parent).map_err(BackupError::io("read", parent))?.join(name))
}

/// Locks those files of a data directory that processes lock.
fn lock_all(entries: &[PathBuf]) -> Result<Vec<File>, BackupError> {
    let mut locks = Vec::new();
    for path in entries {
        let is_locked = path.extension().is_some_and(|extension| extension == "redb" || extension == "lock");
        if !is_locked || !path.symlink_metadata().is_ok_and(|about| about.is_file()) {
            continue;
        }
        let file = File::open(path).map_err(BackupError::io("open", path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(BackupError::InUse(path.clone())),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
                return Err(BackupError::io("lock", path)(error));
            }
            Ok(()) | Err(TryLockError::Error(_)) => locks.push(file),
        }
    }
    Ok(locks)
}

/// Returns the path of a sibling of `path`, with `ending` appended to its name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}

fn stage(data_dir: &Path) -> Result<Stage, BackupError> {
    let path = beside(data_dir, ".restoring");
    // A directory without a lock is left over from a killed restore.
    if let Ok(left) = File::open(&path) {
        match left.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(BackupError::InUse(path)),
            _ => fs::remove_dir_all(&path).map_err(BackupError::io("remove", &path))?,
        }
    }
    DirBuilder::new().mode(0o700).create(&path).map_err(BackupError::io("make", &path))?;
    let lock = File::open(&path).map_err(BackupError::io("open", &path))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Err(BackupError::InUse(path)),
        _ => Ok(Stage { path, is_placed: false, _lock: lock }),
    }
}

/// Sets owner and mode of the new directory, and the owner of its files, to those of the earlier directory: root may
/// restore for the user of a service.
fn keep_owner(data_dir: &Path, stage: &Path) -> Result<(), BackupError> {
    let failed = || BackupError::io("keep the owner of", data_dir);
    let kept = || -> io::Result<()> {
        let about = fs::metadata(data_dir)?;
        let new = fs::metadata(stage)?;
        if (new.uid(), new.gid()) != (about.uid(), about.gid()) {
            for entry in fs::read_dir(stage)? {
                chown(entry?.path(), Some(about.uid()), Some(about.gid()))?;
            }
            chown(stage, Some(about.uid()), Some(about.gid()))?;
        }
        fs::set_permissions(stage, fs::Permissions::from_mode(about.mode() & 0o7777))
    };
    kept().map_err(failed())
}

/// Renames the new directory to `data_dir`. With `exchange`, the earlier directory is moved aside, and its new path is
/// returned.
fn put_in_place(mut stage: Stage, data_dir: &Path, exchange: bool) -> Result<Option<PathBuf>, BackupError> {
    let not_exchanged = |source: io::Error| BackupError::NotExchanged { path: data_dir.to_owned(), source };
    let parent = data_dir.parent().unwrap_or(data_dir);
    let previous = if exchange {
        // The new directory first gets the name that the earlier one is to have. The exchange then completes the
        // restore, and no later restore takes the earlier directory for a leftover.
        let time = Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
        let mut aside = beside(data_dir, &format!(".before-{time}"));
        for number in 2.. {
            if !aside.try_exists().map_err(BackupError::io("read", &aside))? {
                break;
            }
            aside = beside(data_dir, &format!(".before-{time}-{number}"));
        }
        fs::rename(&stage.path, &aside).map_err(BackupError::io("name", &aside))?;
        stage.path.clone_from(&aside);
        let exchanged = renameat_with(CWD, &aside, CWD, data_dir, RenameFlags::EXCHANGE);
        exchanged.map_err(|error| not_exchanged(error.into()))?;
        Some(aside)
    } else {
        // Replaces an empty directory in one step.
        fs::rename(&stage.path, data_dir).map_err(not_exchanged)?;
        None
    };
    stage.is_placed = true;
    sync_folder(parent).map_err(BackupError::io("sync", parent))?;
    Ok(previous)
}

/// Moves the folder of backups from the earlier data directory to the new one, so that the path of this backup does
/// not change.
fn keep_backups(backup: &Path, previous: &Path, data_dir: &Path) -> Result<(), BackupError> {
    let Ok(inside) = backup.strip_prefix(data_dir) else { return Ok(()) };
    let Some(first) = inside.components().next() else { return Ok(()) };
    let to = data_dir.join(first);
    fs::rename(previous.join(first), &to).map_err(BackupError::io("move the backups back to", &to))?;
    sync_folder(data_dir).map_err(BackupError::io("sync", data_dir))
}
