//! Storage of images, their snapshots and the nodes' disks.

mod folder;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use folder::Folder;

/// Suffix of incomplete files.
pub(super) const PART: &str = ".part";

/// Sizes of an image or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Size as a disk, in bytes.
    pub bytes: u64,
    /// Space used in the storage, in bytes.
    pub used: u64,
}

/// Error of the storage. The variants are the cases that callers handle; the rest is text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The name does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The name exists already.
    #[error("{0} exists already")]
    Exists(String),
    /// There is not enough free space: the name, bytes needed and bytes free.
    #[error("no room for {0}: {1} bytes are needed, {2} are free")]
    NoRoom(String, u64, u64),
    /// Other errors, with a text for people.
    #[error("{0}")]
    Failed(String),
}

/// Callback for progress: bytes done, and bytes in total.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Storage of images, snapshots and disks by name. Names have been validated by the caller. All methods block.
///
/// Methods that create something are atomic: after a crash, the result exists completely or not at all.
pub trait Storage: Send + Sync + 'static {
    /// Returns the name of the storage in the configuration.
    fn name(&self) -> &'static str;

    /// Returns the names of all images, sorted.
    ///
    /// # Errors
    ///
    /// The storage cannot be read. The same applies to the other methods.
    fn images(&self) -> Result<Vec<String>, StorageError>;

    /// Returns the sizes of an image; `None` if it does not exist.
    fn image(&self, image: &str) -> Result<Option<About>, StorageError>;

    /// Returns the names of an image's snapshots, sorted.
    fn snapshots(&self, image: &str) -> Result<Vec<String>, StorageError>;

    /// Returns the sizes of a snapshot; `None` if it does not exist.
    fn snapshot(&self, image: &str, snapshot: &str) -> Result<Option<About>, StorageError>;

    /// Copies an image to a new snapshot, and returns the BLAKE3 digest of the snapshot.
    fn take_snapshot(
        &self,
        image: &str,
        snapshot: &str,
        progress: Progress<'_>,
    ) -> Result<String, StorageError>;

    /// Removes a snapshot; succeeds if it does not exist.
    fn remove_snapshot(&self, image: &str, snapshot: &str) -> Result<(), StorageError>;

    /// Creates the disk of a node as a copy of a snapshot, and returns its path.
    fn make_disk(
        &self,
        image: &str,
        snapshot: &str,
        node: &str,
        progress: Progress<'_>,
    ) -> Result<PathBuf, StorageError>;

    /// Returns the path of a node's disk, whether it exists or not.
    fn disk(&self, node: &str) -> PathBuf;

    /// Removes the disk of a node; succeeds if it does not exist.
    fn remove_disk(&self, node: &str) -> Result<(), StorageError>;

    /// Copies an incoming file to a new image, and returns the BLAKE3 digest of the image.
    fn import(&self, file: &str, image: &str, progress: Progress<'_>) -> Result<String, StorageError>;

    /// Copies a snapshot to a new outgoing file.
    fn export(
        &self,
        image: &str,
        snapshot: &str,
        file: &str,
        progress: Progress<'_>,
    ) -> Result<(), StorageError>;

    /// Removes an image; succeeds if it does not exist.
    fn remove_image(&self, image: &str) -> Result<(), StorageError>;

    /// Removes an outgoing file; succeeds if it does not exist.
    fn remove_export(&self, file: &str) -> Result<(), StorageError>;

    /// Renames an image and its snapshots; succeeds if that was done before.
    fn rename(&self, image: &str, to: &str) -> Result<(), StorageError>;
}
