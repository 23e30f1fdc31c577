//! Restoring by exchanging the data directory for one beside it, in one step.
//!
//! The new directory is DIR.restoring until then, and has a note of what is to be done after the step: the earlier directory,
//! which has the name DIR.restoring now, gets its own, and backups in it move back. A restore that is killed in between leaves
//! the note in the data directory, and the next one, or the next start of a process, does the rest.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use chrono::Utc;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::copying::sync_folder;
use crate::error::BackupError;
use crate::stage::{Stage, is_there, lock, remove_left_over};

/// File name of the note.
const NOTE: &str = ".restored";
/// Maximum size of a note, in bytes.
const MAX_NOTE_BYTES: u64 = 16 << 10;

/// What is to be done after the exchange.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Name of the earlier directory: what follows that of the data directory.
    ending: String,
    /// Entry of the earlier directory that moves to the new one: it has the backup in it.
    backups: Option<OsString>,
}

/// Creates the new directory. `backup` is that which is restored.
pub(crate) fn stage(data_dir: &Path, backup: &Path) -> Result<Stage, BackupError> {
    let path = beside(data_dir, ".restoring");
    if is_there(&path)? {
        if !is_ours(&path) {
            return Err(BackupError::Taken(path));
        }
        remove_left_over(&path)?;
    }
    let stage = Stage::create(path)?;
    let inside = backup.strip_prefix(data_dir).ok().and_then(|inside| inside.components().next());
    let note = Note { ending: ending(data_dir)?, backups: inside.map(|first| first.as_os_str().to_owned()) };
    let path = stage.path.join(NOTE);
    let written = stage.file(NOTE).and_then(|mut file| {
        file.write_all(&serde_json::to_vec(&note).expect("texts"))?;
        file.sync_all()
    });
    written.map_err(BackupError::io("write", &path))?;
    Ok(stage)
}

/// Outcome of an exchange.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// The new directory is in place; the path of the earlier one, unless that was empty or missing.
    Done(Option<PathBuf>),
    /// A mount or the file system does not allow the step; nothing has changed.
    Impossible,
}

/// Exchanges the new directory for the earlier one.
pub(crate) fn place(stage: &mut Stage, data_dir: &Path, is_replaced: bool) -> Result<Exchange, BackupError> {
    let exchanged = if is_replaced {
        renameat_with(CWD, &stage.path, CWD, data_dir, RenameFlags::EXCHANGE).map_err(io::Error::from)
    } else {
        // Replaces an empty folder in one step.
        fs::rename(&stage.path, data_dir)
    };
    if let Err(source) = exchanged {
        let errno = Errno::from_io_error(&source);
        if errno.is_some_and(|errno| [Errno::BUSY, Errno::XDEV, Errno::INVAL, Errno::NOSYS].contains(&errno))
        {
            return Ok(Exchange::Impossible);
        }
        return Err(BackupError::NotExchanged { path: data_dir.to_owned(), source });
    }
    stage.is_placed = true;
    let parent = data_dir.parent().unwrap_or(data_dir);
    sync_folder(parent).map_err(BackupError::io("sync", parent))?;
    Ok(Exchange::Done(complete(data_dir)?))
}

/// Does what a restore had left to do when it was killed.
pub(crate) fn finish(data_dir: &Path) -> Result<(), BackupError> {
    if !is_there(&data_dir.join(NOTE))? {
        return Ok(());
    }
    let _lock = lock(data_dir)?;
    complete(data_dir).map(|_| ())
}

/// Names the earlier directory, and returns its path.
fn complete(data_dir: &Path) -> Result<Option<PathBuf>, BackupError> {
    let path = data_dir.join(NOTE);
    let note = match read(&path) {
        Ok(note) => note,
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BackupError::io("read", &path)(error)),
    };
    let (earlier, previous) = (beside(data_dir, ".restoring"), beside(data_dir, &note.ending));
    // A stage has a note; and that of a later restore is not there as long as this one is not complete.
    if is_there(&earlier)? && !is_there(&earlier.join(NOTE))? {
        fs::rename(&earlier, &previous).map_err(BackupError::io("name", &previous))?;
        let parent = data_dir.parent().unwrap_or(data_dir);
        sync_folder(parent).map_err(BackupError::io("sync", parent))?;
    }
    if let Some(backups) = &note.backups {
        let (from, to) = (previous.join(backups), data_dir.join(backups));
        if is_there(&from)? && !is_there(&to)? {
            fs::rename(&from, &to).map_err(BackupError::io("move the backups back to", &to))?;
        }
    }
    sync_folder(data_dir).map_err(BackupError::io("sync", data_dir))?;
    fs::remove_file(&path).map_err(BackupError::io("remove", &path))?;
    Ok(is_there(&previous)?.then_some(previous))
}

fn read(path: &Path) -> io::Result<Note> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_NOTE_BYTES).read_to_end(&mut text)?;
    let note: Note = serde_json::from_slice(&text)?;
    let is_name = |name: &OsStr| Path::new(name).file_name() == Some(name);
    if !is_name(OsStr::new(&note.ending)) || note.backups.as_deref().is_some_and(|name| !is_name(name)) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it names no file; remove it"));
    }
    Ok(note)
}

/// Checks whether a folder is a stage that was left over: it has a note, or nothing yet.
fn is_ours(path: &Path) -> bool {
    let is_folder = path.symlink_metadata().is_ok_and(|about| about.is_dir());
    is_folder
        && (path.join(NOTE).is_file() || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()))
}

/// Returns what the name of the earlier directory has behind that of the data directory.
fn ending(data_dir: &Path) -> Result<String, BackupError> {
    let time = Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
    let mut ending = format!(".before-{time}");
    for number in 2.. {
        if !is_there(&beside(data_dir, &ending))? {
            break;
        }
        ending = format!(".before-{time}-{number}");
    }
    Ok(ending)
}

/// Returns a path beside `path`, with `ending` behind its name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}
