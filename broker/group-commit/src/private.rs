//! Database files that only their owner may read.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Read and write for the owner, nothing for others.
const MODE: u32 = 0o600;

/// Opens a file for a database, and makes it where it is missing. Only its owner may read it from then on, also where an
/// earlier version made it readable for others: messages, arguments and secrets are in it.
///
/// # Errors
///
/// Those of opening it. The mode of a file of another owner cannot be changed and stays.
pub fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(MODE).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        let _ = file.set_permissions(Permissions::from_mode(MODE));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_and_older_files_are_readable_for_their_owner_alone() {
        let folder = tempfile::tempdir().expect("a directory");
        for (name, before) in [("new", None), ("older", Some(0o644)), ("wide", Some(0o666))] {
            let path = folder.path().join(name);
            if let Some(mode) = before {
                std::fs::write(&path, "kept").expect("written");
                std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
            }
            open_private(&path).expect("opened");
            let about = std::fs::metadata(&path).expect("there");
            assert_eq!(about.permissions().mode() & 0o777, MODE, "{name}");
            assert_eq!(about.len(), if before.is_some() { 4 } else { 0 }, "{name}");
        }
    }
}
