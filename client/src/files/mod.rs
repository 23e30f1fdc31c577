//! Transfers files between hosts, and lists them, through an object that shares a folder.
//!
//! | Module | Content |
//! |---|---|
//! | [`interface`] | Interface of such an object |
//! | `attributes` | Modification time and executable bit |
//! | [`sparse`] | Writing files with holes instead of zeros |
//! | `receive` | Fetching a file, with a window of concurrent reads |
//! | `part` | Partially received file, checked by its digest |
//! | `path` | Validation of paths |
//! | `place` | Destination of a received file, and what exists there |
//! | `send` | Sending a file |
//! | `patience` | Retries, and their time limit |

mod attributes;
pub mod interface;
mod part;
mod path;
mod patience;
mod place;
mod receive;
mod send;
pub mod sparse;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::Client;
use crate::error::CallError;
pub use path::{HIDDEN, check_path};

use interface::{FileEntry, Listing, SharedFilesProxy};
use patience::Patience;

/// Maximum number of reads, or writes, in flight.
const WINDOW: usize = 8;
/// Time without progress after which a transfer fails.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);

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
    growing: bool,
}

/// Result of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// The disk of the destination has too little room. Nothing was written, or the part was removed.
    #[error(
        "cannot write {}: {needed} bytes are to come, and {free} are free on its disk; make room, or choose another place",
        path.display()
    )]
    NoRoom {
        /// Path of the destination.
        path: PathBuf,
        /// Bytes that are still to be written.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
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
        let object = object.to_owned();
        Self { client: client.clone(), object, patience: DEFAULT_PATIENCE, replace: false, growing: false }
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

    /// Fetches files that are being written, instead of failing: the bytes that a file has when the transfer begins, however much
    /// it grows meanwhile. From older nodes only files that do not change can be fetched.
    #[must_use]
    pub fn growing(self, growing: bool) -> Self {
        Self { growing, ..self }
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

    /// Fetches a file to `target`. The file appears there only when it is complete; until then it is a hidden part
    /// beside it, `.NAME.DIGEST.part`. If the call is cancelled, the part stays, and the next call resumes after its
    /// last whole block. If the same file exists already, nothing is fetched. In either case the file gets the
    /// modification time and the executable bit of the shared file; a disk that does not keep them causes a log line
    /// only.
    ///
    /// # Errors
    ///
    /// Errors of the object or of this host's disk, [`FileError::Digest`], and [`FileError::Exists`] if another file
    /// exists that is not to be [replaced](Self::replace).
    pub async fn get(
        &self,
        path: &str,
        target: &Path,
        progress: Progress<'_>,
    ) -> Result<Transferred, FileError> {
        let options = receive::ReceiveOptions { replace: self.replace, growing: self.growing };
        receive::get(self.waiting(), path, target, options, progress).await
    }

    /// Sends a file with its modification time and executable bit. The file appears at the object only when it is
    /// complete. Of a file that grows meanwhile, the bytes are sent that it has when the transfer begins. If the call
    /// is cancelled, the object keeps the received bytes for a while, and the next call resumes there.
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
    digest_of(std::fs::File::open(file)?).map(|(etag, _)| etag)
}

/// Returns the digest of all bytes that are read, and their number.
fn digest_of(bytes: impl std::io::Read) -> std::io::Result<(String, u64)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(bytes)?;
    Ok((hasher.finalize().to_hex().to_string(), hasher.count()))
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
