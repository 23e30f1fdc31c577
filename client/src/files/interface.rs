//! Interface of objects that share files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::attributes::Attributes;
use crate::object::{Binary, Stream};
use crate::wire::fault::Fault;
use rantai_client_macros::interface;

/// Maximum size of a block, in bytes: with its properties it fits into a packet of 1 MiB.
pub const LARGEST_BLOCK: u32 = 512 << 10;
/// Length of the header before the bytes of a write: upload id and offset, each 8 bytes, big-endian.
pub const WRITE_HEADER: usize = 16;

/// A file that is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Its path.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Last modification, in milliseconds since 1970.
    pub modified_ms: u64,
}

/// A part of a list.
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

/// A file that may be read now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3 digest of the whole, in hexadecimal digits.
    pub etag: String,
    /// In how many bytes at a time it is best read.
    pub block: u32,
    /// Its attributes; older nodes leave them out.
    #[serde(default)]
    pub attributes: Attributes,
}

/// A file that may be written now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Upload {
    /// Stands in front of each write.
    pub id: u64,
    /// Bytes that are there already, from an earlier try.
    pub offset: u64,
    /// In how many bytes at a time it is best written.
    pub block: u32,
}

/// Files of a folder.
///
/// A path is relative, its parts divided by `/`; none of them is empty, `.` or `..` or begins with a dot. What
/// leads outside the folder is denied.
#[interface(version = "1.0.0", tags("files"))]
pub trait SharedFiles {
    /// The files below a folder, by path, a thousand at a time.
    #[method(read_only)]
    async fn list(&self, folder: Option<String>, after: Option<String>) -> Result<Listing, Fault>;

    /// Size, digest and attributes of a file. A file that is being written is refused; with `growing`, size and digest are those of
    /// the bytes that it has now, which stay valid while it grows.
    #[method(read_only)]
    async fn open(&self, path: String, growing: Option<bool>) -> Result<Opened, Fault>;

    /// Bytes of it, fewer than asked for only at its end; -32015 where it is not the one that was opened. For a file that was opened
    /// with `growing`, `size` is the size that `open` gave, by which any replica finds the bytes of the digest.
    #[method(read_only)]
    async fn read(
        &self,
        path: String,
        etag: String,
        offset: u64,
        length: u32,
        size: Option<u64>,
    ) -> Result<Binary, Fault>;

    /// Begins to write a file of this size and digest, or goes on with it. `commit` sets the attributes.
    #[method(idempotent)]
    async fn create(
        &self,
        path: String,
        size: u64,
        etag: String,
        attributes: Option<Attributes>,
    ) -> Result<Upload, Fault>;

    /// Writes bytes behind a header of 16 bytes: upload id and offset, big-endian.
    #[method(idempotent)]
    async fn write(&self, data: Binary) -> Result<u64, Fault>;

    /// Puts a file in its place once all of it is there; -32015 where it is not what was announced.
    #[method(idempotent)]
    async fn commit(&self, id: u64) -> Result<(), Fault>;

    /// The last `lines` of a text, 10 without it, of its last 4 MiB; with `follow` also those that are written to it from then on. What is no
    /// UTF-8 is replaced, a line of more than 16 KiB comes in several items, and a file that is replaced is read anew.
    #[method(read_only)]
    async fn tail(
        &self,
        path: String,
        lines: Option<u32>,
        follow: Option<bool>,
    ) -> Result<impl Stream<Item = Result<String, Fault>>, Fault>;
}
