//! Parts: the received bytes of files, stored next to their targets as `.NAME.DIGESTCHECK.part`. The check is a digest of
//! name and digest, which distinguishes a part from a file of the host with a similar name.
//!
//! The writer of a part holds a lock on it, and removes or renames it only while it holds the lock. Thus no one writes to
//! a file once it is in its place, and its contents are those that were digested.

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cap_std::fs::{MetadataExt as _, OpenOptions};
use rantai_client::wire::fault::{Code, Fault};
use rantai_group_commit::Space;

use super::folder::{Folder, check, explain, modified_ms, no_file};

const DAY: Duration = Duration::from_hours(24);
/// Number of digits of the digest in a part's name.
const DIGEST_DIGITS: usize = 16;
/// Maximum number of attempts to open a part that other writers rename or remove before it is locked.
const MAX_OPEN_ATTEMPTS: usize = 5;

impl Folder {
    /// Returns the path of a file's part, and its size in bytes.
    pub(super) fn part_of(&self, path: &str, etag: &str) -> Result<(String, u64), Fault> {
        check(path)?;
        if self.dir.symlink_metadata(path).is_ok_and(|about| !about.is_file()) {
            return Err(no_file(path));
        }
        let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let part = part_name(name, &etag[..DIGEST_DIGITS]);
        let part = if folder.is_empty() { part } else { format!("{folder}/{part}") };
        let there = self.dir.symlink_metadata(&part).map_or(0, |about| about.len());
        Ok((part, there))
    }

    /// Opens and locks a part; creates it and its folders if they are missing.
    pub(super) fn part(&self, path: &str, part: &str) -> Result<File, Fault> {
        let failed = |error: io::Error| explain(path, &error);
        if let Some((folder, _)) = part.rsplit_once('/') {
            self.create_folders(folder).map_err(failed)?;
        }
        for _ in 0..MAX_OPEN_ATTEMPTS {
            let mut options = OpenOptions::new();
            let (file, _) =
                self.regular(part, options.read(true).write(true).create(true)).map_err(failed)?;
            let file = file.into_std();
            if self.lock(part, &file).map_err(failed)? {
                return Ok(file);
            }
        }
        let text = format!("{path:?} is being written by another upload");
        Err(Fault::new(Code::BUSY, text).with("retry_after_ms", 1_000))
    }

    /// Creates missing folders, each synced to disk before the next: a committed file must keep its folders after a power
    /// failure.
    fn create_folders(&self, folder: &str) -> io::Result<()> {
        let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
        let mut parent = ".";
        for folder in ends.map(|end| &folder[..end]) {
            match self.dir.create_dir(folder) {
                Ok(()) => self.dir.open(parent)?.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            parent = folder;
        }
        Ok(())
    }

    /// Locks a file that was opened as `part`; returns `false` if another writer holds the lock, or has renamed or removed the
    /// part since it was opened.
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

    /// Returns how many bytes are free on the disk, minus those to be left free.
    pub(super) fn free_beyond(&self, configured: Option<u64>) -> io::Result<u64> {
        let space = Space::of(&self.dir)?;
        Ok(space.free.saturating_sub(space.floor(configured)))
    }

    /// Returns the size of all files in bytes, parts included, and the parts, oldest first.
    pub(super) fn used(&self) -> Result<(u64, Vec<Leftover>), Fault> {
        let (mut used, mut parts) = (0, Vec::new());
        self.walk("", |path, about| {
            if about.is_dir() {
                return true;
            }
            used += about.len();
            if let Some(path) = path.filter(|path| is_part(path)) {
                parts.push(Leftover { path, bytes: about.len(), modified_ms: modified_ms(about) });
            }
            false
        })?;
        parts.sort_by_key(|part| part.modified_ms);
        Ok((used, parts))
    }

    /// Removes parts that were not written for a day, and then further ones, the oldest first, until `wanted` bytes are freed,
    /// if that many can be; returns the number of bytes freed. Keeps parts that an upload writes, or that were written less
    /// than `idle` ago.
    pub(super) fn sweep(&self, parts: &[Leftover], wanted: u64, idle: Duration) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = |part: &Leftover| now.saturating_sub(Duration::from_millis(part.modified_ms));
        let (old, others): (Vec<_>, Vec<_>) = parts.iter().partition(|part| age(part) > DAY);
        let mut freed: u64 = old.iter().filter(|part| self.discard(&part.path)).map(|part| part.bytes).sum();
        let idle: Vec<_> = others.into_iter().filter(|part| age(part) >= idle).collect();
        if freed + idle.iter().map(|part| part.bytes).sum::<u64>() >= wanted {
            for part in idle {
                if freed < wanted && self.discard(&part.path) {
                    freed += part.bytes;
                }
            }
        }
        freed
    }

