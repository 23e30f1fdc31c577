//! Fetching a file.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::interface::{Attributes, MAX_BLOCK_BYTES, Opened, SharedFilesProxy};
use super::part::{Part, Writer};
use super::patience::Patience;
use super::place::{There, look};
use super::{FileError, Progress, Transferred, WINDOW, blocking, disk};
use crate::error::CallError;
use crate::wire::fault::Code;

/// Options of the caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveOptions {
    /// Whether another file at the destination is replaced.
    pub(super) replace: bool,
    /// Whether a file that is being written is fetched, with the bytes that it has now.
    pub(super) growing: bool,
}

/// Version of the file that is fetched.
#[derive(Debug)]
struct FileVersion {
    path: String,
    etag: String,
    size: u64,
    /// Size of a block, in bytes.
    block: u64,
    attributes: Attributes,
    /// Whether the bytes are a prefix of a file that may grow.
    is_prefix: bool,
}

pub(super) async fn get(
    patience: Patience,
    path: &str,
    target: &Path,
    options: ReceiveOptions,
    progress: Progress<'_>,
) -> Result<Transferred, FileError> {
    let mut again = true;
    loop {
        let version = open(&patience, path, options.growing).await?;
        let FileVersion { size, etag, attributes, .. } = &version;
        let looking = (target.to_owned(), *size, etag.clone());
        match blocking(target, move || look(&looking.0, looking.1, &looking.2)).await? {
            There::Same(file) => {
                let (attributes, path) = (*attributes, target.to_owned());
                let keep = move || {
                    attributes.apply_or_log(&file, &path);
                    Ok(())
                };
                blocking(target, keep).await?;
                progress(*size, *size);
                return Ok(Transferred { size: *size, etag: etag.clone(), resumed: *size });
            }
            // Checked early, so that nothing is fetched in vain.
            There::Other if !options.replace => return Err(FileError::Exists(target.to_owned())),
            There::Irregular => return Err(FileError::Irregular(target.to_owned())),
            There::Other | There::Nothing => {}
        }
        let part = Part::open(target, &version.part_name(&patience)).await?;
        match pull(&patience, &Arc::new(version), part, options.replace, progress).await {
            // The file was changed in the meantime, or the part belonged to another one: starts over, once.
            Err(error) if again && is_another(&error) => again = false,
            result => return result,
        }
    }
}

/// Opens a file. Older nodes refuse the parameter `growing`, and are called without it.
async fn open(patience: &Patience, path: &str, growing: bool) -> Result<FileVersion, CallError> {
    let call = |growing: Option<bool>| {
        patience.call(move |share| async move { share.open(path.to_owned(), growing).await })
    };
    let (opened, is_prefix) = match call(growing.then_some(true)).await {
        Err(error) if growing && error.code() == Some(Code::WRONG_PARAMETERS) => (call(None).await?, false),
        opened => (opened?, growing),
    };
    let Opened { size, etag, block, attributes } = opened;
    let block = u64::from(block.clamp(1, MAX_BLOCK_BYTES));
    Ok(FileVersion { path: path.to_owned(), etag, size, block, attributes, is_prefix })
}

impl FileVersion {
    /// Returns the text that the part's name is derived from: the digest, or for a prefix the path and the object,
    /// because a file that has grown has another digest, while its part is still valid. If the part is not valid, the
    /// digest does not match at the end.
    fn part_name(&self, patience: &Patience) -> String {
        if self.is_prefix {
            format!("prefix of {} of {}", self.path, patience.object())
        } else {
            self.etag.clone()
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
    version: &Arc<FileVersion>,
    part: Part,
    replace: bool,
    progress: Progress<'_>,
) -> Result<Transferred, FileError> {
    let FileVersion { path, size, etag, block, attributes, .. } = &**version;
    let (resumed, writer) = part.resume(*size, *block).await?;
    if let Err(error) = blocks(patience, version, resumed, &writer, progress).await {
        if is_another(&error) {
            // Removed while it is locked: another transfer could otherwise have a part of the same name.
            writer.discard().await?;
        } else {
            writer.leave().await;
        }
        return Err(error);
    }
    if writer.finish(etag, *attributes, replace).await? {
        Ok(Transferred { size: *size, etag: etag.clone(), resumed })
    } else {
        Err(FileError::Digest { path: path.clone() })
    }
}

/// Requests the missing blocks, and writes them in order.
async fn blocks(
    patience: &Patience,
    version: &Arc<FileVersion>,
    resumed: u64,
    writer: &Writer,
    progress: Progress<'_>,
) -> Result<(), FileError> {
    let FileVersion { size, block, .. } = **version;
    let (mut asked, mut written) = (resumed, resumed);
    progress(written, size);
    let mut window: VecDeque<Reading> = VecDeque::new();
    while written < size {
        while window.len() < WINDOW && asked < size {
            let length = block.min(size - asked);
            window.push_back(Reading::start(patience, version, asked, length));
            asked += length;
        }
        let Some(mut reading) = window.pop_front() else { break };
        let bytes = (&mut reading.task)
            .await
            .map_err(|error| disk(Path::new(&version.path))(std::io::Error::other(error)))??;
        if bytes.len() as u64 != reading.length {
            // The object would have returned an error for another version of the file.
            return Err(CallError::Result("fewer bytes than there are".to_owned()).into());
        }
        if !writer.append(bytes).await {
            break;
        }
        written += reading.length;
        progress(written, size);
    }
    Ok(())
}

/// Read in flight; dropping it aborts the read.
struct Reading {
    task: JoinHandle<Result<Bytes, CallError>>,
    length: u64,
}

impl Reading {
    fn start(patience: &Patience, version: &Arc<FileVersion>, offset: u64, length: u64) -> Self {
        let (patience, version) = (patience.clone(), version.clone());
        let task = tokio::spawn(async move {
            let read = |share: SharedFilesProxy| {
                let FileVersion { path, etag, size, is_prefix, .. } = &*version;
                let (path, etag, size) = (path.clone(), etag.clone(), is_prefix.then_some(*size));
                async move { share.read(path, etag, offset, length as u32, size).await }
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
