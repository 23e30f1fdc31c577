//! Digests of files and of prefixes of files, computed once for each version, and reads of the version they belong to.
//!
//! A whole file is valid while its metadata is unchanged. A prefix is for files that are being written: it is valid
//! while its path leads to the same file and that is not shorter. Overwritten bytes of a prefix are detected only by
//! the digest, which a reader of all bytes compares.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use cap_std::fs::{File, Metadata, MetadataExt as _};
use parking_lot::{Mutex, MutexGuard};
use rantai_client::files::interface::Attributes;
use rantai_client::wire::fault::{Code, Fault};

use super::folder::{Folder, attributes, disk};

/// Maximum number of files that are kept open with their digests; the same for prefixes.
const MAX_KEPT: usize = 64;

/// Maximum number of files that are digested at the same time.
const MAX_DIGESTS_AT_ONCE: usize = 64;

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

    fn is_of_same_file(self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Kind of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Prefix,
}

/// Bytes with their digest.
#[derive(Debug)]
pub(super) struct Digested {
    path: String,
    kind: Kind,
    /// Kept open, because another file could get its inode number otherwise.
    file: std::fs::File,
    /// Version of the file when it was digested.
    version: Version,
    /// Number of bytes.
    pub(super) size: u64,
    pub(super) etag: String,
}

impl Digested {
    fn is_valid(&self, folder: &Folder) -> io::Result<bool> {
        match self.kind {
            Kind::Whole => {
                let about = Metadata::from_just_metadata(self.file.metadata()?);
                Ok(Version::of(&about) == self.version)
            }
            // A rotated log has another name afterwards.
            Kind::Prefix => Ok(folder.file(&self.path).is_ok_and(|(_, about)| {
                Version::of(&about).is_of_same_file(self.version) && about.len() >= self.size
            })),
        }
    }
}

/// Files that were requested last, with their digests.
#[derive(Debug)]
pub(super) struct KnownFiles {
    whole: Mutex<DigestTable>,
    /// Kept separately, because one growing file has many prefixes.
    prefixes: Mutex<DigestTable>,
    /// Locks by a hash of the path: a request for the digest of a file that is being digested waits for it.
    digesting: [Mutex<()>; MAX_DIGESTS_AT_ONCE],
    hashing: RandomState,
}

impl Default for KnownFiles {
    fn default() -> Self {
        Self {
            whole: Mutex::default(),
            prefixes: Mutex::default(),
            digesting: [const { Mutex::new(()) }; MAX_DIGESTS_AT_ONCE],
            hashing: RandomState::new(),
        }
    }
}

/// Digested bytes, oldest first.
#[derive(Debug, Default)]
struct DigestTable(VecDeque<Arc<Digested>>);

impl DigestTable {
    fn find(&self, is_right: impl Fn(&Digested) -> bool) -> Option<Arc<Digested>> {
        self.0.iter().rev().find(|known| is_right(known)).cloned()
    }

    /// Keeps digested bytes in place of those of an earlier version.
    fn keep(&mut self, digested: Digested) -> Arc<Digested> {
        self.0.retain(|known| {
            known.path != digested.path || known.kind == Kind::Prefix && known.size != digested.size
        });
        if self.0.len() >= MAX_KEPT {
            self.0.pop_front();
        }
        let digested = Arc::new(digested);
        self.0.push_back(digested.clone());
        digested
    }
}

impl KnownFiles {
    /// Opens a file as it is now, or with `growing` the bytes that it has now; returns its attributes too.
    pub(super) fn open(
        &self,
        folder: &Folder,
        path: &str,
        growing: bool,
    ) -> Result<(Arc<Digested>, Attributes), Fault> {
        let (known, about) =
            if growing { self.prefix(folder, path, None)? } else { self.whole(folder, path)? };
        Ok((known, attributes(&about)))
    }

