//! Shared folders: callers read files, and write them if that is allowed.
//!
//! | Module | Content |
//! |---|---|
//! | `folder` | Paths, and opening files without leaving the folder |
//! | `known` | Digests of files and of their prefixes, computed once for each version |
//! | `parts` | Received bytes of files, stored next to their targets |
//! | `tail` | The last lines of a file, and appended lines |
//! | `uploads` | Uploads |
//! | `ahead` | Buffer for blocks that arrive before those they follow |

mod ahead;
mod folder;
mod known;
mod parts;
mod tail;
mod uploads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rantai_client::files::interface::{
    Attributes, FileEntry, LeftOut, Listing, MAX_BLOCK_BYTES, Opened, SharedFiles, SharedFilesObject, Upload,
    WRITE_HEADER,
};
use rantai_client::object::{Answering, Binary, Call, Description, Object, Stream};
use rantai_client::shares::{CallerKey, ShareLimits, ShareReport};
use rantai_client::wire::fault::{Code, Fault};
use serde::Deserialize;

use folder::Folder;
use known::KnownFiles;
use tail::Tail;
use uploads::Uploads;

use rantai_nodes::kind::{Building, Configured, Kind};

/// Maximum number of files in one page of a list, and maximum size of a page in bytes: a result may have 1 MiB.
const MAX_PAGE_FILES: usize = 1_000;
const MAX_PAGE_BYTES: usize = 512 << 10;

/// Options of a shared folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Recommended block size for reading and writing, in bytes; at most 512 KiB.
    pub block: u32,
    /// Maximum size of all files in bytes; `None` to forbid writing.
    pub quota: Option<u64>,
    /// Bytes to leave free on the disk: files that would use them are refused. `None` for 64 MiB or a hundredth of the disk,
    /// whichever is less.
    pub free_space: Option<u64>,
    /// Maximum number of concurrent uploads, shared by the rule of [`rantai_client::shares`].
    pub uploads: u64,
    /// Maximum number of bytes that one caller may announce and not send yet; `None` for its fair share of the quota.
    pub announced_per_caller: Option<u64>,
}

impl Default for Sharing {
    fn default() -> Self {
        Self {
            block: 64 << 10,
            quota: None,
            free_space: None,
            uploads: uploads::DEFAULT_UPLOADS,
            announced_per_caller: None,
        }
    }
}

/// Shared folder. Operations that wait for the disk run on blocking threads.
#[derive(Clone, Debug)]
pub struct Share {
    inner: Arc<ShareState>,
    /// Caller, for fair shares of uploads.
    caller: CallerKey,
}

/// Shared folder as an object that distinguishes its callers. (`SharedFilesObject(share)` treats all callers as one.)
#[derive(Debug)]
pub struct FolderObject {
    inner: Arc<SharedFilesObject<Share>>,
}

impl FolderObject {
    /// Creates the object that serves this folder.
    pub fn new(share: Share) -> Self {
        Self { inner: Arc::new(SharedFilesObject(share)) }
    }
}

impl Object for FolderObject {
    fn shares(&self) -> Vec<ShareReport> {
        let inner = &self.inner.0.inner;
        inner.sharing.quota.map(|quota| inner.uploads.reports(quota)).unwrap_or_default()
    }

    fn description(&self) -> Description {
        self.inner.description()
    }

    fn call(self: Arc<Self>, call: Call) -> Answering {
        let caller = call.context.share_of.clone();
        let share = Share { inner: self.inner.0.inner.clone(), caller };
        Arc::new(SharedFilesObject(share)).call(call)
    }
}

#[derive(Debug)]
struct ShareState {
    folder: Folder,
    known: KnownFiles,
    uploads: Uploads,
    sharing: Sharing,
}

impl Share {
    /// Shares an existing folder.
    ///
    /// # Errors
    ///
    /// The folder cannot be opened.
    pub fn new(folder: &Path, sharing: Sharing) -> std::io::Result<Self> {
        let sharing = Sharing { block: sharing.block.clamp(1, MAX_BLOCK_BYTES), ..sharing };
        let folder = Folder::open(folder)?;
        if sharing.quota.is_some()
            && let Ok((_, parts)) = folder.used()
        {
            folder.sweep(&parts, 0, Duration::MAX);
        }
        let uploads = Uploads::new(sharing.free_space, ShareLimits::new(sharing.uploads))
            .announced_per_caller(sharing.announced_per_caller);
        let inner = ShareState { folder, known: KnownFiles::default(), uploads, sharing };
        Ok(Self { inner: Arc::new(inner), caller: CallerKey::Unnamed })
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce(&ShareState) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || job(&inner)).await;
        done.unwrap_or_else(|_| Err(Fault::new(Code::BROKEN_OBJECT, "the method panicked")))
    }
}

impl ShareState {
    fn writable(&self) -> Result<u64, Fault> {
        self.sharing.quota.ok_or_else(|| Fault::new(Code::DENIED, "nothing may be written here"))
    }
}

/// Returns as much of a list as fits into one reply.
fn first_of(mut files: Vec<FileEntry>, left_out: Vec<LeftOut>) -> Listing {
    let mut bytes = 0;
    let fits = |file: &&FileEntry| {
        // Includes escaped quotation marks, and the names and numbers of the fields.
        bytes += 2 * file.path.len() + 100;
        bytes <= MAX_PAGE_BYTES
    };
    let listed = files.iter().take(MAX_PAGE_FILES).take_while(fits).count();
    let more = listed < files.len();
    files.truncate(listed);
    let next = files.last().filter(|_| more).map(|file| file.path.clone());
    Listing { entries: files, next, left_out }
}

