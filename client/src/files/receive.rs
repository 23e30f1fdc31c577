//! Pulls a file.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::interface::{LARGEST_BLOCK, Opened, SharedFilesProxy};
use super::patience::Patience;
use super::{FileError, Progress, Transferred, WINDOW, blocking, disk};
use crate::error::CallError;
use crate::wire::fault::Code;

pub(super) async fn get(
    patience: Patience,
    path: &str,
    target: &Path,
    progress: Progress<'_>,
) -> Result<Transferred, FileError> {
    let mut again = true;
    loop {
        let opened = patience.call(|share| async move { share.open(path.to_owned()).await }).await?;
        let part = Part::open(target).await?;
        match pull(&patience, path, &opened, part, progress).await {
            // It was changed meanwhile, or the part was of another one: from the start, once.
            Err(error) if again && is_another(&error) => {
                again = false;
                let part = part_of(target);
                let _ = blocking(&part.clone(), move || std::fs::remove_file(part)).await;
            }
            result => return result,
        }
    }
}

fn is_another(error: &FileError) -> bool {
    match error {
        FileError::Digest { .. } => true,
        FileError::Call(error) => error.code() == Some(Code::MISMATCH),
        _ => false,
    }
}

async fn pull(
    patience: &Patience,
    path: &str,
    opened: &Opened,
    part: Part,
    progress: Progress<'_>,
) -> Result<Transferred, FileError> {
    let Opened { size, etag, block } = opened.clone();
    let block = u64::from(block.clamp(1, LARGEST_BLOCK));
    let (resumed, writer) = part.resume(size, block).await?;
    let (mut asked, mut written) = (resumed, resumed);
    progress(written, size);
    let mut window: VecDeque<Reading> = VecDeque::new();
    while written < size {
        while window.len() < WINDOW && asked < size {
            let length = block.min(size - asked);
            window.push_back(Reading::start(patience, path, &etag, asked, length));
            asked += length;
        }
        let Some(mut reading) = window.pop_front() else { break };
        let bytes =
            (&mut reading.task).await.map_err(|error| disk(&writer.path)(std::io::Error::other(error)))??;
        if bytes.len() as u64 != reading.length {
            // It would have said so if it were another file.
            return Err(CallError::Result("fewer bytes than there are".to_owned()).into());
        }
        if !writer.append(bytes).await {
            break;
        }
        written += reading.length;
        progress(written, size);
    }
    if writer.finish(&etag).await? {
        Ok(Transferred { size, etag, resumed })
    } else {
        Err(FileError::Digest { path: path.to_owned() })
    }
}

/// A read under way, ended when nobody wants it any more.
struct Reading {
    task: JoinHandle<Result<Vec<u8>, CallError>>,
    length: u64,
}

impl Reading {
    fn start(patience: &Patience, path: &str, etag: &str, offset: u64, length: u64) -> Self {
        let patience = patience.clone();
        let (path, etag) = (path.to_owned(), etag.to_owned());
        let task = tokio::spawn(async move {
            let read = |share: SharedFilesProxy| {
                let (path, etag) = (path.clone(), etag.clone());
                async move { share.read(path, etag, offset, length as u32).await }
            };
            patience.block(read).await.map(|binary| binary.0)
        });
        Self { task, length }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn part_of(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    target.with_file_name(name)
}

/// What has arrived: `NAME.part`, until all of it has.
struct Part {
    path: PathBuf,
    target: PathBuf,
    file: File,
}

impl Part {
    /// Opens it, for this transfer alone.
    async fn open(target: &Path) -> Result<Self, FileError> {
        let path = part_of(target);
        let opening = path.clone();
        let open = move || {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(opening)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(file)),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        let file = blocking(&path, open).await?.ok_or_else(|| FileError::Busy(path.clone()))?;
        Ok(Self { path, target: target.to_owned(), file })
    }

    /// Keeps the whole blocks that are there; how many bytes that is, and a thread that writes what follows.
    async fn resume(self, size: u64, block: u64) -> Result<(u64, Writer), FileError> {
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

/// Writes blocks while the next ones are on their way.
struct Writer {
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
    async fn append(&self, bytes: Vec<u8>) -> bool {
        self.blocks.send(bytes).await.is_ok()
    }

    /// Puts the file in its place if it is what was announced, and takes it away otherwise; whether it was.
    async fn finish(self, etag: &str) -> Result<bool, FileError> {
        let Self { path, target, blocks, thread } = self;
        drop(blocks);
        let written = thread.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let (file, hasher) = written.map_err(disk(&path))?;
        if hasher.finalize().to_hex().as_str() != etag {
            blocking(&path.clone(), move || std::fs::remove_file(path)).await?;
            return Ok(false);
        }
        blocking(&target.clone(), move || {
            file.sync_all()?;
            std::fs::rename(&path, &target)?;
            let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        })
        .await?;
        Ok(true)
    }
}
