//! Partially received files: `.NAME.DIGEST.part` in the folder of the destination, until the file is complete.
//!
//! The digest in the name is computed from the file's digest and its name here, so that no unrelated file has this name, and
//! two files never share a part. The writer of a part holds a lock on it, and removes or renames it only while it holds the
//! lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::interface::Attributes;
use super::place::{Placed, place};
use super::{FileError, WINDOW, blocking, disk, sparse};

/// Number and interval of attempts to lock a part, as a transfer that was cancelled or has just ended may still hold it.
const LOCK_ATTEMPTS: usize = 20;
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Number of digits of the digest in a part's name.
const DIGEST_DIGITS: usize = 16;
/// Maximum length of the file's name in its part's name, in bytes, because a name is limited to 255 bytes.
const MAX_FILE_NAME_BYTES: usize = 200;

/// Part of a file, locked for one transfer.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    target: PathBuf,
    file: File,
}

/// What exists by the name of a part.
enum FoundPart {
    Locked(File),
    /// Another transfer holds the lock.
    Busy,
    /// The file is not a part.
    Other,
}

impl Part {
    /// Opens and locks the part of the file with this digest; creates it if it is missing.
    pub(super) async fn open(target: &Path, etag: &str) -> Result<Self, FileError> {
        let path = part_of(target, etag);
        for _ in 0..LOCK_ATTEMPTS {
            let (opening, place) = (path.clone(), target.to_owned());
            let found = blocking(&path, move || find(&opening, &place)).await.map_err(|error| match error {
                // The folder of both is missing; the user does not know the part.
                FileError::Disk { source, .. } if source.kind() == ErrorKind::NotFound => {
                    disk(target)(source)
                }
                error => error,
            });
            match found? {
                FoundPart::Locked(file) => return Ok(Self { path, target: target.to_owned(), file }),
                FoundPart::Busy => sleep(LOCK_RETRY_DELAY).await,
                FoundPart::Other => return Err(FileError::NoPart(path)),
            }
        }
        Err(FileError::Busy(path))
    }

    /// Keeps the whole blocks of the part; returns their size in bytes, and a writer for the blocks after them. Fails if the
    /// rest does not fit on the disk: a full disk would stop everything else that writes there.
    pub(super) async fn resume(self, size: u64, block: u64) -> Result<(u64, Writer), FileError> {
        let Self { path, target, mut file } = self;
        let (room, folder) = (target.clone(), path.clone());
        let (whole, free, file, hasher) = blocking(&path, move || {
            let there = file.metadata()?.len();
            let whole = if there > size { 0 } else { there - there % block };
            file.set_len(whole)?;
            let free = free_on(&file)?;
            if size - whole > free {
                if whole == 0 {
                    std::fs::remove_file(&folder)?;
                }
                return Ok((whole, Some(free), file, blake3::Hasher::new()));
            }
            file.seek(SeekFrom::Start(0))?;
            let mut hasher = blake3::Hasher::new();
            let mut buffer = vec![0; 64 << 10];
            let mut left = whole;
            while left > 0 {
                let wanted = left.min(buffer.len() as u64) as usize;
                file.read_exact(&mut buffer[..wanted])?;
                hasher.update(&buffer[..wanted]);
                left -= wanted as u64;
            }
            Ok((whole, None, file, hasher))
        })
        .await?;
        if let Some(free) = free {
            return Err(FileError::NoRoom { path: room, needed: size - whole, free });
        }
        let (blocks, waiting) = mpsc::channel(WINDOW);
        let part = path.clone();
        let thread = tokio::task::spawn_blocking(move || {
            write_all(&file, whole, hasher, waiting)
                .inspect_err(|error| {
                    if error.kind() == ErrorKind::StorageFull {
                        // Removed while it is still locked. Keeping the part would fill the disk for everything else
                        // that uses it.
                        let _ = std::fs::remove_file(&part);
                    }
                })
                .map(|hasher| (file, hasher))
        });
        Ok((whole, Writer { path, target, size, blocks, thread }))
    }
}

/// Writes blocks on a thread while further ones are received. The part stays locked until the thread has ended.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    target: PathBuf,
    size: u64,
    blocks: mpsc::Sender<Bytes>,
    thread: JoinHandle<std::io::Result<(File, blake3::Hasher)>>,
}

