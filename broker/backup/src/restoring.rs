//! Restoring a backup into a data directory, in one step.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rantai_group_commit::{Layout, Space, make_private_folder};

use crate::copying::{Content, content, copy};
use crate::error::BackupError;
use crate::exchange::{self, Exchange};
use crate::formats::{Verdict, check_formats};
use crate::inside::{self, is_mount};
use crate::manifest::{Entry, Manifest};
use crate::stage::{Stage, is_there};

/// Outcome of a restore.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Contents of the backup.
    pub manifest: Manifest,
    /// Path to which the earlier data directory was moved.
    pub previous: Option<PathBuf>,
    /// Files of the backup that were not in the data directory, and are left for the user to restore.
    pub elsewhere: Vec<(PathBuf, PathBuf)>,
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

/// Puts the files of a backup into `data_dir`, which must be missing or empty; with `replace` an earlier one is moved aside.
/// Everything is checked before, also whether this program reads it by `layouts`. The directory is exchanged in one step:
/// whenever the process is killed, `data_dir` is the earlier one or the restored one. Where it cannot be exchanged, as a mount
/// point, its files are moved instead, and [`finish_restore`] does the rest where the process is killed meanwhile.
///
/// # Errors
///
/// The backup is damaged or too new, `data_dir` is not empty or is in use, or the disk fails. The earlier directory is then in
/// place, unchanged; but for [`BackupError::Unfinished`].
pub fn restore(
    backup: &Path,
    data_dir: &Path,
    replace: bool,
    layouts: &[&'static Layout],
) -> Result<Restored, BackupError> {
    restore_to(backup, data_dir, replace, layouts, is_mount)
}

/// As [`restore`]; `is_fixed` tells whether the data directory cannot be exchanged for another.
pub(crate) fn restore_to(
    backup: &Path,
    data_dir: &Path,
    replace: bool,
    layouts: &[&'static Layout],
    is_fixed: impl FnOnce(&Path) -> bool,
) -> Result<Restored, BackupError> {
    // The backup may be where an interrupted restore has put it.
    finish_restore(data_dir)?;
    let backup = fs::canonicalize(backup).map_err(BackupError::io("read", backup))?;
    let manifest = verify(&backup)?;
    let data_dir = resolved(data_dir)?;
    let is_there = is_there(&data_dir)?;
    let entries = if is_there { entries(&data_dir)? } else { Vec::new() };
    if !entries.is_empty() && !replace {
        return Err(BackupError::NotEmpty(data_dir));
    }
    let source = Source { backup: &backup, manifest: &manifest, layouts };
    let _locks = lock_all(&entries)?;
    let is_replaced = !entries.is_empty();
    let exchange = if is_there && is_fixed(&data_dir) {
        Exchange::Impossible
    } else {
        match exchange::stage(&data_dir, &backup) {
            Ok(mut stage) => {
                source.fill(&stage, is_there.then_some(&data_dir))?;
                let placed = exchange::place(&mut stage, &data_dir, is_replaced);
                placed.map_err(|error| error.unfinished(&data_dir, &stage))?
            }
            Err(error) if is_there && error.is_denied() => Exchange::Impossible,
            Err(error) => return Err(error),
        }
    };
    let previous = if let Exchange::Done(previous) = exchange {
        previous
    } else {
        let mut stage = inside::stage(&data_dir, source.restored().map(|entry| &*entry.name))?;
        source.fill(&stage, None)?;
        // A process that has begun since then has files of its own.
        let _locks = lock_all(&added(&data_dir, &entries)?)?;
        let placed = inside::place(&mut stage, &data_dir);
        placed.map_err(|error| error.unfinished(&data_dir, &stage))?
    };
    let elsewhere =
        manifest.files.iter().filter_map(|entry| Some((backup.join(&entry.name), entry.elsewhere.clone()?)));
    let elsewhere = elsewhere.collect();
    Ok(Restored { manifest, previous, elsewhere })
}

/// Does the rest of a restore that was killed while it put its files in place, if there was one. To be called before a process
/// opens the databases of a data directory.
///
/// # Errors
///
/// A restore is under way, or the files cannot be moved.
pub fn finish_restore(data_dir: &Path) -> Result<(), BackupError> {
    let data_dir = match fs::canonicalize(data_dir) {
        Ok(data_dir) => data_dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BackupError::io("read", data_dir)(error)),
    };
    match exchange::finish(&data_dir) {
        // All files are in place. Only the user who restored may write the folder in which the earlier directory is.
        Err(error) if error.is_denied() => {}
        finished => finished?,
    }
    inside::finish(&data_dir)
}

/// Where restored files come from.
struct Source<'a> {
    backup: &'a Path,
    manifest: &'a Manifest,
    layouts: &'a [&'static Layout],
}

impl Source<'_> {
    /// Returns the entries that a restore puts into the data directory.
    fn restored(&self) -> impl Iterator<Item = &Entry> {
        self.manifest.files.iter().filter(|entry| entry.elsewhere.is_none())
    }

    /// Copies the files to a stage, and checks them there. With `earlier` they get the owner of that directory.
    fn fill(&self, stage: &Stage, earlier: Option<&PathBuf>) -> Result<(), BackupError> {
        let space = Space::at(&stage.path).map_err(BackupError::io("read the free space of", &stage.path))?;
        // Other processes on the same disk are not to meet their floor.
        let bytes = self.restored().map(|entry| entry.bytes).sum::<u64>();
        let needed = space.floor(None).saturating_add(bytes);
        if space.free < needed {
            return Err(BackupError::NoSpace { path: stage.path.clone(), free: space.free, needed });
        }
        let mut files = Vec::new();
        for entry in self.restored() {
            let (path, file) = open(self.backup, entry)?;
            let mut to =
                stage.file(&entry.name).map_err(BackupError::io("make", &stage.path.join(&entry.name)))?;
            let copied = copy(file, entry.bytes, &mut to, &|| Ok(()));
            compare(&path, entry, &copied.map_err(BackupError::io("copy", &path))?)?;
            files.push(to);
        }
        for format in check_formats(&stage.path, self.layouts)? {
            if let Verdict::Unreadable { reason } = format.verdict {
                return Err(BackupError::damaged(&self.backup.join(format.name), reason));
            }
        }
        if let Some(earlier) = earlier {
            stage.keep_owner(earlier, &files).map_err(BackupError::io("keep the owner of", earlier))?;
        }
        stage.sync()
    }
}

/// Returns the paths of what is in a data directory, but for the folder that each file system of some kinds has.
fn entries(data_dir: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let read = fs::read_dir(data_dir).and_then(|names| names.map(|entry| Ok(entry?.path())).collect());
    let mut entries: Vec<PathBuf> = read.map_err(BackupError::io("read", data_dir))?;
    entries.retain(|path| !path.ends_with("lost+found"));
    Ok(entries)
}

/// Returns what has come into a data directory besides `known`.
fn added(data_dir: &Path, known: &[PathBuf]) -> Result<Vec<PathBuf>, BackupError> {
    let mut added = entries(data_dir)?;
    added.retain(|path| !known.contains(path));
    Ok(added)
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
    if is_there(data_dir)? {
        return Err(BackupError::io("read what this link leads to,", data_dir)(
            io::ErrorKind::NotFound.into(),
        ));
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
            Err(TryLockError::WouldBlock) => return Err(BackupError::Running(path.clone())),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
                return Err(BackupError::io("lock", path)(error));
            }
            Ok(()) | Err(TryLockError::Error(_)) => locks.push(file),
        }
    }
    Ok(locks)
}
