//! What of a file has arrived, next to where it will stand: `.NAME.DIGEST.part`.
//!
//! Whoever writes a part has it locked, and takes it away or puts it in its place only while it has. So a file that
//! is in its place is written by nobody, and what is put there is what was digested.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cap_std::fs::{MetadataExt as _, OpenOptions};
use rantai_client::wire::fault::{Code, Fault};

use super::folder::{Folder, LOOKED_AT, check, explain, modified_ms, no_file};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How often a part is opened that is put in its place each time before it is locked.
const TRIES: usize = 5;

impl Folder {
    /// A file's part, for this upload alone, made where it is missing together with the folders it stands in.
    pub(super) fn part(&self, path: &str, etag: &str) -> Result<(File, String), Fault> {
        check(path)?;
        let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let failed = |error: io::Error| explain(path, &error);
        if !folder.is_empty() {
            self.dir.create_dir_all(folder).map_err(failed)?;
        }
        if self.dir.symlink_metadata(path).is_ok_and(|about| !about.is_file()) {
            return Err(no_file(path));
        }
        let part = format!(".{name}.{}.part", &etag[..16]);
        let part = if folder.is_empty() { part } else { format!("{folder}/{part}") };
        for _ in 0..TRIES {
            let mut options = OpenOptions::new();
            let (file, _) =
                self.regular(&part, options.read(true).write(true).create(true)).map_err(failed)?;
            let file = file.into_std();
            if self.lock(&part, &file).map_err(failed)? {
                return Ok((file, part));
            }
        }
        let text = format!("{path:?} is being written by another upload");
        Err(Fault::new(Code::BUSY, text).with("retry_after_ms", 1_000))
    }

    /// Locks what was opened as `part`; false where somebody else has it, or had it and put it in its place or took
    /// it away in between.
    fn lock(&self, part: &str, file: &File) -> io::Result<bool> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let locked = std::os::unix::fs::MetadataExt::ino(&file.metadata()?);
        match self.dir.symlink_metadata(part) {
            Ok(there) => Ok(there.ino() == locked),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes parts away that nobody has gone on with for a day.
    pub(super) fn sweep(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let (mut waiting, mut looked_at) = (vec![String::new()], 0);
        while let Some(folder) = waiting.pop() {
            let inside = if folder.is_empty() { self.dir.entries() } else { self.dir.read_dir(&folder) };
            for entry in inside.into_iter().flatten().flatten().take(LOOKED_AT - looked_at) {
                looked_at += 1;
                let (Ok(name), Ok(about)) = (entry.file_name().into_string(), entry.metadata()) else {
                    continue;
                };
                let part = name.starts_with('.') && Path::new(&name).extension().is_some_and(|e| e == "part");
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if about.is_dir() {
                    waiting.push(path);
                } else if part && now.saturating_sub(modified_ms(&about)) > DAY_MS {
                    self.remove(&path);
                }
            }
        }
    }

    /// Puts a part in its place.
    pub(super) fn rename(&self, part: &str, path: &str) -> io::Result<()> {
        self.dir.rename(part, &self.dir, path)?;
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        // Without this the name could be gone after a power failure.
        self.dir.open(folder)?.sync_all()
    }

    pub(super) fn remove(&self, part: &str) {
        if let Err(error) = self.dir.remove_file(part) {
            tracing::warn!(part, "cannot be removed: {error}");
        }
    }
}
