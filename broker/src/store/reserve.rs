//! Disk space that is reserved, and released when the disk is full so that rows can be deleted: the database never
//! changes a page in place, and needs new pages to delete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rantai_group_commit::{Space, open_private};
use rustix::fs::{FallocateFlags, fallocate};

const RESERVE_FILE: &str = "broker.reserve";
/// Space for the new pages of a transaction that deletes 256 rows, in bytes.
const RESERVE_BYTES: u64 = 4 << 20;

/// File that reserves disk space.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    held: bool,
}

impl Reserve {
    /// Creates the reserve in the directory `dir`, without allocating it.
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join(RESERVE_FILE), held: false }
    }

    /// Allocates the reserve if it is not allocated: at most 4 MiB and a 64th of the file system, and only if `free`
    /// exceeds `floor` by twice that.
    pub(super) fn hold(&mut self, space: Space, floor: u64) {
        let bytes = RESERVE_BYTES.min(space.total / 64);
        if self.held || bytes == 0 || space.free < floor.saturating_add(2 * bytes) {
            return;
        }
        self.held = true;
        if let Err(error) = allocate(&self.path, bytes) {
            tracing::debug!(file = %self.path.display(), %error, "cannot keep room in reserve");
            self.release();
        }
    }

    /// Releases the reserve, including one left by an earlier process.
    pub(super) fn release(&mut self) {
        self.held = false;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %self.path.display(), %error, "cannot give up the room kept in reserve");
            }
            _ => {}
        }
    }
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file: File = open_private(path)?;
    // Some file systems cannot allocate space in advance; there is no reserve then.
    Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_reserve_is_allocated_only_with_enough_space_and_released() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(RESERVE_FILE);
        let mut reserve = Reserve::new(dir.path());
        let space = |free| Space { free, total: 64 << 20 };
        reserve.hold(space(2 << 20), 1_000);
        assert!(!file.exists(), "too little is free");
        reserve.hold(space(3 << 20), 1_000);
        let about = fs::metadata(&file).expect("held");
        assert!(about.len() == 1 << 20 && about.blocks() * 512 >= 1 << 20, "blocks, and not a hole");
        reserve.release();
        assert!(!file.exists());
        reserve.release();
    }
}
