//! Creation of a backup.

use std::cell::RefCell;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use rantai_group_commit::OpenDatabase;
use redb::{Builder, ReadTransaction};

use crate::NODE_NAME;
use crate::copying::{Content, content, copy, new_file};
use crate::error::BackupError;
use crate::folder::{BackupFolder, Staged};
use crate::manifest::{Entry, MANIFEST_FORMAT, Manifest};

/// Size of the page cache of a copy, in bytes.
const CACHE_BYTES: usize = 8 << 20;

/// Folder of the backups, and how many are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSettings {
    /// Folder of the backups; created if it is missing. Other users must not be able to write it.
    pub folder: PathBuf,
    /// Number of backups to keep, at least 1; the oldest are removed after a new one is complete.
    pub keep: usize,
    /// Bytes to leave free on the disk, as the broker does; a backup leaves twice as many. `None`: the lesser of 64 MiB and
    /// a hundredth of the file system.
    pub free_space: Option<u64>,
}

/// Backup that was made.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Folder of the backup.
    pub path: PathBuf,
    /// Manifest of the backup.
    pub manifest: Manifest,
}

/// Source of one file.
enum FileSource {
    /// Database that is open in this process, with a read transaction of the state to copy.
    Open {
        database: OpenDatabase,
        read: ReadTransaction,
        name: String,
        elsewhere: Option<PathBuf>,
        taken: String,
    },
    /// File that no process uses, locked until it is copied.
    Closed { file: File, path: PathBuf, name: String, taken: String },
}

/// Makes a backup of the files in `data_dir`: of the databases that are open in this process (`open`, read in this
/// order), and of those other files that no process uses. `program` is recorded in the manifest. Blocks on the disk;
/// transactions on the databases continue meanwhile.
///
/// # Errors
///
/// Another process uses a file, there is too little space, or the disk fails. An incomplete backup is removed.
pub fn back_up(
    data_dir: &Path,
    open: Vec<OpenDatabase>,
    program: &str,
    settings: &BackupSettings,
) -> Result<Backup, BackupError> {
    let now = Utc::now();
    let data_dir = fs::canonicalize(data_dir).map_err(BackupError::io("read", data_dir))?;
    // A mistyped directory gets no folder.
    if open.is_empty() && kept(&data_dir)?.is_empty() {
        return Err(BackupError::Nothing(data_dir));
    }
    let folder = BackupFolder::open(settings)?;
    let mut sources = Vec::new();
    let mut read = Vec::new();
    for database in open {
        read.push(fs::canonicalize(&database.path).unwrap_or_else(|_| database.path.clone()));
        sources.push(opened(database, &data_dir, sources.len())?);
    }
    let _locks = closed(&data_dir, &read, &mut sources)?;
    folder.check_space(sources.iter().map(FileSource::bytes).sum())?;
    let staged = folder.stage(now)?;
    let files = sources.into_iter().map(|source| source.copy(&staged, &folder));
    let files = files.collect::<Result<Vec<Entry>, _>>()?;
    let created = now.to_rfc3339_opts(SecondsFormat::Secs, true);
    let manifest = Manifest { format: MANIFEST_FORMAT, program: program.to_owned(), created, files };
    manifest.write(&staged.path)?;
    let path = folder.finish(&staged, now)?;
    // Whoever asked may have another working directory.
    let path = fs::canonicalize(&path).map_err(BackupError::io("read", &path))?;
    Ok(Backup { path, manifest })
}

/// Begins to read a database of this process.
fn opened(database: OpenDatabase, data_dir: &Path, number: usize) -> Result<FileSource, BackupError> {
    let path = fs::canonicalize(&database.path).map_err(BackupError::io("read", &database.path))?;
    let read = database.begin_read().map_err(|error| failed(&path, error))?;
    let taken = moment();
    let file_name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let is_inside = path.parent() == Some(data_dir);
    let name = if is_inside { file_name } else { format!("elsewhere-{number}-{}", database.layout.file) };
    Ok(FileSource::Open { database, read, name, elsewhere: (!is_inside).then_some(path), taken })
}

