//! Database files and folders that only their owner may access.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// File mode: read and write for the owner, no access for others.
const MODE: u32 = 0o600;

/// Opens a file for a database, and creates it if it does not exist. Removes the access of others, in case an earlier
/// version allowed it: the file contains messages, arguments and secrets.
///
/// # Errors
///
/// The file cannot be opened. If the mode cannot be changed, because the file has another owner, it is kept without an error.
pub fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(MODE).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        let _ = file.set_permissions(Permissions::from_mode(MODE));
    }
    Ok(file)
}

/// Creates a folder for database files, and its missing parents, accessible only to their owner. An existing folder keeps
/// its mode, as it may contain other files too.
///
/// # Errors
///
/// A folder cannot be created.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_folders_are_private_and_existing_ones_keep_their_mode() {
        let folder = tempfile::tempdir().expect("a directory");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("set");
        let inside = folder.path().join("a/b");
        make_private_folder(&inside).expect("made");
        make_private_folder(folder.path()).expect("there already");
        assert_eq!(mode(&inside), 0o700);
        assert_eq!(mode(&folder.path().join("a")), 0o700);
        assert_eq!(mode(folder.path()), 0o755);
    }

    #[test]
    fn new_and_existing_files_become_private() {
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