    /// Removes a part unless it is being written; returns whether it was removed.
    fn discard(&self, part: &str) -> bool {
        let file = self.regular(part, OpenOptions::new().read(true)).map(|(file, _)| file.into_std());
        file.is_ok_and(|file| self.lock(part, &file).unwrap_or(false) && self.remove(part))
    }

    /// Renames a part to its target, and syncs the folder.
    pub(super) fn rename(&self, part: &str, path: &str) -> io::Result<()> {
        self.dir.rename(part, &self.dir, path)?;
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        // Otherwise the name could be lost in a power failure.
        self.dir.open(folder)?.sync_all()
    }

    /// Removes a locked part; returns whether that succeeded.
    pub(super) fn remove(&self, part: &str) -> bool {
        let removed = self.dir.remove_file(part);
        removed.inspect_err(|error| tracing::warn!(part, "cannot be removed: {error}")).is_ok()
    }
}

/// Part that exists in the folder.
#[derive(Debug)]
pub(super) struct Leftover {
    pub(super) path: String,
    bytes: u64,
    modified_ms: u64,
}

/// Returns the name of the part of a file whose digest begins with these digits.
pub(super) fn part_name(name: &str, digest: &str) -> String {
    let check = blake3::hash(format!("part of {name} {digest}").as_bytes()).to_hex();
    format!(".{name}.{digest}{}.part", &check.as_str()[..DIGEST_DIGITS])
}

/// Checks whether a path is that of a part. Other hidden files that end in `.part` lack the digest or the matching check.
fn is_part(path: &str) -> bool {
    let part = path.rsplit('/').next().unwrap_or(path);
    let inner = part.strip_prefix('.').and_then(|part| part.strip_suffix(".part"));
    let Some((name, digest)) = inner.and_then(|inner| inner.rsplit_once('.')) else { return false };
    digest.get(..DIGEST_DIGITS).is_some_and(|digest| part_name(name, digest) == part)
}

pub(super) fn is_digit(digit: u8) -> bool {
    digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::time::SystemTime;

    use super::*;

    /// Regression: files of the host were removed at a start, because they were hidden and had the suffix of a part.
    #[test]
    fn sweep_removes_parts_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let part = part_name("book.txt", "0123456789abcdef");
        let renamed = part.replace("book", "other");
        let names = [
            (&*part, false),
            (&*renamed, true),
            (".book.txt.0123456789abcdef.part", true),
            (".book.txt.0123456789abcdef0123456789abcdef.part", true),
            (".part", true),
            (".engine.part", true),
            (".engine.0123456789ABCDEF.part", true),
            (".engine.0123456789abcde.part", true),
            ("book.0123456789abcdef.part", true),
        ];
        let long_ago = SystemTime::now() - Duration::from_hours(1_000);
        for (name, _) in names {
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).open(directory.path().join(name)).expect("made");
            file.set_modified(long_ago).expect("set");
        }
        let folder = Folder::open(directory.path()).expect("there");
        let (_, parts) = folder.used().expect("looked at");
        folder.sweep(&parts, u64::MAX, Duration::ZERO);
        for (name, stays) in names {
            assert_eq!(directory.path().join(name).exists(), stays, "{name}");
        }
    }

    /// Regression: another node that shares the folder renamed the part between open and lock.
    #[test]
    fn complete_file_is_not_reopened_as_a_part() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(directory.path()).expect("there");
        let (part, _) = folder.part_of("book", &"0".repeat(64)).expect("a name");
        let first = folder.part("book", &part).expect("made");
        let opened = File::open(directory.path().join(&part)).expect("there");
        assert!(!folder.lock(&part, &opened).expect("asked"), "the first has it");
        folder.rename(&part, "book").expect("put in its place");
        drop(first);
        assert!(!folder.lock(&part, &opened).expect("asked"), "it is the file");
    }
}
