//! Restoring within a data directory that cannot be exchanged: a mount point, as the volume of a container, or a folder of a
//! parent that the user cannot write.
//!
//! The restored files are complete in `.restoring` before the folder gets the name `.restored-TIME`, which decides that the
//! restore is made. From then on files only change their folder: first the earlier ones move to `before-TIME`, then the folder
//! gets the name `.placing-TIME`, and the restored files move out of it. Whoever finds one of these names does the rest.
//! Folders stay where they are: no backup has any.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use chrono::Utc;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use crate::copying::sync_folder;
use crate::error::BackupError;
use crate::stage::{Stage, is_there, lock, remove_left_over};

pub(crate) const STAGE: &str = ".restoring";
const RESTORED: &str = ".restored-";
const PLACING: &str = ".placing-";
const BEFORE: &str = "before-";

/// Checks whether something is mounted at a path.
pub(crate) fn is_mount(path: &Path) -> bool {
    statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|about| about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Creates the folder of the restored files, whose names are `names`.
pub(crate) fn stage<'a>(data_dir: &Path, names: impl Iterator<Item = &'a str>) -> Result<Stage, BackupError> {
    let owner = fs::metadata(data_dir).map_err(BackupError::io("read", data_dir))?.uid();
    // The owner could lead another user, such as root, elsewhere by links.
    if owner != rustix::process::geteuid().as_raw() {
        return Err(BackupError::NotOwner { path: data_dir.to_owned(), owner });
    }
    let mut mounted = earlier_files(data_dir)?.into_iter().filter(|path| is_mount(path));
    if let Some(path) = mounted.next() {
        return Err(BackupError::NotMovable(path));
    }
    if let Some(folder) = names.map(|name| data_dir.join(name)).find(|path| path.is_dir()) {
        return Err(BackupError::NotMovable(folder));
    }
    let path = data_dir.join(STAGE);
    remove_left_over(&path)?;
    Stage::create(path)
}

/// Puts the restored files in place, and returns the folder of the earlier ones, if there were any.
pub(crate) fn place(stage: &mut Stage, data_dir: &Path) -> Result<Option<PathBuf>, BackupError> {
    let time = Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
    let mut suffix = time.clone();
    for number in 2.. {
        if !is_there(&data_dir.join(format!("{BEFORE}{suffix}")))? {
            break;
        }
        suffix = format!("{time}-{number}");
    }
    let restored = data_dir.join(format!("{RESTORED}{suffix}"));
    fs::rename(&stage.path, &restored).map_err(BackupError::io("name", &restored))?;
    stage.path = restored;
    stage.is_placed = true;
    complete(data_dir)
}

/// Returns the folder of restored files that are not in place yet.
pub(crate) fn pending(data_dir: &Path) -> Result<Option<PathBuf>, BackupError> {
    let names = match fs::read_dir(data_dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BackupError::io("read", data_dir)(error)),
    };
    for entry in names {
        let path = entry.map_err(BackupError::io("read", data_dir))?.path();
        if phase(&path).is_some() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Does what a restore had left to do when it was killed; removes the folder of one that was not made yet.
pub(crate) fn finish(data_dir: &Path) -> Result<(), BackupError> {
    if let Some(folder) = pending(data_dir)? {
        let _lock = lock(&folder)?;
        complete(data_dir)?;
    }
    remove_left_over(&data_dir.join(STAGE))
}

fn complete(data_dir: &Path) -> Result<Option<PathBuf>, BackupError> {
    let sync = |folder: &Path| sync_folder(folder).map_err(BackupError::io("sync", folder));
    sync(data_dir)?;
    let Some(mut folder) = pending(data_dir)? else { return Ok(None) };
    let (is_placing, suffix) = phase(&folder).expect("it is pending");
    let before = data_dir.join(format!("{BEFORE}{suffix}"));
    if !is_placing {
        let earlier = earlier_files(data_dir)?;
        if !earlier.is_empty() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&before);
            made.map_err(BackupError::io("make", &before))?;
            for path in earlier {
                move_to(&path, &before)?;
            }
            sync(&before)?;
            sync(data_dir)?;
        }
        let placing = data_dir.join(format!("{PLACING}{suffix}"));
        fs::rename(&folder, &placing).map_err(BackupError::io("name", &placing))?;
        sync(data_dir)?;
        folder = placing;
    }
    for path in files(&folder)? {
        move_to(&path, data_dir)?;
    }
    sync(data_dir)?;
    fs::remove_dir(&folder).map_err(BackupError::io("remove", &folder))?;
    sync(data_dir)?;
    Ok(is_there(&before)?.then_some(before))
}

/// Returns whether the earlier files have been moved, and the time in the name of a folder.
fn phase(path: &Path) -> Option<(bool, String)> {
    let name = path.file_name()?.to_str()?;
    let restored = name.strip_prefix(RESTORED).map(|suffix| (false, suffix));
    let (is_placing, suffix) = restored.or_else(|| Some((true, name.strip_prefix(PLACING)?)))?;
    Some((is_placing, suffix.to_owned()))
}

/// Returns the paths of what is in a data directory, but for folders.
pub(crate) fn earlier_files(data_dir: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut paths = files(data_dir)?;
    paths.retain(|path| !path.is_dir());
    Ok(paths)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let read = fs::read_dir(folder).and_then(|names| names.map(|entry| Ok(entry?.path())).collect());
    read.map_err(BackupError::io("read", folder))
}

/// Moves a file, and replaces none.
fn move_to(path: &Path, folder: &Path) -> Result<(), BackupError> {
    let to = folder.join(path.file_name().unwrap_or_default());
    if is_there(&to)? {
        let error = io::Error::new(io::ErrorKind::AlreadyExists, "it is there already; move it away");
        return Err(BackupError::io("move a file to", &to)(error));
    }
    fs::rename(path, &to).map_err(BackupError::io("move a file to", &to))
}
