//! Backends of databases: files and memory.

use std::path::Path;

use rantai_group_commit::{Memory, Opener, open_private};
use redb::{Builder, Database};

/// Returns an opener of a file that only its owner may read, even if it existed before: some files contain secrets.
pub fn file(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move || Database::builder().create_file(open_private(&path)?))
}

/// Returns an opener of memory, which outlives the database that is opened on it.
pub fn memory() -> Opener {
    Memory::default().opener(Builder::new)
}