    fn whole(&self, folder: &Folder, path: &str) -> Result<(Arc<Digested>, Metadata), Fault> {
        let _alone = self.digesting(path);
        let (file, about) = folder.file(path)?;
        let version = Version::of(&about);
        let known = self.whole.lock().find(|known| known.path == path && known.version == version);
        if let Some(known) = known {
            return Ok((known, about));
        }
        let etag = digest(&file, version.size).map_err(disk(path))?;
        let after = Version::of(&file.metadata().map_err(disk(path))?);
        let etag = etag.filter(|_| after == version).ok_or_else(|| changing(path))?;
        Ok((self.keep(path, Kind::Whole, file, version, (version.size, etag)), about))
    }

    /// Returns the first bytes of a file: all that it has, or those of the requested size and digest.
    fn prefix(
        &self,
        folder: &Folder,
        path: &str,
        wanted: Option<(u64, &str)>,
    ) -> Result<(Arc<Digested>, Metadata), Fault> {
        let _alone = self.digesting(path);
        let (file, about) = folder.file(path)?;
        let version = Version::of(&about);
        let size = wanted.map_or(version.size, |(size, _)| size);
        if size > version.size {
            return Err(truncated(path, version.size, size));
        }
        let is_unchanged =
            |known: &Digested| known.path == path && known.size == size && known.version == version;
        let is_wanted = |known: &Digested| {
            known.path == path
                && wanted == Some((known.size, &*known.etag))
                && known.version.is_of_same_file(version)
        };
        if let Some(known) = self.prefixes.lock().find(|known| is_unchanged(known) || is_wanted(known)) {
            return Ok((known, about));
        }
        let whole = self.whole.lock().find(is_unchanged);
        let etag = match whole {
            Some(whole) => whole.etag.clone(),
            None => digest(&file, size).map_err(disk(path))?.ok_or_else(|| another(path))?,
        };
        Ok((self.keep(path, Kind::Prefix, file, version, (size, etag)), about))
    }

    /// Reads bytes of the version with this digest, and for a prefix this size. A node that has not opened the file
    /// finds the prefix by its size.
    pub(super) fn read(
        &self,
        folder: &Folder,
        path: &str,
        (etag, size): (&str, Option<u64>),
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, Fault> {
        let known = self.version(folder, path, etag, size)?;
        let left = known.size.saturating_sub(offset);
        let mut bytes = vec![0; u64::from(length).min(left) as usize];
        known.file.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => another(path),
            _ => disk(path)(error),
        })?;
        // The bytes belong to the digested version, if that is still current after the read.
        if known.is_valid(folder).map_err(disk(path))? {
            return Ok(bytes);
        }
        // A missing file was replaced, or is about to be.
        Err(match folder.file(path) {
            Ok((_, about)) if about.len() < known.size => truncated(path, about.len(), known.size),
            _ => another(path),
        })
    }

    fn version(
        &self,
        folder: &Folder,
        path: &str,
        etag: &str,
        size: Option<u64>,
    ) -> Result<Arc<Digested>, Fault> {
        let is_right = |known: &Digested| {
            known.path == path && known.etag == etag && size.is_none_or(|size| known.size == size)
        };
        let known = if size.is_some() { None } else { self.whole.lock().find(is_right) };
        if let Some(known) = known.or_else(|| self.prefixes.lock().find(is_right)) {
            return Ok(known);
        }
        // The node was restarted, another one has opened the file, or many other files were read since.
        let (known, _) = match size {
            Some(size) => self.prefix(folder, path, Some((size, etag)))?,
            None => self.whole(folder, path)?,
        };
        if is_right(&known) { Ok(known) } else { Err(another(path)) }
    }

    fn digesting(&self, path: &str) -> MutexGuard<'_, ()> {
        self.digesting[self.hashing.hash_one(path) as usize % MAX_DIGESTS_AT_ONCE].lock()
    }

    fn keep(
        &self,
        path: &str,
        kind: Kind,
        file: File,
        version: Version,
        (size, etag): (u64, String),
    ) -> Arc<Digested> {
        let table = match kind {
            Kind::Whole => &self.whole,
            Kind::Prefix => &self.prefixes,
        };
        let file = file.into_std();
        table.lock().keep(Digested { path: path.to_owned(), kind, file, version, size, etag })
    }
}

