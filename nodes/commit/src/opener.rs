//! Where the databases of objects are: files and memory.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rantai_group_commit::{Memory, Opener};
use redb::{Builder, Database};

/// A file that only its owner may read: secrets are in some of them.
pub fn file(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move || {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        Database::builder().create_file(options.open(&path)?)
    })
}

/// Memory, which outlives the database that is opened on it.
pub fn memory() -> Opener {
    Memory::default().opener(Builder::new)
}
