//! Name of the node, stored in the data directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use rantai_client::client::random_id;
use rantai_client::wire::name::ClientId;

use crate::error::SiteError;

/// Returns the node's name stored in this directory; generates one at the first start.
///
/// With a new name at each start, a node that was killed together with its broker would find its object names taken: the
/// registry entries of the old node are retained on disk, and its will was lost with the broker.
pub(super) fn kept_name(directory: &Path) -> Result<ClientId, SiteError> {
    let file = directory.join("node-name");
    match fs::read_to_string(&file) {
        // Earlier versions left an empty file where the disk was full.
        Ok(text) if !text.trim().is_empty() => {
            ClientId::new(text.trim()).map_err(|source| SiteError::WrongNodeName { file, source })
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(SiteError::NodeName { file, source: error }),
        Ok(_) | Err(_) => {
            let name = random_id("node");
            match write(&file, &format!("{name}\n")) {
                Ok(()) => Ok(name),
                Err(source) => Err(SiteError::NodeName { file, source }),
            }
        }
    }
}

/// Writes a file that is whole or not there, whatever happens to the disk or the process.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&new, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&new);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_and_one_that_was_not_written_is_made_anew() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("node-name");
        // What a full disk has left.
        fs::write(&file, "").expect("written");
        let name = kept_name(folder.path()).expect("a new one");
        assert_eq!(kept_name(folder.path()).expect("kept"), name);
        assert_eq!(fs::read_to_string(&file).expect("there"), format!("{name}\n"));
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1);
        fs::write(&file, "a b\n").expect("written");
        assert!(matches!(kept_name(folder.path()), Err(SiteError::WrongNodeName { .. })));
    }

    #[test]
    fn a_name_that_cannot_be_written_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a directory");
        fs::create_dir(folder.path().join("node-name")).expect("made");
        assert!(write(&folder.path().join("node-name"), "node-1\n").is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1);
    }
}
