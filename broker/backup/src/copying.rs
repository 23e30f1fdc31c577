//! Copies of files with their digests, synced to disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Number of bytes between two calls of `check`, and between two syncs. With fewer bytes, each sync is shorter, and so
/// are the delays of other commits on the same disk.
pub(crate) const COPY_STEP_BYTES: u64 = 4 << 20;

/// Size and digest of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) bytes: u64,
    pub(crate) blake3: String,
}

/// Reads to the end of `from`, at most `most` bytes and one more.
pub(crate) fn content(from: impl Read, most: u64) -> io::Result<Content> {
    pass(from, most, |_| Ok(()))
}

/// Copies to a new file, which is on disk when this returns. Calls `check` before each step.
pub(crate) fn copy(
    from: impl Read,
    most: u64,
    file: &mut File,
    check: &dyn Fn() -> io::Result<()>,
) -> io::Result<Content> {
    let mut step = COPY_STEP_BYTES;
    let copied = pass(from, most, |part| {
        if step >= COPY_STEP_BYTES {
            check()?;
            file.sync_data()?;
            step = 0;
        }
        step += part.len() as u64;
        file.write_all(part)
    })?;
    file.sync_all()?;
    Ok(copied)
}

/// Creates a file that only its owner may access; does not follow a link.
pub(crate) fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

fn pass(from: impl Read, most: u64, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Content> {
    let mut from = from.take(most.saturating_add(1));
    let (mut buffer, mut hasher, mut bytes) = (vec![0; 256 << 10], blake3::Hasher::new(), 0);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(Content { bytes, blake3: hasher.finalize().to_hex().to_string() }),
            Ok(length) => {
                each(&buffer[..length])?;
                hasher.update(&buffer[..length]);
                bytes += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Syncs a folder, so that new names in it survive a power failure.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Not every file system syncs folders.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}