/// Appends to a part of `there` bytes. The part is always as long as the data that has arrived.
fn write_all(
    file: &File,
    mut there: u64,
    mut hasher: blake3::Hasher,
    mut blocks: mpsc::Receiver<Bytes>,
) -> std::io::Result<blake3::Hasher> {
    while let Some(bytes) = blocks.blocking_recv() {
        sparse::append(file, there, &bytes)?;
        hasher.update(&bytes);
        there += bytes.len() as u64;
    }
    Ok(hasher)
}

/// Returns the number of bytes that are free for unprivileged users on the disk of a file.
fn free_on(file: &File) -> std::io::Result<u64> {
    let disk = rustix::fs::fstatvfs(file)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl Writer {
    /// Queues the next block; returns `false` if writing has failed, for which [`finish`](Self::finish) returns the error.
    pub(super) async fn append(&self, bytes: Bytes) -> bool {
        self.blocks.send(bytes).await.is_ok()
    }

    /// Moves the part to its destination with these attributes and returns true, if its digest is the announced one;
    /// otherwise removes the part and returns false. If another file is at the destination and must not be replaced,
    /// the part stays.
    pub(super) async fn finish(
        self,
        etag: &str,
        attributes: Attributes,
        replace: bool,
    ) -> Result<bool, FileError> {
        let Self { path, target, size, blocks, thread } = self;
        drop(blocks);
        let (file, hasher) = match ended(thread).await {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = folder.unwrap_or(Path::new(".")).to_owned();
                let free = blocking(&path, move || free_on(&File::open(folder)?)).await?;
                return Err(FileError::NoRoom { path: target, needed: size, free });
            }
            Err(error) => return Err(disk(&path)(error)),
        };
        let right = hasher.finalize().to_hex().as_str() == etag;
        let (to, etag) = (target.clone(), etag.to_owned());
        let placed = blocking(&target, move || {
            if !right {
                std::fs::remove_file(&path)?;
                drop(file);
                return Ok(Placed::Wrong);
            }
            attributes.apply_or_log(&file, &path);
            file.sync_all()?;
            place(&path, &to, (file.metadata()?.len(), &etag), attributes, replace)
        })
        .await?;
        match placed {
            Placed::Whole => Ok(true),
            Placed::Wrong => Ok(false),
            Placed::Taken => Err(FileError::Exists(target)),
        }
    }

    /// Closes the part and keeps it for the next transfer.
    pub(super) async fn leave(self) {
        drop(self.blocks);
        // The transfer fails with another error, which is the one to return.
        let _ = ended(self.thread).await;
    }

    /// Removes the part.
    pub(super) async fn discard(self) -> Result<(), FileError> {
        let Self { path, blocks, thread, .. } = self;
        drop(blocks);
        let (file, _) = ended(thread).await.map_err(disk(&path))?;
        blocking(&path.clone(), move || {
            std::fs::remove_file(path)?;
            drop(file);
            Ok(())
        })
        .await
    }
}

type Written = std::io::Result<(File, blake3::Hasher)>;

async fn ended(thread: JoinHandle<Written>) -> Written {
    thread.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

fn part_of(target: &Path, etag: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    // Hashed, as the etag comes from the object and may contain characters that a file name must not have.
    hasher.update(etag.as_bytes()).update(&[0]).update(name.as_bytes());
    let digest = hasher.finalize().to_hex();
    let name = &name.as_bytes()[..name.len().min(MAX_FILE_NAME_BYTES)];
    let part = [b".", name, b".", &digest.as_bytes()[..DIGEST_DIGITS], b".part"].concat();
    target.with_file_name(std::ffi::OsStr::from_bytes(&part))
}

/// Opens and locks the part of `target`. A symbolic link, or a file with several links, is not a part, as writing to it would
/// change another file.
fn find(path: &Path, target: &Path) -> std::io::Result<FoundPart> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true);
    let file = match options.clone().create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let is_file = std::fs::symlink_metadata(path).map(|about| about.is_file());
            match is_file.and_then(|is_file| is_file.then(|| options.open(path)).transpose()) {
                Ok(Some(file)) => file,
                Ok(None) => return Ok(FoundPart::Other),
                // It was renamed or removed in the meantime.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(FoundPart::Busy),
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    };
    if !lock(path, &file)? {
        return Ok(FoundPart::Busy);
    }
    let about = file.metadata()?;
    if about.nlink() == 1 {
        return Ok(FoundPart::Locked(file));
    }
    let same = |there: std::fs::Metadata| (there.dev(), there.ino()) == (about.dev(), about.ino());
    if std::fs::symlink_metadata(target).is_ok_and(same) {
        // A hard link of the complete file: the process that created it ended before it had removed this name.
        std::fs::remove_file(path)?;
        return Ok(FoundPart::Busy);
    }
    Ok(FoundPart::Other)
}

