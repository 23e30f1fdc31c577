//! Backups of a data directory: consistent copies of its databases while they are written, and of its other files if
//! no process uses them; restoring; and a check of the files' formats. Independent of broker and nodes: callers pass
//! the layouts of their databases.
//!
//! A backup is a folder with a copy of each file and a manifest, which contains the size and the BLAKE3 digest of
//! each. The folder gets its final name once all of it is synced to disk, so a folder with the name of a backup is
//! always complete.

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

/// Name of the file that contains a node's id in a data directory.
const NODE_NAME: &str = "node-name";
