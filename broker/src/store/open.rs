//! Opening the store: lock, checks, treatment of a damaged file, and loading.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rantai_group_commit::{Opener, Reopening, make_private_folder, open_private};
use redb::{Builder, Database, ReadableDatabase};

use super::disk::{
    self, Disk, FORMAT, FORMAT_VERSION, LAYOUT, MESSAGES, META, Messages, QUEUE, RECEIVED, RETAINED,
    SESSIONS, SUBSCRIPTIONS,
};
use super::load::{self, LoadError};
use super::reserve::Reserve;
use super::salvage::{self, Salvaged};
use super::{Snapshot, StoreError};
use crate::config::OnDamage;

const FILE: &str = "broker.redb";
const LOCK: &str = "broker.lock";
/// Maximum time to wait for a lock.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(1);
/// Size of redb's page cache in bytes, in addition to the system's page cache.
const CACHE_BYTES: usize = 32 << 20;

/// Returns the opener of a database file that exists or is empty; only its owner may read it.
pub(super) fn file(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move || builder().create_file(open_private(&path)?))
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Error of reading a file.
#[derive(Debug)]
pub(super) enum ReadFailure {
    Damaged(String),
    Other(StoreError),
}

/// Opens the store in `dir`. `opener` creates the opener of its file; tests pass openers of failing disks.
pub(super) fn open(
    dir: &Path,
    opener: impl FnOnce(&Path) -> Opener,
    on_damage: OnDamage,
    now: u64,
) -> Result<(Disk, Snapshot), StoreError> {
    let path = dir.join(FILE);
    let opener = opener(&path);
    let failed = |source| StoreError::Io { path: path.clone(), source };
    make_private_folder(dir).map_err(failed)?;
    let lock = retry_while_locked(|| lock(dir), |error| matches!(error, StoreError::Locked { .. }))?;

    // Releases the reserve of the previous process: the start may need the space, and the writer allocates it again.
    Reserve::new(dir).release();
    if !path.try_exists().map_err(failed)? {
        create(&path)?;
    }
    // redb documents errors for damaged files, not panics; should it panic, the file counts as damaged.
    let first = retry_while_locked(
        || {
            catch_unwind(AssertUnwindSafe(|| read(&path, &opener, now)))
                .unwrap_or_else(|_| Err(ReadFailure::Damaged("reading it panicked".into())))
        },
        |failure| matches!(failure, ReadFailure::Other(StoreError::Locked { .. })),
    );
    let (database, messages, snapshot) = match first {
        Ok(read) => read,
        Err(ReadFailure::Other(error)) => return Err(error),
        Err(ReadFailure::Damaged(reason)) if on_damage == OnDamage::Stop => {
            return Err(StoreError::Damaged { path, reason });
        }
        Err(ReadFailure::Damaged(reason)) => {
            let salvaged = build(&path, |database| salvaged(&path, database))?;
            let aside = replace(&path, now).map_err(failed)?;
            tracing::error!(
                file = %path.display(), moved_to = %aside.display(), reason,
                salvaged = salvaged.rows, lost = salvaged.lost,
                "the stored sessions and retained messages are damaged; going on with what could be read"
            );
            let (database, messages, snapshot) =
                read(&path, &opener, now).map_err(|failure| match failure {
                    ReadFailure::Other(error) => error,
                    ReadFailure::Damaged(reason) => failed(io::Error::other(reason)),
                })?;
            (database, messages, Snapshot { damaged: Some(aside), salvaged, ..snapshot })
        }
    };
    let database = Reopening::opened(opener, database);
    database.list(&path, &LAYOUT);
    let disk = Disk { path, database, messages, _lock: Some(lock) };
    Ok((disk, snapshot))
}

/// Retries for up to a second while the lock is held by another process. Between fork and exec a child of this process
/// holds a copy of every lock, and a broker that is being replaced may be about to exit.
fn retry_while_locked<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    locked: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + MAX_LOCK_WAIT;
    loop {
        match attempt() {
            Err(error) if locked(&error) && Instant::now() < deadline => sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
}

/// Locks the directory with a separate file. redb's lock belongs to the database file: it protects neither renaming
/// that file nor reopening it after a failure.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|source| StoreError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path: dir.join(FILE) }),
        Err(fs::TryLockError::Error(source)) if source.kind() != ErrorKind::Unsupported => {
            Err(StoreError::Io { path, source })
        }
        Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(file),
    }
}

fn create(path: &Path) -> Result<(), StoreError> {
    build(path, |_| Ok(()))?;
    fs::rename(new(path), path).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
    sync_directory(path);
    Ok(())
}

/// Builds a database under a temporary name and renames it when it is complete. An empty `broker.redb` is therefore
/// always damage, never an interrupted start.
fn build<T>(path: &Path, fill: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
    let new = new(path);
    match fs::remove_file(&new) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(StoreError::Io { path: path.to_owned(), source });
        }
        _ => {}
    }
    let made = || {
        let database = builder().create_file(open_private(&new)?)?;
        make_tables(&database)?;
        fill(&database)
    };
    made().map_err(|error| fault(path, error))
}

