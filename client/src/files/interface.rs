//! Interface of objects that share files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::attributes::Attributes;
use crate::object::{Binary, Stream};
use crate::wire::fault::Fault;
use rantai_client_macros::interface;

/// Maximum size of a block, in bytes: with its properties it fits into a packet of 1 MiB.
pub const MAX_BLOCK_BYTES: u32 = 512 << 10;
/// Length of the header before the bytes of a write: upload id and offset, each 8 bytes, big-endian.
pub const WRITE_HEADER: usize = 16;

/// Shared file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Path of the file.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Last modification, in milliseconds since 1970.
    pub modified_ms: u64,
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listing {
    /// Files and folders, sorted by path.
    pub entries: Vec<FileEntry>,
    /// Value of `after` for the next part of the list; `None` after the last part.
    pub next: Option<String>,
    /// Entries that are not shared, reported with the first part of a list; hidden files are not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// Files and folders that are not shared, all for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// Reason to display.
    pub reason: String,
    /// Number of entries.
    pub count: u64,
}

/// File that was opened for reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3 digest of the whole file, in hexadecimal digits.
    pub etag: String,
    /// Recommended length of a read, in bytes.
    pub block: u32,
    /// Attributes of the file; older nodes leave them out.
    #[serde(default)]
    pub attributes: Attributes,
}

/// Upload that was begun or resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Upload {
    /// Upload id, the first part of each write's header.
    pub id: u64,
    /// Number of bytes that are stored already, from an earlier attempt.
    pub offset: u64,
    /// Recommended length of a write, in bytes.
    pub block: u32,
}

/// Files of a folder.
///
/// A path is relative to the folder, and its parts are separated by `/`. No part is empty, `.` or `..`, or begins with
/// a dot. Paths that lead outside the folder are denied.
#[interface(version = "1.0.0", tags("files"))]
pub trait SharedFiles {
    /// Lists the files below a folder, sorted by path, a thousand per page.
    #[method(read_only)]
    async fn list(&self, folder: Option<String>, after: Option<String>) -> Result<Listing, Fault>;

    /// Returns size, digest and attributes of a file. Fails for a file that is being written, unless `growing` is set:
    /// size and digest are then those of the bytes that the file has now, and stay valid while it grows.
    #[method(read_only)]
    async fn open(&self, path: String, growing: Option<bool>) -> Result<Opened, Fault>;

    /// Reads bytes of a file; returns fewer than requested only at its end. Fails with -32015 if the file is not the
    /// one that was opened. For a file that was opened with `growing`, `size` is the size that `open` returned, by
    /// which any replica finds the bytes of the digest.
    #[method(read_only)]
    async fn read(
        &self,
        path: String,
        etag: String,
        offset: u64,
        length: u32,
        size: Option<u64>,
    ) -> Result<Binary, Fault>;

    /// Begins an upload of a file with this size and digest, or resumes it. `commit` sets the attributes.
    #[method(idempotent)]
    async fn create(
        &self,
        path: String,
        size: u64,
        etag: String,
        attributes: Option<Attributes>,
    ) -> Result<Upload, Fault>;

    /// Writes bytes, which follow a header of 16 bytes: upload id and offset, both big-endian. Returns the number of
    /// bytes that are stored now.
    #[method(idempotent)]
    async fn write(&self, data: Binary) -> Result<u64, Fault>;

    /// Moves a complete upload to its path. Fails with -32015 if its digest is not the announced one.
    #[method(idempotent)]
    async fn commit(&self, id: u64) -> Result<(), Fault>;

    /// Returns the last `lines` lines (default 10) of a text file, from its last 4 MiB; with `follow` also the lines
    /// that are appended later. Invalid UTF-8 is replaced, a line of more than 16 KiB is split into several items, and
    /// a file that is replaced is read from its start.
    #[method(read_only)]
    async fn tail(
        &self,
        path: String,
        lines: Option<u32>,
        follow: Option<bool>,
    ) -> Result<impl Stream<Item = Result<String, Fault>>, Fault>;
}
