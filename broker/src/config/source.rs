//! File of a configuration, for reloading it while the broker runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::roles::RoleSyntax;
use super::{Config, ConfigError};

/// File from which a configuration was read, and the function that reads it.
///
/// Any two are equal, as the place of settings is no setting itself.
#[derive(Clone)]
pub struct ConfigSource {
    file: PathBuf,
    read: fn(&Path) -> Result<Config, ConfigError>,
    /// Settings of the file before flags and the environment changed them.
    as_read: Arc<Config>,
}

impl ConfigSource {
    pub(super) fn of<R: RoleSyntax>(file: &Path, config: Config) -> Self {
        Self { file: file.to_owned(), read: |file| Config::load_with::<R>(file), as_read: Arc::new(config) }
    }

    /// Returns the path of the file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn read(&self) -> Result<Config, ConfigError> {
        (self.read)(&self.file)
    }

    /// Checks whether settings other than those about access differ from the file with which the broker was started.
    pub(crate) fn differs_elsewhere(&self, read: &Config) -> bool {
        let others = |config: &Config| Config {
            anonymous: true,
            users: Vec::new(),
            access: None,
            hardened: false,
            source: None,
            ..config.clone()
        };
        others(&self.as_read) != others(read)
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
