//! Files of another host: fetched, sent and listed through an object that shares a folder.
//!
//! | Module | Content |
//! |---|---|
//! | [`interface`] | Interface of such an object |
//! | `receive` | Fetching a file, with a window of reads in flight |
//! | `part` | Partially received files, verified by their digest |
//! | `place` | Destination of a received file, and what exists there already |
//! | `send` | Sending a file |
//! | `patience` | Retries, and their time limits |

pub mod interface;
mod part;
mod patience;
mod place;
mod receive;
mod send;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::Client;
use crate::error::CallError;
use interface::{FileEntry, Listing, SharedFilesProxy};
use patience::Patience;

/// Maximum number of reads, or writes, in flight.
const WINDOW: usize = 8;
/// Time without progress after which a transfer fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Callback for progress: called with the number of bytes transferred and the total.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// Files of one object.
///
/// Transfers survive a temporary loss of the connection, the broker or the node. A transfer that failed or was cancelled is
/// resumed by calling it again.
#[derive(Clone, Debug)]
pub struct Files {
    client: Client,
    object: String,
    patience: Duration,
    replace: bool,
}

/// Result of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// Size of the file in bytes.
    pub size: u64,
    /// BLAKE3 digest, in hexadecimal digits.
    pub etag: String,
    /// Number of bytes that were transferred by an earlier attempt.
    pub resumed: u64,
}

/// Error of a file transfer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Error of the object, or of calling it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Error of this host's disk.
    #[error("cannot use {}", path.display())]
    Disk {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system or library.
        source: std::io::Error,
    },
    /// Another transfer writes to the same file.
    #[error("cannot write {}: another transfer is writing it", .0.display())]
    Busy(PathBuf),
    /// Another file exists at the destination.
    #[error("cannot write {}: another file is there", .0.display())]
    Exists(PathBuf),
    /// The destination exists and is not a regular file, which is never replaced.
    #[error("cannot write {}: it is no regular file; choose another name", .0.display())]
    Irregular(PathBuf),
    /// A file with the name of the part exists, but is not a part.
    #[error("cannot write {}: it is not a part of a transfer; move it away", .0.display())]
    NoPart(PathBuf),
    /// The received bytes do not match the announced digest, twice.
    #[error("{path}: what arrived is not what was announced; the part has been taken away")]
    Digest {
        /// Path of the file.
        path: String,
    },
}

impl Files {
    /// Creates a handle for the files that `object` shares.
    pub fn new(client: &Client, object: &str) -> Self {
        Self { client: client.clone(), object: object.to_owned(), patience: PATIENCE, replace: false }
    }

    /// Sets the time without progress after which a transfer fails. Default: 30 s.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sets whether existing files of this host are replaced, instead of failing with [`FileError::Exists`]. Default: no.
    #[must_use]
    pub fn replace(self, replace: bool) -> Self {
        Self { replace, ..self }
    }

    /// Lists a folder by name; `""` lists everything.
    ///
    /// # Errors
    ///
    /// Errors of the object.
    pub async fn list(&self, folder: &str) -> Result<Vec<FileEntry>, FileError> {
        Ok(self.listing(folder).await?.entries)
    }

    /// Lists a folder like [`list`](Self::list), and returns the number of files that are not shared too.
    ///
    /// # Errors
    ///
    /// Errors of the object.
    pub async fn listing(&self, folder: &str) -> Result<Listing, FileError> {
        let (patience, mut all) = (self.waiting(), Listing::default());
        let mut after: Option<String> = None;
        loop {
            let list = |share: SharedFilesProxy| {
                let (folder, after) = (folder.to_owned(), after.clone());
                async move { share.list(Some(folder), after).await }
            };
            let listing = patience.call(list).await?;
            all.entries.extend(listing.entries);
            all.left_out.extend(listing.left_out);
            if listing.next.is_none() {
                return Ok(all);
            }
            if listing.next <= after {
                return Err(CallError::Result("a list that does not go on".to_owned()).into());
            }
            after = listing.next;
        }
    }

    /// Fetches a file to `target`, which appears only when it is complete: until then the data is in a hidden file next to it,
    /// `.NAME.DIGEST.part`. When cancelled, that part remains, and the next call resumes from its last whole block. If the same
    /// file exists already, nothing is fetched.
    ///
    /// # Errors
    ///
    /// Errors of the object or of this host's disk, [`FileError::Digest`], and [`FileError::Exists`] if another file exists
    /// that is not to be [replaced](Self::replace).
    pub async fn get(
        &self,
        path: &str,
        target: &Path,
        progress: Progress<'_>,
    ) -> Result<Transferred, FileError> {
        receive::get(self.waiting(), path, target, self.replace, progress).await
    }

    /// Sends a file, which appears at the object only when it is complete. When cancelled, the object keeps the received part
    /// for a while, and the next call resumes from there.
    ///
    /// # Errors
    ///
    /// Same as [`get`](Self::get).
    pub async fn put(
        &self,
        source: &Path,
        path: &str,
        progress: Progress<'_>,
    ) -> Result<Transferred, FileError> {
        send::put(self.waiting(), source, path, progress).await
    }

    fn waiting(&self) -> Patience {
        Patience::new(self.client.object(&self.object), self.patience)
    }
}

/// Computes the digest by which files are identified: BLAKE3, in hexadecimal digits. Reads the whole file; blocks.
///
/// # Errors
///
/// The file cannot be read.
pub fn digest(file: &Path) -> std::io::Result<String> {
    digest_of(&std::fs::File::open(file)?)
}

fn digest_of(file: &std::fs::File) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn disk(path: &Path) -> impl Fn(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Disk { path: path.clone(), source }
}

/// Runs a job that may wait for the disk on a blocking thread.
async fn blocking<T: Send + 'static>(
    path: &Path,
    job: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, FileError> {
    let done = tokio::task::spawn_blocking(job).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(disk(path))
}
