//! Destination of a received file, and what exists there already.

use std::fs::File;
use std::io;
use std::path::Path;

use super::digest_of;
use super::interface::Attributes;

/// Outcome of moving a complete part to its destination.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// The file is at its destination.
    Whole,
    /// The digest did not match, and the part was removed.
    Wrong,
    /// Another file exists at the destination; the part is kept.
    Taken,
}

/// What exists at a destination.
#[derive(Debug)]
pub(super) enum There {
    Nothing,
    /// The same file, open.
    Same(File),
    /// Another file, or a link.
    Other,
    /// A folder, a device, a pipe or a socket, which is never replaced.
    Irregular,
}

/// Checks what exists at `target`; a symbolic link counts as another file. Reads the file if the size is the same.
pub(super) fn look(target: &Path, size: u64, etag: &str) -> io::Result<There> {
    match std::fs::symlink_metadata(target) {
        Ok(about) if about.is_file() && about.len() == size => {
            let file = File::open(target)?;
            Ok(if digest_of(&file)?.0 == etag { There::Same(file) } else { There::Other })
        }
        Ok(about) if about.is_file() || about.is_symlink() => Ok(There::Other),
        Ok(_) => Ok(There::Irregular),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(There::Nothing),
        Err(error) => Err(error),
    }
}

/// Moves a part to its destination. Replaces another file or a link only if `replace` is set, even if it appeared only
/// now; never replaces anything else. If the same file exists already, it gets the attributes.
pub(super) fn place(
    part: &Path,
    target: &Path,
    (size, etag): (u64, &str),
    attributes: Attributes,
    replace: bool,
) -> io::Result<Placed> {
    if replace && matches!(look(target, size, etag)?, There::Irregular) {
        return Ok(Placed::Taken);
    }
    let renamed = if replace { std::fs::rename(part, target) } else { rename_to_nothing(part, target) };
    match renamed {
        Ok(()) => {}
        Err(error) if !replace && error.kind() == io::ErrorKind::AlreadyExists => {
            let There::Same(file) = look(target, size, etag)? else { return Ok(Placed::Taken) };
            attributes.apply_or_log(&file, target);
            std::fs::remove_file(part)?;
        }
        Err(error) => return Err(error),
    }
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(Placed::Whole)
}

/// Renames a part, and fails if the destination exists: creates a hard link, and then removes the old name.
fn rename_to_nothing(part: &Path, target: &Path) -> io::Result<()> {
    match std::fs::hard_link(part, target) {
        Ok(()) => std::fs::remove_file(part),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Not all file systems support hard links.
        Err(_) => match std::fs::symlink_metadata(target) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::rename(part, target),
            Err(error) => Err(error),
        },
    }
}