/// Returns the digest of the first bytes of a file, or `None` if it has fewer.
fn digest(file: &File, size: u64) -> io::Result<Option<String>> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = file.take(size);
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((hasher.count() == size).then(|| hasher.finalize().to_hex().to_string()))
}

fn another(path: &str) -> Fault {
    let text = format!("{path:?} was changed or replaced since it was opened; open it again");
    Fault::new(Code::MISMATCH, text)
}

fn truncated(path: &str, now: u64, opened: u64) -> Fault {
    let text = format!(
        "{path:?} was truncated: it has {now} bytes, and had {opened} when it was opened; open it again"
    );
    Fault::new(Code::MISMATCH, text)
}

fn changing(path: &str) -> Fault {
    let text = format!(
        "{path:?} is being written; try again later, or fetch what is there now with --growing (`open` with \
         `growing` = true)"
    );
    Fault::failed("changing", text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// Shared folder with one file, "log".
    struct World {
        directory: tempfile::TempDir,
        folder: Folder,
        known: KnownFiles,
    }

    impl World {
        fn new(text: &str) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let folder = Folder::open(directory.path()).expect("there");
            let world = Self { directory, folder, known: KnownFiles::default() };
            std::fs::write(world.path("log"), text).expect("written");
            world
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.directory.path().join(name)
        }

        fn append(&self, text: &str) {
            let file = std::fs::OpenOptions::new().append(true).open(self.path("log"));
            file.expect("there").write_all(text.as_bytes()).expect("written");
        }

        fn open(&self, growing: bool) -> Result<(u64, String), Fault> {
            let (known, _) = self.known.open(&self.folder, "log", growing)?;
            Ok((known.size, known.etag.clone()))
        }

        fn read(&self, known: &KnownFiles, size: Option<u64>, etag: &str) -> Result<String, Fault> {
            let read = known.read(&self.folder, "log", (etag, size), 0, 1_000);
            read.map(|bytes| String::from_utf8(bytes).expect("a text"))
        }
    }

    fn digest_of(text: &str) -> String {
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    #[test]
    fn a_prefix_stays_valid_while_its_file_grows_on_every_node() {
        let world = World::new("one\n");
        let first = world.open(true).expect("there");
        assert_eq!(first, (4, digest_of("one\n")));
        world.append("two\n");
        let second = world.open(true).expect("there");
        assert_eq!(second, (8, digest_of("one\ntwo\n")));
        world.append("three\n");
        // One node that has opened it, and one that was restarted.
        for known in [&world.known, &KnownFiles::default()] {
            for ((size, etag), text) in [(&first, "one\n"), (&second, "one\ntwo\n")] {
                assert_eq!(world.read(known, Some(*size), etag).as_deref(), Ok(text));
                assert_eq!(
                    world.read(known, None, etag).as_deref(),
                    Ok(text),
                    "it is known by its digest, too"
                );
            }
            let wrong = world.read(known, Some(5), &first.1).expect_err("another size");
            assert_eq!(wrong.code, Code::MISMATCH);
        }
        // A reader that has opened the whole file is told that it has grown.
        let whole = world.open(false).expect("quiet");
        assert_eq!(whole, world.open(true).expect("there"));
        world.append("four\n");
        assert!(world.read(&world.known, Some(whole.0), &whole.1).is_ok());
        let grown = world.read(&world.known, None, &whole.1).expect_err("another version");
        assert_eq!(grown.code, Code::MISMATCH);
    }

    #[test]
    fn a_file_that_is_truncated_or_replaced_ends_its_prefixes() {
        let opened = |world: &World| world.open(true).expect("there");
        let refused = |world: &World, (size, etag): &(u64, String)| {
            for known in [&world.known, &KnownFiles::default()] {
                let fault = world.read(known, Some(*size), etag).expect_err("another file");
                assert_eq!(fault.code, Code::MISMATCH, "{fault}");
            }
        };
        let truncated = World::new("one\n");
        let prefix = opened(&truncated);
        std::fs::write(truncated.path("log"), "on").expect("written");
        refused(&truncated, &prefix);

        let rotated = World::new("one\n");
        let prefix = opened(&rotated);
        std::fs::rename(rotated.path("log"), rotated.path("log.1")).expect("renamed");
        let fault = rotated.read(&rotated.known, Some(prefix.0), &prefix.1).expect_err("no file");
        assert_eq!(fault.code, Code::MISMATCH);
        std::fs::write(rotated.path("log"), "another file\n").expect("written");
        refused(&rotated, &prefix);

        // Only the digest detects this, also for the next reader.
        let rewritten = World::new("one\n");
        let prefix = opened(&rewritten);
        std::fs::write(rewritten.path("log"), "another\n").expect("written");
        let read = rewritten.read(&rewritten.known, Some(prefix.0), &prefix.1).expect("as long as before");
        assert_ne!(digest_of(&read), prefix.1);
        let changed = || std::fs::metadata(rewritten.path("log")).expect("there").ctime_nsec();
        // Of the same size: only the modification time differs, which some kernels count in milliseconds.
        let before = changed();
        while changed() == before {
            std::fs::write(rewritten.path("log"), "two\n").expect("written");
        }
        assert_eq!(opened(&rewritten).1, digest_of("two\n"), "nothing of before is told");
    }

    #[test]
    fn kept_prefixes_are_bounded_separately_from_whole_files() {
        let world = World::new("");
        std::fs::write(world.path("book"), "book").expect("written");
        world.known.open(&world.folder, "book", false).expect("there");
        let mut opened = Vec::new();
        for _ in 0..2 * MAX_KEPT {
            world.append("line\n");
            opened.push(world.open(true).expect("there"));
        }
        let kept = |table: &Mutex<DigestTable>| table.lock().0.len();
        assert_eq!((kept(&world.known.whole), kept(&world.known.prefixes)), (1, MAX_KEPT));
        // A prefix that was dropped is found again by its size.
        let (size, etag) = &opened[0];
        assert_eq!(world.read(&world.known, Some(*size), etag).as_deref(), Ok("line\n"));
        assert_eq!(kept(&world.known.prefixes), MAX_KEPT);
    }

    /// Returns the number of bytes that this process has read, from disk or memory.
    fn read_so_far() -> u64 {
        let told = std::fs::read_to_string("/proc/self/io").expect("there");
        let read = told.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("it is told");
        read.parse().expect("a number")
    }

    /// Regression: each of eight reads after a restart read the whole file for its digest.
    #[test]
    fn concurrent_requests_digest_a_file_once() {
        const SIZE: u64 = 32 << 20;
        let directory = tempfile::tempdir().expect("a directory");
        let file = std::fs::File::create(directory.path().join("book")).expect("made");
        file.set_len(SIZE).expect("long");
        let (folder, known) = (Folder::open(directory.path()).expect("there"), KnownFiles::default());
        let before = read_so_far();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| known.open(&folder, "book", false).expect("digested"));
            }
        });
        let read = read_so_far() - before;
        assert!(read < 3 * SIZE, "{read} bytes");

        let etag = known.open(&folder, "book", false).expect("known").0.etag.clone();
        let (known, before) = (KnownFiles::default(), read_so_far());
        let read = |block: u64| {
            file.set_len(SIZE + block).expect("it grows");
            known.read(&folder, "book", (&etag, Some(SIZE)), block, 1_000).expect("read");
        };
        std::thread::scope(|scope| {
            for block in 1..=8 {
                let read = &read;
                scope.spawn(move || read(block));
            }
        });
        let read = read_so_far() - before;
        assert!(read < 3 * SIZE, "{read} bytes for a prefix");
    }
}
