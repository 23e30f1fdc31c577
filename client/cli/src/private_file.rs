//! Files that only their owner may read: passwords, keys, and the files that contain them.
//!
//! Files are replaced atomically: a new file is written and renamed over the old one. A reader sees the old text or the new
//! one, a process that has the old file open never sees the new text, and a symbolic link is replaced, not followed.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Gid, OFlags, Uid, fchown};
use tempfile::NamedTempFile;

use crate::exit::{Exit, Failure};

/// Writes a file that only its owner may read, and replaces an existing one.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    persist(new_file(path, text)?, path)
}

/// Writes a file that every user may read who has access to its folder.
pub(crate) fn write_public(path: &Path, text: &str) -> io::Result<()> {
    let file = new_file(path, text)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    persist(file, path)
}

/// Replaces a file that other users than its owner may use: owner, group and the group's read permission are kept. All other
/// users are denied access. A new file is readable by its owner only.
pub(crate) fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    let file = new_file(path, text)?;
    let before = path.symlink_metadata().ok().filter(Metadata::is_file);
    if let Some(before) = before {
        let (uid, gid) = (Uid::from_raw(before.uid()), Gid::from_raw(before.gid()));
        // Only root may change the owner; other users may change the group to one of their own.
        let is_kept = fchown(file.as_file(), Some(uid), Some(gid))
            .or_else(|_| fchown(file.as_file(), None, Some(gid)))
            .is_ok();
        if is_kept && before.mode() & 0o040 != 0 {
            file.as_file().set_permissions(Permissions::from_mode(0o640))?;
        }
    }
    persist(file, path)
}

/// Writes a new file in the folder of `path`, with mode 0600.
fn new_file(path: &Path, text: &str) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Locks a file against other processes until the lock is dropped; waits while another process holds it. Creates an empty
/// file if it is missing. The functions above may replace the file while it is locked. A symbolic link is an error.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    if path.is_symlink() {
        return Err(symbolic_link(path));
    }
    loop {
        let mut options = OpenOptions::new();
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = match options.read(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                options.write(true).create(true).truncate(false).mode(0o600).open(path)?
            }
            opened => opened?,
        };
        file.lock()?;
        // The previous holder may have replaced the file.
        let (locked, now) = (file.metadata()?, path.symlink_metadata());
        if now.is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino())) {
            return Ok(file);
        }
    }
}

fn symbolic_link(path: &Path) -> io::Error {
    let target = path.canonicalize().map(|target| format!("name {} instead, or ", target.display()));
    let target = target.unwrap_or_default();
    io::Error::other(format!("it is a symbolic link, which secrets do not follow; {target}remove the link"))
}

/// Returns an error if a file or folder belongs to another user, or other users may access it.
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

/// Checks whether other users than its owner may read a file.
pub(crate) fn is_open_to_others(about: &Metadata) -> bool {
    about.mode() & 0o044 != 0
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("there").mode() & 0o777
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).expect("read")
    }

    #[test]
    fn secret_file_replaces_any_existing_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("secret"), folder.path().join("other"));
        write_private(&path, "one").expect("written");
        assert_eq!(mode(&path), 0o600);
        check_private(&path, &path.metadata().expect("there")).expect("private");
        fs::set_permissions(&path, Permissions::from_mode(0o664)).expect("set");
        let open = File::open(&path).expect("opened");
        write_private(&path, "two").expect("written");
        assert_eq!((mode(&path), &*read(&path)), (0o600, "two"));
        assert_eq!(io::read_to_string(open).expect("read"), "one", "whoever had it open has the old one");
        fs::write(&other, "theirs").expect("written");
        for write in [write_private, rewrite, write_public] {
            fs::remove_file(&path).expect("removed");
            symlink(&other, &path).expect("linked");
            write(&path, "three").expect("written");
            assert!(!path.is_symlink() && read(&path) == "three" && read(&other) == "theirs");
        }
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 2, "nothing is left behind");
    }

    #[test]
    fn rewritten_file_stays_readable_for_its_group_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("passwords");
        rewrite(&path, "one").expect("written");
        assert_eq!(mode(&path), 0o600);
        for (before, after) in [(0o640, 0o640), (0o664, 0o640), (0o604, 0o600), (0o400, 0o600)] {
            fs::set_permissions(&path, Permissions::from_mode(before)).expect("set");
            rewrite(&path, "two").expect("written");
            assert_eq!(mode(&path), after, "{before:o}");
        }
        assert!(check_private(&path, &path.metadata().expect("there")).is_ok());
    }

    #[test]
    fn locking_a_symbolic_link_fails_without_creating_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        symlink(&target, &link).expect("linked");
        lock(&link).expect_err("a link to nothing");
        assert!(!target.exists());
        fs::write(&target, "theirs").expect("written");
        let told = lock(&link).expect_err("a link").to_string();
        assert!(told.contains("symbolic link") && told.contains("target instead"), "{told}");
    }
}
