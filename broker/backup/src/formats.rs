//! Check of the formats of database files: whether this program can read them. Writes nothing.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rantai_group_commit::{Layout, Shape};
use redb::{Builder, DatabaseError, ReadTransaction, ReadableDatabase as _};

use crate::error::BackupError;
use crate::inside;
use crate::manifest::{MANIFEST, MANIFEST_FORMAT, Manifest};
use crate::overlay::Overlay;

/// Format of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFormat {
    /// File name.
    pub name: String,
    /// Version of its tables and records; 1 for files that have none. `None` if it cannot be read.
    pub format: Option<u64>,
    /// Version that this program writes; `None` if it does not know such files.
    pub current: Option<u64>,
    /// Whether this program reads it.
    pub verdict: Verdict,
}

/// Whether this program reads a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is read as it is.
    AsItIs,
    /// It is read, and written in the current format when it is opened.
    Upgraded {
        /// What changes.
        how: String,
    },
    /// It is not one of the files that this program opens.
    Unknown,
    /// It cannot be read.
    Unreadable {
        /// Why not.
        reason: String,
    },
}

/// Checks the database files in a data directory or a backup, which must not be in use. `layouts` are those of the files
/// that this program opens. Writes nothing.
///
/// # Errors
///
/// The folder cannot be read, or a restore of it was interrupted. What is wrong with a file is its verdict.
pub fn check_formats(folder: &Path, layouts: &[&'static Layout]) -> Result<Vec<FileFormat>, BackupError> {
    let read = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    };
    if let Some(pending) = inside::pending(folder)? {
        return Err(BackupError::Interrupted(pending));
    }
    let mut names = read().map_err(BackupError::io("read", folder))?;
    names.sort();
    let mut formats = Vec::new();
    for name in names {
        if name == MANIFEST {
            formats.push(manifest(folder));
        } else if Path::new(&name).extension().is_some_and(|extension| extension == "redb") {
            formats.push(database(&folder.join(&name), name, layouts));
        }
    }
    Ok(formats)
}

fn manifest(backup: &Path) -> FileFormat {
    let (format, verdict) = match Manifest::read(backup) {
        Ok(manifest) => (Some(manifest.format), Verdict::AsItIs),
        Err(error) => (None, Verdict::Unreadable { reason: error.to_string() }),
    };
    FileFormat { name: MANIFEST.to_owned(), format, current: Some(MANIFEST_FORMAT), verdict }
}

fn database(path: &Path, name: String, layouts: &[&'static Layout]) -> FileFormat {
    // redb documents errors for damaged files, not panics; should it panic, the check of the other files goes on.
    let compared = catch_unwind(AssertUnwindSafe(|| compare(path, &name, layouts)));
    let compared = compared.unwrap_or_else(|_| Err("reading it panicked".to_owned()));
    match compared {
        Ok((format, current, verdict)) => FileFormat { name, format, current, verdict },
        Err(reason) => {
            let current = of_name(&name, layouts).map(|layout| layout.format.current);
            FileFormat { name, format: None, current, verdict: Verdict::Unreadable { reason } }
        }
    }
}

/// Returns the layout of a file by its name. The name may be one that a backup gave to a file from outside the data
/// directory.
fn of_name(name: &str, layouts: &[&'static Layout]) -> Option<&'static Layout> {
    let elsewhere = name.strip_prefix("elsewhere-").and_then(|rest| rest.split_once('-'));
    let name = elsewhere.map_or(name, |(_, name)| name);
    layouts.iter().copied().find(|layout| layout.file == name)
}

type Compared = (Option<u64>, Option<u64>, Verdict);

fn compare(path: &Path, name: &str, layouts: &[&'static Layout]) -> Result<Compared, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            return Err("a running process uses it; stop that, or check a backup of it".to_owned());
        }
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    if file.metadata().is_ok_and(|about| about.len() == 0) {
        return Err("it is empty".to_owned());
    }
    let overlay = Overlay::new(file).map_err(|error| error.to_string())?;
    let database = Builder::new().create_with_backend(overlay).map_err(|error| match error {
        DatabaseError::UpgradeRequired(version) => {
            format!("its file format {version} is too old for this version of redb; open it with the rantai that wrote it")
        }
        error => error.to_string(),
    })?;
    let read = database.begin_read().map_err(|error| error.to_string())?;
    let Some(layout) = of_name(name, layouts).or_else(|| of_tables(&read, layouts)) else {
        return Ok((None, None, Verdict::Unknown));
    };
    let current = layout.format.current;
    let format = layout.format.stored.map_or(Ok(1), |stored| stored(&read));
    let format = format.map_err(|error| format!("its format version cannot be read: {error}"))?;
    let verdict = if format > current {
        let reason = format!("format {format} is of a later version; this one reads up to {current}");
        Verdict::Unreadable { reason }
    } else {
        let shape = layout.shape(&read).map_err(|error| error.to_string())?;
        compared(format, current, shape)
    };
    Ok((Some(format), Some(current), verdict))
}

fn compared(format: u64, current: u64, Shape { missing, unknown }: Shape) -> Verdict {
    if let Some(table) = unknown.first() {
        let reason = format!("it has a table {table:?}, which this version does not know");
        return Verdict::Unreadable { reason };
    }
    let mut changes = Vec::new();
    if format < current {
        changes.push(format!("from format {format} to {current}"));
    }
    if !missing.is_empty() {
        changes.push(format!("new tables: {}", missing.join(", ")));
    }
    if changes.is_empty() { Verdict::AsItIs } else { Verdict::Upgraded { how: changes.join("; ") } }
}

/// Returns the layout that has exactly the tables of the file, for files whose name was configured.
fn of_tables(read: &ReadTransaction, layouts: &[&'static Layout]) -> Option<&'static Layout> {
    let fits = |layout: &&'static Layout| layout.shape(read).is_ok_and(|shape| shape == Shape::default());
    layouts.iter().copied().find(fits)
}
