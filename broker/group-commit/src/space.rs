//! Free space of a file system, and the reserve that stays unused.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{StatVfs, fstatvfs, statvfs};

/// Maximum default reserve, in bytes.
const MAX_DEFAULT_FLOOR_BYTES: u64 = 64 << 20;

/// Space of a file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Space available to unprivileged users.
    pub free: u64,
    /// Total size of the file system.
    pub total: u64,
}

impl Space {
    /// Returns the space of the file system that contains `path`.
    ///
    /// # Errors
    ///
    /// `statvfs` failed.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(statvfs(path)?.into())
    }

    /// Returns the space of the file system that contains an open file or folder.
    ///
    /// # Errors
    ///
    /// `fstatvfs` failed.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(fstatvfs(file)?.into())
    }

    /// Returns the number of bytes to leave free: `configured`, or by default 64 MiB or 1% of the file system, whichever
    /// is less.
    pub fn floor(self, configured: Option<u64>) -> u64 {
        configured.unwrap_or(MAX_DEFAULT_FLOOR_BYTES.min(self.total / 100))
    }
}

impl From<StatVfs> for Space {
    fn from(about: StatVfs) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
        Self { free: bytes(about.f_bavail), total: bytes(about.f_blocks) }
    }
}

/// Returns whether a write failed for lack of space: on the disk, in a quota, or in a file of limited size.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_the_configured_one_or_the_lesser_of_64_mib_and_one_percent() {
        let space = |total| Space { free: 0, total };
        assert_eq!(space(1 << 40).floor(None), 64 << 20);
        assert_eq!(space(600 << 20).floor(None), 6 << 20);
        assert_eq!(space(1 << 40).floor(Some(0)), 0);
        assert_eq!(space(1 << 20).floor(Some(1 << 30)), 1 << 30);
    }

    #[test]
    fn a_file_and_its_path_are_on_the_same_file_system() {
        let file = std::fs::File::open("/proc/self/exe").expect("there");
        assert!(Space::of(&file).expect("looked at").total > 0);
        let program = std::env::current_exe().expect("there");
        assert_eq!(Space::at(&program).expect("looked at").total, Space::of(&file).expect("looked at").total);
    }
}
