//! Sending a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::interface::{Attributes, MAX_BLOCK_BYTES, SharedFilesProxy, Upload, WRITE_HEADER};
use super::patience::Patience;
use super::{FileError, Progress, Transferred, WINDOW, blocking, digest_of, disk};
use crate::error::CallError;
use crate::object::Binary;
use crate::wire::fault::Code;

/// Maximum number of restarts of a transfer without progress that the object has forgotten.
const MAX_RESTARTS: usize = 5;

pub(super) async fn put(
    patience: Patience,
    source: &Path,
    path: &str,
    progress: Progress<'_>,
) -> Result<Transferred, FileError> {
    match send(&patience, source, path, progress).await {
        // The object's part of an earlier attempt was damaged, or the file was changed in the meantime: starts over, once.
        Err(FileError::Call(error)) if error.code() == Some(Code::MISMATCH) => {
            send(&patience, source, path, progress).await
        }
        result => result,
    }
}

async fn send(
    patience: &Patience,
    source: &Path,
    path: &str,
    progress: Progress<'_>,
) -> Result<Transferred, FileError> {
    let reading = source.to_owned();
    // The same open file is used from digest to last block, even if its name refers to another one by then.
    let open = move || {
        // A pipe could not be read a second time after computing its digest.
        if !std::fs::metadata(&reading)?.is_file() {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, "only a regular file can be sent"));
        }
        let file = File::open(reading)?;
        let about = file.metadata()?;
        // Bytes that are appended later to a file that is being written are not sent. Files of /proc have a length of
        // 0.
        let length = if about.len() == 0 { u64::MAX } else { about.len() };
        let digest = digest_of((&file).take(length))?;
        Ok((digest, Attributes::of(&about), file))
    };
    let ((etag, size), attributes, file) = blocking(source, open).await?;
    let (file, mut attributes) = (Arc::new(file), Some(attributes));
    let (mut resumed, mut reached, mut forgotten) = (None, 0, 0);
    loop {
        let upload = create(patience, path, size, &etag, &mut attributes).await?;
        let resumed = *resumed.get_or_insert(upload.offset);
        if upload.offset > reached {
            (reached, forgotten) = (upload.offset, 0);
        }
        match push(patience, source, &file, size, &upload, progress).await {
            // The node was restarted in the meantime: resumes from what is on its disk.
            Err(FileError::Call(error)) if is_forgotten(&error) && forgotten < MAX_RESTARTS => forgotten += 1,
            Err(error) => return Err(error),
            Ok(()) => return Ok(Transferred { size, etag, resumed }),
        }
    }
}

/// Begins the upload, or resumes it. Older nodes refuse the attributes; further calls then leave them out.
async fn create(
    patience: &Patience,
    path: &str,
    size: u64,
    etag: &str,
    attributes: &mut Option<Attributes>,
) -> Result<Upload, CallError> {
    let call = |attributes: Option<Attributes>| {
        patience.call(move |share: SharedFilesProxy| async move {
            share.create(path.to_owned(), size, etag.to_owned(), attributes).await
        })
    };
    match call(*attributes).await {
        Err(error) if attributes.is_some() && error.code() == Some(Code::WRONG_PARAMETERS) => {
            *attributes = None;
            call(None).await
        }
        upload => upload,
    }
}

fn is_forgotten(error: &CallError) -> bool {
    error.fault().is_some_and(|fault| fault.data.get("kind").is_some_and(|kind| kind == "no_upload"))
}

async fn push(
    patience: &Patience,
    source: &Path,
    file: &Arc<File>,
    size: u64,
    upload: &Upload,
    progress: Progress<'_>,
) -> Result<(), FileError> {
    let block = u64::from(upload.block.clamp(1, MAX_BLOCK_BYTES));
    let (mut sent, mut taken) = (upload.offset, upload.offset);
    progress(taken, size);
    let mut window: VecDeque<Writing> = VecDeque::new();
    // Reused, as memory that is used for the first time costs as much as a copy.
    let mut buffer = BytesMut::new();
    while taken < size {
        while window.len() < WINDOW && sent < size {
            let length = block.min(size - sent);
            let bytes = read(source, file, std::mem::take(&mut buffer), upload.id, sent, length).await?;
            window.push_back(Writing::start(patience, bytes));
            sent += length;
        }
        let Some(mut writing) = window.pop_front() else { break };
        (&mut writing.task).await.map_err(|error| disk(source)(std::io::Error::other(error)))??;
        let bytes = std::mem::take(&mut writing.bytes);
        taken += (bytes.len() - WRITE_HEADER) as u64;
        buffer = bytes.try_into_mut().unwrap_or_default();
        progress(taken, size);
    }
    patience.call(|share| async move { share.commit(upload.id).await }).await?;
    Ok(())
}

/// Reads a block into `buffer`, and prepends its header.
async fn read(
    source: &Path,
    file: &Arc<File>,
    mut buffer: BytesMut,
    id: u64,
    offset: u64,
    length: u64,
) -> Result<Bytes, FileError> {
    let file = file.clone();
    blocking(source, move || {
        buffer.resize(WRITE_HEADER + length as usize, 0);
        buffer[..8].copy_from_slice(&id.to_be_bytes());
        buffer[8..WRITE_HEADER].copy_from_slice(&offset.to_be_bytes());
        file.read_exact_at(&mut buffer[WRITE_HEADER..], offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                std::io::Error::new(error.kind(), "the file became shorter while it was sent; send it again")
            }
            _ => error,
        })?;
        Ok(buffer.freeze())
    })
    .await
}

/// Write in flight; dropping it aborts the write.
struct Writing {
    task: JoinHandle<Result<u64, CallError>>,
    /// Header and block.
    bytes: Bytes,
}

impl Writing {
    fn start(patience: &Patience, bytes: Bytes) -> Self {
        let (patience, written) = (patience.clone(), bytes.clone());
        let task = tokio::spawn(async move {
            let write = |share: SharedFilesProxy| {
                let bytes = Binary(written.clone());
                async move { share.write(bytes).await }
            };
            patience.block(write).await
        });
        Self { task, bytes }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_chain;

    #[tokio::test]
    async fn error_names_a_file_that_shrinks_during_its_upload() {
        let path = std::env::temp_dir().join(format!("rantai-send-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, [7; 10]).expect("written");
        let file = Arc::new(File::open(&path).expect("there"));
        let block = read(&path, &file, BytesMut::new(), 1, 4, 6).await.expect("as long as it was");
        assert_eq!(block[WRITE_HEADER..], [7; 6]);
        let error = read(&path, &file, BytesMut::new(), 1, 4, 7).await.expect_err("too short");
        std::fs::remove_file(&path).expect("removed");
        let text = error_chain(&error);
        assert!(text.contains("became shorter") && text.contains(&*path.to_string_lossy()), "{text}");
    }
}
