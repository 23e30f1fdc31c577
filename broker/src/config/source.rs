//! File of a configuration, for reloading it while the broker runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::roles::RoleSyntax;
use super::written::{Change, WrittenKeys};
use super::{Config, ConfigError};

/// File from which a configuration was read, and the function that reads it.
///
/// Any two compare equal, so that two configurations with the same settings are equal even if their files are
/// different.
#[derive(Clone)]
pub struct ConfigSource {
    file: PathBuf,
    read: fn(&Path) -> Result<Config, ConfigError>,
    /// Keys of the file, without the changes by flags and by the environment.
    written: Arc<WrittenKeys>,
}

impl ConfigSource {
    pub(super) fn of<R: RoleSyntax>(file: &Path, text: &str) -> Self {
        let written = Arc::new(WrittenKeys::of(text, file));
        Self { file: file.to_owned(), read: |file| Config::load_with::<R>(file), written }
    }

    /// Returns the path of the file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn read(&self) -> Result<Config, ConfigError> {
        (self.read)(&self.file)
    }

    /// Returns the keys that differ in a later version of the file.
    pub(crate) fn changes_to(&self, later: &Self) -> Vec<Change> {
        self.written.changes_to(&later.written)
    }
}

impl PartialEq for ConfigSource {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ConfigSource {}

impl fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigSource").field("file", &self.file).finish_non_exhaustive()
    }
}
