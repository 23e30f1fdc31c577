//! Partially received files: `.NAME.DIGEST.part` in the folder of the destination, until the file is complete.
//!
//! The digest is that of the file and of its name here, so that no file of anybody else is called so, and two files
//! never share a part. Whoever writes a part has it locked, and takes it away or puts it in its place only while it
//! has.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::interface::Attributes;
use super::place::{Placed, place};
use super::{FileError, WINDOW, blocking, disk, sparse};

/// A transfer that is ending, because it was cancelled or is done, has its part for so many times this long.
const TRIES: usize = 20;
const MOMENT: Duration = Duration::from_millis(50);
/// Digits of the digest in the name of a part.
const DIGITS: usize = 16;
/// Bytes of the file's name in that of its part: a name has at most 255.
const LONGEST: usize = 200;

/// The part of a file, for one transfer alone.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    target: PathBuf,
    file: File,
}

/// What exists by the name of a part.
enum Found {
    Locked(File),
    /// Another transfer has it.
    Busy,
    /// It is no part.
    Other,
}

impl Part {
    /// Opens the part of the file with this digest, and makes it where it is missing.
    pub(super) async fn open(target: &Path, etag: &str) -> Result<Self, FileError> {
        let path = part_of(target, etag);
        for _ in 0..TRIES {
            let (opening, place) = (path.clone(), target.to_owned());
            match blocking(&path, move || find(&opening, &place)).await? {
                Found::Locked(file) => return Ok(Self { path, target: target.to_owned(), file }),
                Found::Busy => sleep(MOMENT).await,
                Found::Other => return Err(FileError::NoPart(path)),
            }
        }
        Err(FileError::Busy(path))
    }

    /// Keeps the whole blocks that are there; how many bytes that is, and a thread that writes what follows.
    pub(super) async fn resume(self, size: u64, block: u64) -> Result<(u64, Writer), FileError> {
        let Self { path, target, mut file } = self;
        let (whole, file, hasher) = blocking(&path, move || {
            let there = file.metadata()?.len();
            let whole = if there > size { 0 } else { there - there % block };
            file.set_len(whole)?;
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
            Ok((whole, file, hasher))
        })
        .await?;
        let (blocks, waiting) = mpsc::channel(WINDOW);
        let thread = tokio::task::spawn_blocking(move || write_all(file, whole, hasher, waiting));
        Ok((whole, Writer { path, target, blocks, thread }))
    }
}

/// Writes blocks while the next ones are on their way. The part stays locked until its thread has ended.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    target: PathBuf,
    blocks: mpsc::Sender<Vec<u8>>,
    thread: JoinHandle<std::io::Result<(File, blake3::Hasher)>>,
}

/// Appends to a part of `there` bytes, which always is as long as what has arrived.
fn write_all(
    file: File,
    mut there: u64,
    mut hasher: blake3::Hasher,
    mut blocks: mpsc::Receiver<Vec<u8>>,
) -> std::io::Result<(File, blake3::Hasher)> {
    while let Some(bytes) = blocks.blocking_recv() {
        sparse::append(&file, there, &bytes)?;
        hasher.update(&bytes);
        there += bytes.len() as u64;
    }
    Ok((file, hasher))
}

impl Writer {
    /// Takes the next block; false where the disk has failed, which [`finish`](Self::finish) tells.
    pub(super) async fn append(&self, bytes: Vec<u8>) -> bool {
        self.blocks.send(bytes).await.is_ok()
    }

    /// Puts the file in its place, with these attributes, if it is what was announced, and takes it away otherwise;
    /// whether it was. Where something else is in its place, and is not to be replaced, the part stays.
    pub(super) async fn finish(
        self,
        etag: &str,
        attributes: Attributes,
        replace: bool,
    ) -> Result<bool, FileError> {
        let Self { path, target, blocks, thread } = self;
        drop(blocks);
        let (file, hasher) = ended(thread).await.map_err(disk(&path))?;
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

    /// Leaves the part as it is for the next transfer.
    pub(super) async fn leave(self) {
        drop(self.blocks);
        // It ends for another reason, which is told.
        let _ = ended(self.thread).await;
    }

    /// Takes the part away.
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
    // What the object says is not a part of a name here.
    hasher.update(etag.as_bytes()).update(&[0]).update(name.as_bytes());
    let digest = hasher.finalize().to_hex();
    let name = &name.as_bytes()[..name.len().min(LONGEST)];
    let part = [b".", name, b".", &digest.as_bytes()[..DIGITS], b".part"].concat();
    target.with_file_name(std::ffi::OsStr::from_bytes(&part))
}

/// Opens and locks the part of `target`. Nothing that a link leads to, and nothing that has another name too, is one:
/// what is written to it would be written elsewhere.
fn find(path: &Path, target: &Path) -> std::io::Result<Found> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true);
    let file = match options.clone().create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let is_file = std::fs::symlink_metadata(path).map(|about| about.is_file());
            match is_file.and_then(|is_file| is_file.then(|| options.open(path)).transpose()) {
                Ok(Some(file)) => file,
                Ok(None) => return Ok(Found::Other),
                // It was put in its place or taken away meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Busy),
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    };
    if !lock(path, &file)? {
        return Ok(Found::Busy);
    }
    let about = file.metadata()?;
    if about.nlink() == 1 {
        return Ok(Found::Locked(file));
    }
    let same = |there: std::fs::Metadata| (there.dev(), there.ino()) == (about.dev(), about.ino());
    if std::fs::symlink_metadata(target).is_ok_and(same) {
        // It was put in its place, and the process ended before it had lost its other name.
        std::fs::remove_file(path)?;
        return Ok(Found::Busy);
    }
    Ok(Found::Other)
}

/// Locks what was opened as `path`; false where somebody else has it, or had it and put it in its place or took it
/// away in between: what is written to it then would be written to a file that is whole.
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

    /// Two receivers of one name: the second had opened the part, and locked it when the first had made it the file.
    /// It kept the whole blocks of it, which cut the file, and wrote on.
    #[test]
    fn what_was_put_in_its_place_meanwhile_is_not_taken_for_a_part() {
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
    async fn a_transfer_that_is_ending_is_waited_for_and_another_is_not() {
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
    fn a_part_is_hidden_next_to_its_file_and_its_own() {
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
    async fn what_is_no_part_is_neither_written_nor_taken_away() {
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
    async fn a_part_that_was_put_in_its_place_is_left_to_its_file() {
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

    #[tokio::test]
    async fn a_part_that_ends_with_a_hole_goes_on_behind_it() {
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
                writer.append(bytes[there..].to_vec()).await;
                let set = Attributes { modified_ms: Some(1_000_000_000_000), executable: Some(true) };
                assert!(writer.finish(&etag, set, false).await.expect("put in its place"));
                break;
            }
            writer.append(bytes[there..there + BLOCK].to_vec()).await;
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
    async fn a_damaged_part_is_taken_away_and_what_is_in_its_place_stays() {
        let folder = Folder::new();
        let target = folder.0.join("book");
        let etag = blake3::hash(b"right").to_hex().to_string();
        std::fs::write(&target, "mine").expect("written");
        std::fs::write(part_of(&target, &etag), "wrong").expect("written");
        let finished = async |replace: bool| {
            let part = Part::open(&target, &etag).await.expect("it can be locked");
            let (resumed, writer) = part.resume(5, 5).await.expect("read");
            if resumed == 0 {
                assert!(writer.append(b"right".to_vec()).await);
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