impl SharedFiles for Share {
    async fn list(&self, folder: Option<String>, after: Option<String>) -> Result<Listing, Fault> {
        self.work(move |inner| {
            let (mut files, mut left_out) = inner.folder.list(folder.as_deref().unwrap_or_default())?;
            if let Some(after) = after {
                files.retain(|file: &FileEntry| file.path > after);
                left_out.clear();
            }
            Ok(first_of(files, left_out))
        })
        .await
    }

    async fn open(&self, path: String, growing: Option<bool>) -> Result<Opened, Fault> {
        self.work(move |inner| {
            let (known, attributes) = inner.known.open(&inner.folder, &path, growing.unwrap_or(false))?;
            let (size, etag) = (known.size, known.etag.clone());
            Ok(Opened { size, etag, block: inner.sharing.block, attributes })
        })
        .await
    }

    async fn read(
        &self,
        path: String,
        etag: String,
        offset: u64,
        length: u32,
        size: Option<u64>,
    ) -> Result<Binary, Fault> {
        if !(1..=MAX_BLOCK_BYTES).contains(&length) {
            return Err(Fault::wrong_parameter("length", &format!("1 to {MAX_BLOCK_BYTES} bytes")));
        }
        self.work(move |inner| {
            inner.known.read(&inner.folder, &path, (&etag, size), offset, length).map(Binary::from)
        })
        .await
    }

    async fn create(
        &self,
        path: String,
        size: u64,
        etag: String,
        attributes: Option<Attributes>,
    ) -> Result<Upload, Fault> {
        if etag.len() != 64 || !etag.bytes().all(parts::is_digit) {
            return Err(Fault::wrong_parameter("etag", "the BLAKE3 digest in 64 hexadecimal digits"));
        }
        let caller = self.caller.clone();
        self.work(move |inner| {
            let (quota, block) = (inner.writable()?, inner.sharing.block);
            let (id, offset) = inner.uploads.create(&inner.folder, quota, &caller, &path, size, &etag)?;
            if let Some(attributes) = attributes {
                inner.uploads.announce(id, attributes)?;
            }
            Ok(Upload { id, offset, block })
        })
        .await
    }

    async fn write(&self, data: Binary) -> Result<u64, Fault> {
        let header = data.0.get(..WRITE_HEADER).map(|header| {
            let number =
                |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            (number(&header[..8]), number(&header[8..]))
        });
        let Some((id, offset)) = header else {
            return Err(Fault::wrong_parameter("data", "16 bytes of header and the bytes to write"));
        };
        self.work(move |inner| inner.uploads.write(&inner.folder, id, offset, &data.0.slice(WRITE_HEADER..)))
            .await
    }

    async fn commit(&self, id: u64) -> Result<(), Fault> {
        self.work(move |inner| inner.uploads.commit(&inner.folder, id)).await
    }

    async fn tail(
        &self,
        path: String,
        lines: Option<u32>,
        follow: Option<bool>,
    ) -> Result<impl Stream<Item = Result<String, Fault>>, Fault> {
        let lines = lines.unwrap_or(tail::DEFAULT_LINES);
        if lines > tail::MAX_LINES {
            return Err(Fault::wrong_parameter("lines", &format!("at most {}", tail::MAX_LINES)));
        }
        let follow = follow.unwrap_or(false);
        let begun = self.work(move |inner| Tail::begin(&inner.folder, path, lines, follow)).await?;
        Ok(begun.lines(self.clone()))
    }
}

/// Settings of a shared folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSettings {
    /// Name the object is served under.
    pub name: String,
    /// Whether several nodes may serve the object together.
    #[serde(default)]
    pub replica: bool,
    /// Path of the folder, relative to the configuration file.
    pub folder: PathBuf,
    /// Maximum size of all files in bytes; `None` to forbid writing.
    pub quota_bytes: Option<u64>,
    /// Recommended block size for reading and writing, in bytes. Default: 65,536.
    pub block_bytes: Option<u32>,
    /// Bytes to leave free on the disk. Default: 64 MiB or a hundredth of the disk, whichever is less.
    pub free_space_bytes: Option<u64>,
    /// Maximum number of concurrent uploads, of which no caller takes more than its share. Default: 64.
    pub uploads: Option<u64>,
    /// Maximum number of bytes that one caller may announce and not send yet. Default: its fair share of the quota.
    pub announced_bytes_per_caller: Option<u64>,
}

impl Kind for FolderSettings {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn build(&self, building: &Building<'_>) -> Result<Configured, String> {
        let known = Sharing::default();
        let sharing = Sharing {
            block: self.block_bytes.unwrap_or(known.block),
            quota: self.quota_bytes,
            free_space: self.free_space_bytes,
            uploads: self.uploads.unwrap_or(known.uploads),
            announced_per_caller: self.announced_bytes_per_caller,
        };
        if !(1..=MAX_BLOCK_BYTES).contains(&sharing.block) {
            return Err(format!("block_bytes is 1 to {MAX_BLOCK_BYTES}"));
        }
        let folder = building.path(&self.folder);
        let share =
            Share::new(&folder, sharing).map_err(|error| format!("folder {}: {error}", folder.display()))?;
        Ok(building.object(FolderObject::new(share)).replica(self.replica))
    }
}