/// Returns the files of the data directory that belong into a backup, in the order of their names.
fn kept(data_dir: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let read = fs::read_dir(data_dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    let mut paths = read.map_err(BackupError::io("read", data_dir))?;
    paths.retain(|path| {
        let is_kept =
            path.extension().is_some_and(|extension| extension == "redb") || path.ends_with(NODE_NAME);
        is_kept && path.symlink_metadata().is_ok_and(|about| about.is_file())
    });
    paths.sort();
    Ok(paths)
}

/// Adds the files of the data directory that no process uses, and returns locks that keep processes from starting to.
fn closed(
    data_dir: &Path,
    read: &[PathBuf],
    sources: &mut Vec<FileSource>,
) -> Result<Vec<File>, BackupError> {
    let mut paths = kept(data_dir)?;
    paths.retain(|path| !read.contains(path));
    let mut locks = Vec::new();
    for path in paths {
        // The broker locks its database by a separate file.
        let lock = path.with_extension("lock");
        if lock.is_file() {
            locks.push(locked(&lock, &path)?);
        }
        let file = locked(&path, &path)?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        sources.push(FileSource::Closed { file, path, name, taken: moment() });
    }
    Ok(locks)
}

fn locked(path: &Path, of: &Path) -> Result<File, BackupError> {
    let file = File::open(path).map_err(BackupError::io("open", path))?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(BackupError::InUse(of.to_owned())),
        Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
            Err(BackupError::io("lock", path)(error))
        }
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

impl FileSource {
    /// Returns an upper bound for the size of the copy, in bytes.
    fn bytes(&self) -> u64 {
        let about = match self {
            Self::Open { database, .. } => fs::metadata(&database.path),
            Self::Closed { file, .. } => file.metadata(),
        };
        about.map_or(0, |about| about.len())
    }

    fn copy(self, staged: &Staged, folder: &BackupFolder<'_>) -> Result<Entry, BackupError> {
        // Space error that made `check` fail, which redb would return as a general I/O error.
        let space = RefCell::new(None);
        let check = || {
            folder.check_space(0).map_err(|error| {
                *space.borrow_mut() = Some(error);
                io::Error::from(io::ErrorKind::StorageFull)
            })
        };
        let cause = |error: BackupError| space.take().unwrap_or(error);
        match self {
            Self::Open { database, read, name, elsewhere, taken } => {
                let to = staged.path.join(&name);
                let copied = snapshot(&database, &read, &to, &check);
                // Ended as soon as possible: during a read transaction, redb does not reuse the pages of the database.
                drop(read);
                copied.map_err(|error| cause(failed(&database.path, error)))?;
                let Content { bytes, blake3 } = File::open(&to)
                    .and_then(|file| content(file, u64::MAX - 1))
                    .map_err(BackupError::io("read", &to))?;
                Ok(Entry { name, bytes, blake3, taken, elsewhere })
            }
            Self::Closed { file, path, name, taken } => {
                let copied = new_file(&staged.path.join(&name))
                    .and_then(|mut to| copy(file, u64::MAX - 1, &mut to, &check));
                let Content { bytes, blake3 } =
                    copied.map_err(|error| cause(BackupError::io("copy", &path)(error)))?;
                Ok(Entry { name, bytes, blake3, taken, elsewhere: None })
            }
        }
    }
}

/// Copies the tables of a database to a new file, which is synced to disk before this returns.
fn snapshot(
    database: &OpenDatabase,
    read: &ReadTransaction,
    to: &Path,
    check: &dyn Fn() -> io::Result<()>,
) -> Result<(), redb::Error> {
    let file = new_file(to)?;
    let synced = file.try_clone()?;
    let copy = Builder::new().set_cache_size(CACHE_BYTES).create_file(file)?;
    database.layout.copy(read, &copy, check)?;
    drop(copy);
    Ok(synced.sync_all()?)
}

fn failed(path: &Path, error: redb::Error) -> BackupError {
    BackupError::Database { path: path.to_owned(), source: Box::new(error) }
}

fn moment() -> String {
    DateTime::<Utc>::to_rfc3339_opts(&Utc::now(), SecondsFormat::Micros, true)
}