fn new(path: &Path) -> PathBuf {
    path.with_extension("redb.new")
}

/// Copies the readable rows of a damaged file to a new one.
fn salvaged(path: &Path, database: &Database) -> Result<Salvaged, redb::Error> {
    // Reading damaged contents may panic; the broker then starts empty.
    catch_unwind(AssertUnwindSafe(|| salvage::salvage(path, database))).unwrap_or_else(|_| {
        tracing::error!(file = %path.display(), "reading the damaged file panicked");
        Ok(Salvaged::default())
    })
}

/// Creates the tables of this format in an empty database.
pub(super) fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(META)?.insert(FORMAT, FORMAT_VERSION)?;
    write.open_table(RETAINED)?;
    write.open_table(SESSIONS)?;
    write.open_table(SUBSCRIPTIONS)?;
    write.open_table(QUEUE)?;
    write.open_table(MESSAGES)?;
    write.open_table(RECEIVED)?;
    write.commit()?;
    Ok(())
}

/// Replaces a damaged file with the new one, and returns the new path of the damaged file. If the file system supports
/// hard links, one of the two is in place at every moment.
fn replace(path: &Path, now: u64) -> io::Result<PathBuf> {
    let mut at = now;
    loop {
        let aside = path.with_extension(format!("redb.damaged-{at}"));
        if !aside.try_exists()? {
            if fs::hard_link(path, &aside).is_err() {
                fs::rename(path, &aside)?;
            }
            fs::rename(new(path), path)?;
            sync_directory(path);
            return Ok(aside);
        }
        at += 1;
    }
}

/// Syncs the directory, so that a rename survives a power failure. Errors are ignored, because some file systems
/// cannot sync directories.
fn sync_directory(path: &Path) {
    if let Some(dir) = path.parent()
        && let Ok(dir) = File::open(dir)
    {
        let _ = dir.sync_all();
    }
}

fn fault(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path },
        redb::Error::Io(source) => StoreError::Io { path, source },
        redb::Error::UpgradeRequired(found) => {
            StoreError::Newer { path, found: found.into(), supported: FORMAT_VERSION }
        }
        error => StoreError::Database { path, source: Box::new(error) },
    }
}

/// Returns whether `error` is caused by the contents of the file rather than by the system.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput
        ),
        redb::Error::Corrupted(_)
        | redb::Error::RepairAborted
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableIsMultimap(_) => true,
        _ => false,
    }
}

pub(super) type Read = (Database, Messages, Snapshot);

fn read(path: &Path, opener: &Opener, now: u64) -> Result<Read, ReadFailure> {
    let failed = |error| failure(path, error);
    let length = fs::metadata(path).map_err(|error| failed(error.into()))?.len();
    if length == 0 {
        return Err(ReadFailure::Damaged("it is empty".into()));
    }
    read_database(path, opener().map_err(|error| failed(error.into()))?, now)
}

fn failure(path: &Path, error: redb::Error) -> ReadFailure {
    if is_damage(&error) {
        ReadFailure::Damaged(error.to_string())
    } else {
        ReadFailure::Other(fault(path, error))
    }
}

/// Checks an open database and loads its contents.
pub(super) fn read_database(path: &Path, mut database: Database, now: u64) -> Result<Read, ReadFailure> {
    let failed = |error| failure(path, error);
    if !database.check_integrity().map_err(|error| failed(error.into()))? {
        return Err(ReadFailure::Damaged("checksums do not match".into()));
    }
    let read = database.begin_read().map_err(|error| failed(error.into()))?;
    let found = disk::version(&read).map_err(failed)?;
    drop(read);
    if found > FORMAT_VERSION {
        let path = path.to_owned();
        return Err(ReadFailure::Other(StoreError::Newer { path, found, supported: FORMAT_VERSION }));
    }
    let loaded = load::load(&database, now).map_err(|error| match error {
        LoadError::Database(error) => failed(error),
        LoadError::Damaged(what) => ReadFailure::Damaged(what),
    })?;
    if found < FORMAT_VERSION {
        upgrade(&database).map_err(failed)?;
    }
    let retained = load::Retained::new(path, &database, now).map_err(failed)?;
    let next_key = loaded.sessions.last().map_or(1, |session| session.key + 1);
    let snapshot = Snapshot {
        retained,
        sessions: loaded.sessions,
        damaged: None,
        salvaged: Salvaged::default(),
        next_key,
    };
    Ok((database, loaded.messages, snapshot))
}

/// Sets the format version to the current one, as the file may from now on contain records that earlier versions
/// cannot read.
fn upgrade(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(META)?.insert(FORMAT, FORMAT_VERSION)?;
    write.commit()?;
    Ok(())
}
