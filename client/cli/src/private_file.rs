//! Files that only their owner may read: passwords, and what they are kept with.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Gid, Uid, fchown};
use tempfile::NamedTempFile;

use crate::exit::{Exit, Failure};

/// Writes a file as a whole: whoever reads it finds the old text or the new one. A new file is readable for its owner
/// alone; one that is there keeps its owner and mode, since a broker may read it.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    // Not in the place of a symbolic link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Ok(before) = path.metadata() {
        let (uid, gid) = (Uid::from_raw(before.uid()), Gid::from_raw(before.gid()));
        // Only root can give a file away; anybody else is its owner already.
        let _ = fchown(file.as_file(), Some(uid), Some(gid));
        file.as_file().set_permissions(Permissions::from_mode(before.mode() & 0o777))?;
    }
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

/// Keeps other processes from changing a file until the lock is dropped; waits while one of them does. An empty file is made
/// where it is missing. [`write_whole`] may replace the file meanwhile.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?
            }
            opened => opened?,
        };
        file.lock()?;
        // Whoever held it may have put another file in its place.
        let (locked, now) = (file.metadata()?, path.metadata());
        if now.is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino())) {
            return Ok(file);
        }
    }
}

/// Refuses a file or folder that others may read or change.
pub(crate) fn check_private(path: &Path, about: &Metadata) -> Result<(), Failure> {
    let shown = path.display();
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(Failure::new(Exit::Usage, format!("{shown} belongs to another user")));
    }
    if about.mode() & 0o077 != 0 {
        let mode = if about.is_dir() { "700" } else { "600" };
        let text = format!("others may read {shown}, where passwords are kept; run `chmod {mode} {shown}`");
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(())
}

/// Whether others than its owner may read a file.
pub(crate) fn is_open_to_others(about: &Metadata) -> bool {
    about.mode() & 0o044 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("there").mode() & 0o777
    }

    #[test]
    fn a_new_file_is_private_and_an_old_one_keeps_its_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("passwords");
        write_whole(&path, "one").expect("written");
        assert_eq!(mode(&path), 0o600);
        check_private(&path, &path.metadata().expect("there")).expect("private");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("set");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        write_whole(&link, "two").expect("written");
        assert_eq!((mode(&path), std::fs::read_to_string(&path).expect("read")), (0o640, "two".to_owned()));
        assert!(link.is_symlink());
        assert!(check_private(&path, &path.metadata().expect("there")).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 2, "nothing is left behind");
    }
}
