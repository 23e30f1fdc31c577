//! Pulls a file.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

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
    mut part: Part,
    progress: Progress<'_>,
) -> Result<Transferred, FileError> {
    let Opened { size, etag, block } = opened.clone();
    let block = u64::from(block.clamp(1, LARGEST_BLOCK));
    let resumed = part.resume(size, block).await?;
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
            (&mut reading.task).await.map_err(|error| disk(&part.path)(std::io::Error::other(error)))??;
        if bytes.len() as u64 != reading.length {
            part.remove().await;
            return Err(FileError::Digest { path: path.to_owned() });
        }
        written += reading.length;
        part.append(bytes).await?;
        progress(written, size);
    }
    if part.finish(&etag).await? {
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
    /// Taken out while the disk is waited for.
    inner: Option<(File, blake3::Hasher)>,
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
        Ok(Self { path, target: target.to_owned(), inner: Some((file, blake3::Hasher::new())) })
    }

    async fn with<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut File, &mut blake3::Hasher) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, FileError> {
        let inner = self.inner.take();
        let (inner, result) = blocking(&self.path, move || {
            let (mut file, mut hasher) = inner.ok_or_else(|| std::io::Error::other("given up earlier"))?;
            let result = job(&mut file, &mut hasher);
            Ok(((file, hasher), result))
        })
        .await?;
        self.inner = Some(inner);
        result.map_err(disk(&self.path))
    }

    /// Keeps the whole blocks that are there, and says how many bytes that is.
    async fn resume(&mut self, size: u64, block: u64) -> Result<u64, FileError> {
        self.with(move |file, hasher| {
            let there = file.metadata()?.len();
            let whole = if there > size { 0 } else { there - there % block };
            file.set_len(whole)?;
            file.seek(SeekFrom::Start(0))?;
            let mut buffer = vec![0; 64 << 10];
            let mut left = whole;
            while left > 0 {
                let wanted = left.min(buffer.len() as u64) as usize;
                file.read_exact(&mut buffer[..wanted])?;
                hasher.update(&buffer[..wanted]);
                left -= wanted as u64;
            }
            Ok(whole)
        })
        .await
    }

    async fn append(&mut self, bytes: Vec<u8>) -> Result<(), FileError> {
        self.with(move |file, hasher| {
            file.write_all(&bytes)?;
            hasher.update(&bytes);
            Ok(())
        })
        .await
    }

    /// Puts it in its place if it is what was announced, and takes it away otherwise; whether it was.
    async fn finish(mut self, etag: &str) -> Result<bool, FileError> {
        let etag = etag.to_owned();
        let right = self.with(move |file, hasher| {
            file.sync_all()?;
            Ok(hasher.finalize().to_hex().as_str() == etag)
        });
        if !right.await? {
            self.remove().await;
            return Ok(false);
        }
        let (part, target) = (self.path.clone(), self.target.clone());
        blocking(&self.target, move || {
            std::fs::rename(&part, &target)?;
            let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        })
        .await?;
        Ok(true)
    }

    async fn remove(self) {
        let path = self.path.clone();
        let _ = blocking(&self.path, move || std::fs::remove_file(path)).await;
    }
}
