//! Backups of a data directory: consistent copies of its databases while they are written, and of all its files while no
//! process uses it; restoring them; and a check of the files' formats. Knows neither broker nor nodes, but the layouts of
//! their databases, which it is given.
//!
//! A backup is a folder with a copy of each file and a manifest, which has the size and the BLAKE3 digest of each. It gets its
//! name once all of it is on disk, so that a folder of that name is always complete.

mod copying;
mod error;
mod exchange;
mod folder;
mod formats;
mod inside;
mod making;
mod manifest;
mod overlay;
mod restoring;
mod stage;

#[cfg(test)]
mod tests;

pub use error::BackupError;
pub use formats::{FileFormat, Verdict, check_formats};
pub use making::{Backup, BackupSettings, back_up};
pub use manifest::{Entry, MANIFEST, MANIFEST_DIGEST, MANIFEST_FORMAT, Manifest};
pub use restoring::{Restored, finish_restore, restore, verify};

/// Name of the file that keeps a node's id in a data directory.
const NODE_NAME: &str = "node-name";
