//! Files of other hosts, fetched and sent in blocks; with the feature `files`, shared folders.

pub use rantai_client::files::*;
#[cfg(feature = "files")]
pub use rantai_files::{FolderObject, Share, Sharing};
