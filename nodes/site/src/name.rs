//! Name of the node, stored in the data directory.

use std::io::ErrorKind;
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
    match std::fs::read_to_string(&file) {
        Ok(text) => ClientId::new(text.trim()).map_err(|source| SiteError::WrongNodeName { file, source }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let name = random_id("node");
            match std::fs::write(&file, format!("{name}\n")) {
                Ok(()) => Ok(name),
                Err(source) => Err(SiteError::NodeName { file, source }),
            }
        }
        Err(source) => Err(SiteError::NodeName { file, source }),
    }
}
