//! What of a file has arrived: `NAME.part`, until all of it has.
//!
//! Whoever writes a part has it locked, and takes it away or puts it in its place only while it has.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{FileError, WINDOW, blocking, disk};

/// A transfer that is ending, because it was cancelled or is done, has its part for so many times this long.
const TRIES: usize = 20;
const MOMENT: Duration = Duration::from_millis(50);

/// The part of a file, for one transfer alone.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    target: PathBuf,
    file: File,
}

impl Part {
    /// Opens it, and makes it where it is missing.
    pub(super) async fn open(target: &Path) -> Result<Self, FileError> {
        let path = part_of(target);
        for _ in 0..TRIES {
            let opening = path.clone();
            let open = move || {
                let mut options = OpenOptions::new();
                let file = options.read(true).write(true).create(true).truncate(false).open(&opening)?;
                Ok(lock(&opening, &file)?.then_some(file))
            };
            if let Some(file) = blocking(&path, open).await? {
                return Ok(Self { path, target: target.to_owned(), file });
            }
            sleep(MOMENT).await;
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
        let thread = tokio::task::spawn_blocking(move || write_all(file, hasher, waiting));
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

fn write_all(
    mut file: File,
    mut hasher: blake3::Hasher,
    mut blocks: mpsc::Receiver<Vec<u8>>,
) -> std::io::Result<(File, blake3::Hasher)> {
    while let Some(bytes) = blocks.blocking_recv() {
        file.write_all(&bytes)?;
        hasher.update(&bytes);
    }
    Ok((file, hasher))
}

impl Writer {
    /// Takes the next block; false where the disk has failed, which [`finish`](Self::finish) tells.
    pub(super) async fn append(&self, bytes: Vec<u8>) -> bool {
        self.blocks.send(bytes).await.is_ok()
    }

    /// Puts the file in its place if it is what was announced, and takes it away otherwise; whether it was.
    pub(super) async fn finish(self, etag: &str) -> Result<bool, FileError> {
        let Self { path, target, blocks, thread } = self;
        drop(blocks);
        let (file, hasher) = ended(thread).await.map_err(disk(&path))?;
        let right = hasher.finalize().to_hex().as_str() == etag;
        blocking(&target.clone(), move || {
            if !right {
                std::fs::remove_file(&path)?;
                drop(file);
                return Ok(false);
            }
            file.sync_all()?;
            std::fs::rename(&path, &target)?;
            let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()?;
            Ok(true)
        })
        .await
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

fn part_of(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    target.with_file_name(name)
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
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (locked.dev(), locked.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
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
        let (part, target) = (folder.0.join("book.part"), folder.0.join("book"));
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
        let held = Part::open(&target).await.expect("nobody has it");
        let second = tokio::spawn({
            let target = target.clone();
            async move { Part::open(&target).await }
        });
        tokio::task::yield_now().await;
        drop(held);
        let held = second.await.expect("no panic").expect("free in a moment");
        assert!(matches!(Part::open(&target).await, Err(FileError::Busy(_))));
        drop(held);
    }
}
