//! Fetching a file.

use std::collections::VecDeque;
use std::path::Path;

use tokio::task::JoinHandle;

use super::interface::{LARGEST_BLOCK, Opened, SharedFilesProxy};
use super::part::{Part, Writer};
use super::patience::Patience;
use super::place::{There, look};
use super::{FileError, Progress, Transferred, WINDOW, blocking, disk};
use crate::error::CallError;
use crate::wire::fault::Code;

pub(super) async fn get(
    patience: Patience,
    path: &str,
    target: &Path,
    replace: bool,
    progress: Progress<'_>,
) -> Result<Transferred, FileError> {
    let mut again = true;
    loop {
        let opened = patience.call(|share| async move { share.open(path.to_owned()).await }).await?;
        let Opened { size, etag, .. } = &opened;
        let looking = (target.to_owned(), *size, etag.clone());
        match blocking(target, move || look(&looking.0, looking.1, &looking.2)).await? {
            There::Same => {
                progress(*size, *size);
                return Ok(Transferred { size: *size, etag: etag.clone(), resumed: *size });
            }
            // Checked before the file is fetched in vain.
            There::Other if !replace => return Err(FileError::Exists(target.to_owned())),
            There::Irregular => return Err(FileError::Irregular(target.to_owned())),
            There::Other | There::Nothing => {}
        }
        let part = Part::open(target, etag).await?;
        match pull(&patience, path, &opened, part, replace, progress).await {
            // The file was changed in the meantime, or the part belongs to another version: starts over, once.
            Err(error) if again && is_another(&error) => again = false,
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
    replace: bool,
    progress: Progress<'_>,
) -> Result<Transferred, FileError> {
    let Opened { size, etag, block } = opened;
    let block = u64::from((*block).clamp(1, LARGEST_BLOCK));
    let (resumed, writer) = part.resume(*size, block).await?;
    if let Err(error) = blocks(patience, path, opened, block, resumed, &writer, progress).await {
        if is_another(&error) {
            // Removed while it is locked: another transfer could have a part of the same name.
            writer.discard().await?;
        } else {
            writer.leave().await;
        }
        return Err(error);
    }
    if writer.finish(etag, replace).await? {
        Ok(Transferred { size: *size, etag: etag.clone(), resumed })
    } else {
        Err(FileError::Digest { path: path.to_owned() })
    }
}

/// Requests the missing blocks, and writes them in order.
async fn blocks(
    patience: &Patience,
    path: &str,
    Opened { size, etag, .. }: &Opened,
    block: u64,
    resumed: u64,
    writer: &Writer,
    progress: Progress<'_>,
) -> Result<(), FileError> {
    let size = *size;
    let (mut asked, mut written) = (resumed, resumed);
    progress(written, size);
    let mut window: VecDeque<Reading> = VecDeque::new();
    while written < size {
        while window.len() < WINDOW && asked < size {
            let length = block.min(size - asked);
            window.push_back(Reading::start(patience, path, etag, asked, length));
            asked += length;
        }
        let Some(mut reading) = window.pop_front() else { break };
        let bytes = (&mut reading.task)
            .await
            .map_err(|error| disk(Path::new(path))(std::io::Error::other(error)))??;
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
