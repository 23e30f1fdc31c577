//! Digests of files, computed once for each version of a file, and reads of the version they belong to.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use cap_std::fs::{File, Metadata, MetadataExt as _};
use parking_lot::Mutex;
use rantai_client::wire::fault::{Code, Fault};

use super::folder::{Folder, disk};

/// Maximum number of files that are kept open with their digests.
const MOST: usize = 64;

/// Maximum number of files that are digested at the same time.
const AT_ONCE: usize = 64;

/// Identity of a version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Version {
    fn of(about: &Metadata) -> Self {
        Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.len(),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

#[derive(Debug)]
struct Digested {
    file: std::fs::File,
    version: Version,
    etag: String,
}

/// Files that were requested last, with their digests.
#[derive(Debug)]
pub(super) struct Known {
    files: Mutex<Table>,
    /// Locks by hash of the path, so that concurrent requests for a file's digest compute it once.
    digesting: [Mutex<()>; AT_ONCE],
    hashing: RandomState,
}

impl Default for Known {
    fn default() -> Self {
        let digesting = [const { Mutex::new(()) }; AT_ONCE];
        Self { files: Mutex::default(), digesting, hashing: RandomState::new() }
    }
}

#[derive(Debug, Default)]
struct Table {
    by_path: HashMap<String, Arc<Digested>>,
    /// Paths in the order of insertion, the oldest first.
    order: VecDeque<String>,
}

impl Known {
    /// Returns the size in bytes and the digest of a file's current version.
    pub(super) fn digest(&self, folder: &Folder, path: &str) -> Result<(u64, String), Fault> {
        let _alone = self.digesting[self.hashing.hash_one(path) as usize % AT_ONCE].lock();
        let (file, about) = folder.file(path)?;
        let version = Version::of(&about);
        if let Some(known) = self.known(path).filter(|known| known.version == version) {
            return Ok((version.size, known.etag.clone()));
        }
        let etag = digest(&file).map_err(disk(path))?;
        let after = file.metadata().map_err(disk(path))?;
        if Version::of(&after) != version {
            return Err(changing(path));
        }
        let digested = Digested { file: file.into_std(), version, etag: etag.clone() };
        self.remember(path, Arc::new(digested));
        Ok((version.size, etag))
    }

    /// Returns bytes of the version that has this digest.
    pub(super) fn read(
        &self,
        folder: &Folder,
        path: &str,
        etag: &str,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, Fault> {
        let right = |known: &Arc<Digested>| known.etag == etag;
        let mut known = self.known(path).filter(right);
        if known.is_none() {
            // The node was restarted, or the file was evicted by many others.
            self.digest(folder, path)?;
            known = self.known(path).filter(right);
        }
        let known = known.ok_or_else(|| another(path))?;
        let left = known.version.size.saturating_sub(offset);
        let mut bytes = vec![0; u64::from(length).min(left) as usize];
        known.file.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => another(path),
            _ => disk(path)(error),
        })?;
        // The bytes belong to the digested version if the file has not changed until now.
        let about = known.file.metadata().map_err(disk(path))?;
        if Version::of(&Metadata::from_just_metadata(about)) != known.version {
            return Err(another(path));
        }
        Ok(bytes)
    }

    fn known(&self, path: &str) -> Option<Arc<Digested>> {
        self.files.lock().by_path.get(path).cloned()
    }

    fn remember(&self, path: &str, digested: Arc<Digested>) {
        let mut table = self.files.lock();
        if table.by_path.insert(path.to_owned(), digested).is_none() {
            table.order.push_back(path.to_owned());
        }
        if table.order.len() > MOST
            && let Some(oldest) = table.order.pop_front()
        {
            table.by_path.remove(&oldest);
        }
    }
}

fn digest(mut file: &File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().to_hex().to_string()),
            Ok(count) => {
                hasher.update(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn another(path: &str) -> Fault {
    Fault::new(Code::MISMATCH, format!("{path:?} is not the file that was opened; open it again"))
}

fn changing(path: &str) -> Fault {
    Fault::failed("changing", format!("{path:?} is being written; try again later"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of bytes that this process has read, from disk or memory.
    fn read_so_far() -> u64 {
        let told = std::fs::read_to_string("/proc/self/io").expect("there");
        let read = told.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("it is told");
        read.parse().expect("a number")
    }

    /// Cause: each of eight reads after a restart read the whole file for its digest.
    #[test]
    fn a_file_that_many_ask_for_is_digested_once() {
        const SIZE: u64 = 32 << 20;
        let directory = tempfile::tempdir().expect("a directory");
        let file = std::fs::File::create(directory.path().join("book")).expect("made");
        file.set_len(SIZE).expect("long");
        let (folder, known) = (Folder::open(directory.path()).expect("there"), Known::default());
        let before = read_so_far();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| known.digest(&folder, "book").expect("digested"));
            }
        });
        let read = read_so_far() - before;
        assert!(read < 3 * SIZE, "{read} bytes");
    }
}
