//! Where images, their snapshots and the nodes' disks are.

mod folder;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use folder::Folder;

/// What is still being written ends so, and is nothing yet.
pub(super) const PART: &str = ".part";

/// What is known of an image or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its size as a disk, in bytes.
    pub bytes: u64,
    /// What it takes of the storage, in bytes.
    pub used: u64,
}

/// Why something was not done. For people, but for the cases that a caller can do something about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// There is none of that name.
    #[error("{0} does not exist")]
    NotFound(String),
    /// There is one of that name.
    #[error("{0} exists already")]
    Exists(String),
    /// There is no room for it.
    #[error("no room for {0}: {1} bytes are needed, {2} are free")]
    NoRoom(String, u64, u64),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Tells how far it is: bytes done, of how many.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Images, snapshots and disks by their names, which have been checked. All methods block.
///
/// What makes something leaves either the whole or nothing by its name, whenever it ends.
pub trait Storage: Send + Sync + 'static {
    /// What it is called in the configuration.
    fn name(&self) -> &'static str;

    /// Names of images, in order.
    ///
    /// # Errors
    ///
    /// Where they cannot be read; as below.
    fn images(&self) -> Result<Vec<String>, StorageError>;

    /// An image, if there is one.
    fn image(&self, image: &str) -> Result<Option<About>, StorageError>;

    /// Names of an image's snapshots, in order.
    fn snapshots(&self, image: &str) -> Result<Vec<String>, StorageError>;

    /// A snapshot, if there is one.
    fn snapshot(&self, image: &str, snapshot: &str) -> Result<Option<About>, StorageError>;

    /// Keeps an image as it is now; its BLAKE3 digest.
    fn take_snapshot(
        &self,
        image: &str,
        snapshot: &str,
        progress: Progress<'_>,
    ) -> Result<String, StorageError>;

    /// Takes a snapshot away; one that is not there is no error.
    fn remove_snapshot(&self, image: &str, snapshot: &str) -> Result<(), StorageError>;

    /// A disk of a node's own, as the snapshot is.
    fn make_disk(
        &self,
        image: &str,
        snapshot: &str,
        node: &str,
        progress: Progress<'_>,
    ) -> Result<PathBuf, StorageError>;

    /// Where the disk of a node is, or would be.
    fn disk(&self, node: &str) -> PathBuf;

    /// Takes a node's disk away; one that is not there is no error.
    fn remove_disk(&self, node: &str) -> Result<(), StorageError>;

    /// Takes a file of the incoming ones as an image, which is a copy of it; its BLAKE3 digest.
    fn import(&self, file: &str, image: &str, progress: Progress<'_>) -> Result<String, StorageError>;

    /// Lays a copy of a snapshot among the outgoing files.
    fn export(
        &self,
        image: &str,
        snapshot: &str,
        file: &str,
        progress: Progress<'_>,
    ) -> Result<(), StorageError>;

    /// Takes an image away; one that is not there is no error.
    fn remove_image(&self, image: &str) -> Result<(), StorageError>;

    /// Takes an outgoing file away; one that is not there is no error.
    fn remove_export(&self, file: &str) -> Result<(), StorageError>;

    /// Gives an image, with its snapshots, another name. Done already it is no error.
    fn rename(&self, image: &str, to: &str) -> Result<(), StorageError>;
}
