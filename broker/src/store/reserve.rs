//! A few megabytes of the disk that are given up when it is full, so that there is room to remove something: the database
//! never changes a page in place, and needs new ones to delete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rantai_group_commit::{Space, open_private};
use rustix::fs::{FallocateFlags, fallocate};

const FILE: &str = "broker.reserve";
/// Room for the new pages of a transaction that removes 256 rows.
const BYTES: u64 = 4 << 20;

/// A file that takes up room until it is needed.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    held: bool,
}

impl Reserve {
    /// The reserve in the directory `dir`; not held yet.
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join(FILE), held: false }
    }

    /// Takes the room up where it is not held: at most 4 MiB and a 64th of the file system, and only where `free` is twice
    /// as much beyond `floor`.
    pub(super) fn hold(&mut self, space: Space, floor: u64) {
        let bytes = BYTES.min(space.total / 64);
        if self.held || bytes == 0 || space.free < floor.saturating_add(2 * bytes) {
            return;
        }
        self.held = true;
        if let Err(error) = allocate(&self.path, bytes) {
            tracing::debug!(file = %self.path.display(), %error, "cannot keep room in reserve");
            self.release();
        }
    }

    /// Gives the room up, also that which an earlier process has left.
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
    // Where a file system cannot promise room there is none to give up.
    Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn it_holds_room_only_where_there_is_enough_and_gives_it_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(FILE);
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