/// Locks a file that was opened as `path`; returns `false` if another transfer holds the lock, or has renamed or removed the
/// part since it was opened: writing to it then would change a complete file.
fn lock(path: &Path, file: &File) -> std::io::Result<bool> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let locked = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (locked.dev(), locked.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("rantai-part-{}", uuid::Uuid::new_v4()));
            std::fs::create_dir(&folder).expect("made");
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn error_of_a_missing_folder_names_the_target_file() {
        let folder = Folder::new();
        let target = folder.0.join("missing/book");
        let error = Part::open(&target, "0").await.expect_err("no folder");
        assert!(matches!(&error, FileError::Disk { path, .. } if *path == target), "{error}");
    }

    /// Regression: of two transfers to one name, the second opened the part, and locked it after the first had renamed
    /// it to the file. It kept the whole blocks, which truncated the file, and went on writing.
    #[test]
    fn complete_file_is_not_reopened_as_a_part() {
        let folder = Folder::new();
        let (part, target) = (folder.0.join(".book.part"), folder.0.join("book"));
        std::fs::write(&part, "x").expect("written");
        let open = || OpenOptions::new().read(true).write(true).open(&part).expect("there");
        let (first, second, third) = (open(), open(), open());
        assert!(lock(&part, &first).expect("asked"));
        assert!(!lock(&part, &second).expect("asked"), "the first has it");
        std::fs::rename(&part, &target).expect("put in its place");
        drop(first);
        assert!(!lock(&part, &second).expect("asked"), "there is no part");
        drop(second);
        std::fs::write(&part, "y").expect("written");
        assert!(!lock(&part, &third).expect("asked"), "the part is another one");
    }

    #[tokio::test]
    async fn part_lock_of_an_ending_transfer_is_awaited_and_others_are_busy() {
        let folder = Folder::new();
        let target = folder.0.join("book");
        let held = Part::open(&target, "1").await.expect("nobody has it");
        let second = tokio::spawn({
            let target = target.clone();
            async move { Part::open(&target, "1").await }
        });
        tokio::task::yield_now().await;
        drop(held);
        let held = second.await.expect("no panic").expect("free in a moment");
        assert!(matches!(Part::open(&target, "1").await, Err(FileError::Busy(_))));
        let other = Part::open(&target, "2").await.expect("of another file");
        drop((held, other));
    }

    #[test]
    fn part_name_is_hidden_and_unique_for_its_file() {
        let long = "\u{672c}".repeat(85);
        for name in ["book", ".book", "book.part", "-", &long] {
            let names = ["1", "2", "../x", ""].map(|etag| part_of(&Path::new("a/b").join(name), etag));
            for part in &names {
                assert_eq!(part.parent(), Some(Path::new("a/b")), "{}", part.display());
                let name = part.file_name().expect("a name").as_bytes();
                assert!(name.starts_with(b".") && name.ends_with(b".part") && name.len() <= 255);
            }
            let unique: std::collections::HashSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "{name}");
        }
    }

    #[tokio::test]
    async fn foreign_file_with_the_name_of_a_part_is_untouched() {
        let folder = Folder::new();
        let (target, elsewhere) = (folder.0.join("book"), folder.0.join("elsewhere"));
        let part = part_of(&target, "1");
        let refused = async |what: &str| {
            let opened = Part::open(&target, "1").await;
            assert!(matches!(opened, Err(FileError::NoPart(_))), "{what}: {opened:?}");
            assert!(std::fs::symlink_metadata(&part).is_ok(), "{what} is still there");
        };
        std::fs::write(&elsewhere, "mine").expect("written");
        std::os::unix::fs::symlink(&elsewhere, &part).expect("linked");
        refused("a link").await;
        std::fs::remove_file(&part).expect("removed");
        std::os::unix::fs::symlink(folder.0.join("nothing"), &part).expect("linked");
        refused("a link to nothing").await;
        assert!(!folder.0.join("nothing").exists());
        std::fs::remove_file(&part).expect("removed");
        std::fs::hard_link(&elsewhere, &part).expect("linked");
        refused("another file's second name").await;
        std::fs::remove_file(&part).expect("removed");
        std::fs::create_dir(&part).expect("made");
        refused("a folder").await;
        assert_eq!(std::fs::read_to_string(&elsewhere).expect("there"), "mine");
    }

    #[tokio::test]
    async fn hard_linked_part_is_removed_without_changing_the_file() {
        let folder = Folder::new();
        let target = folder.0.join("book");
        std::fs::write(&target, "whole").expect("written");
        std::fs::hard_link(&target, part_of(&target, "1")).expect("linked");
        let part = Part::open(&target, "1").await.expect("a new one");
        let (resumed, writer) = part.resume(5, 1).await.expect("empty");
        assert_eq!(resumed, 0);
        writer.leave().await;
        assert_eq!(std::fs::read_to_string(&target).expect("there"), "whole");
    }

    /// Regression: such a file filled the disk, and its part stayed.
    #[tokio::test]
    async fn file_larger_than_the_free_space_is_refused_before_writing() {
        let folder = Folder::new();
        let target = folder.0.join("book");
        let size = 1 << 60;
        let part = Part::open(&target, "1").await.expect("a new one");
        let refused = part.resume(size, 1).await.expect_err("no disk is so large");
        assert!(
            matches!(&refused, FileError::NoRoom { path, needed, .. } if *path == target && *needed == size)
        );
        assert_eq!(std::fs::read_dir(&folder.0).expect("there").count(), 0, "nothing is left");
        // The existing part may be worth keeping, because there may be room later.
        std::fs::write(part_of(&target, "1"), "12345").expect("written");
        let part = Part::open(&target, "1").await.expect("it is there");
        let refused = part.resume(size, 2).await.expect_err("no disk is so large");
        assert!(matches!(&refused, FileError::NoRoom { needed, .. } if *needed == size - 4), "{refused}");
        assert_eq!(std::fs::read(part_of(&target, "1")).expect("kept"), b"1234");
    }

    #[tokio::test]
    async fn part_that_ends_with_a_hole_is_resumed_after_the_hole() {
        const BLOCK: usize = 64 << 10;
        let folder = Folder::new();
        let target = folder.0.join("book");
        let bytes = [vec![0; BLOCK], vec![7; BLOCK], vec![0; 2 * BLOCK], vec![0; 10]].concat();
        let etag = blake3::hash(&bytes).to_hex().to_string();
        let mut there = 0;
        for blocks in 0..=4 {
            let part = Part::open(&target, &etag).await.expect("free in a moment");
            let (resumed, writer) = part.resume(bytes.len() as u64, BLOCK as u64).await.expect("read");
            assert_eq!(resumed, there as u64, "all whole blocks are kept");
            if blocks == 4 {
                writer.append(Bytes::copy_from_slice(&bytes[there..])).await;
                let set = Attributes { modified_ms: Some(1_000_000_000_000), executable: Some(true) };
                assert!(writer.finish(&etag, set, false).await.expect("put in its place"));
                break;
            }
            writer.append(Bytes::copy_from_slice(&bytes[there..there + BLOCK])).await;
            writer.leave().await;
            there += BLOCK;
        }
        assert!(std::fs::read(&target).expect("there") == bytes);
        let about = std::fs::metadata(&target).expect("there");
        assert!(about.blocks() * 512 <= 2 * BLOCK as u64, "{} blocks", about.blocks());
        let kept = Attributes::of(&about);
        assert_eq!((kept.modified_ms, kept.executable), (Some(1_000_000_000_000), Some(true)));
    }

    #[tokio::test]
    async fn damaged_part_is_removed_and_the_existing_file_kept() {
        let folder = Folder::new();
        let target = folder.0.join("book");
        let etag = blake3::hash(b"right").to_hex().to_string();
        std::fs::write(&target, "mine").expect("written");
        std::fs::write(part_of(&target, &etag), "wrong").expect("written");
        let finished = async |replace: bool| {
            let part = Part::open(&target, &etag).await.expect("it can be locked");
            let (resumed, writer) = part.resume(5, 5).await.expect("read");
            if resumed == 0 {
                assert!(writer.append(Bytes::from_static(b"right")).await);
            }
            writer.finish(&etag, Attributes::default(), replace).await
        };
        assert!(!finished(true).await.expect("looked at"), "it is not what was announced");
        assert!(!part_of(&target, &etag).exists());
        assert!(matches!(finished(false).await, Err(FileError::Exists(_))));
        assert_eq!(std::fs::read_to_string(&target).expect("there"), "mine");
        assert!(part_of(&target, &etag).exists(), "it need not be fetched again");
        assert!(finished(true).await.expect("put in its place"));
        assert_eq!(std::fs::read_to_string(&target).expect("there"), "right");
        assert!(finished(false).await.expect("the same is there already"));
        assert_eq!(std::fs::read_dir(&folder.0).expect("there").count(), 1, "no part is left");
    }
}
