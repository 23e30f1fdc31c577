//! The file of a configuration, to be read again while the broker runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::roles::RoleSyntax;
use super::{Config, ConfigError};

/// The file that a configuration was read from, and how it is read.
///
/// Two of them are always equal: where settings stand is none of them.
#[derive(Clone)]
pub struct ConfigSource {
    file: PathBuf,
    read: fn(&Path) -> Result<Config, ConfigError>,
    /// The settings of the file before flags and the environment changed them.
    as_read: Arc<Config>,
}

impl ConfigSource {
    pub(super) fn of<R: RoleSyntax>(file: &Path, config: Config) -> Self {
        Self { file: file.to_owned(), read: |file| Config::load_with::<R>(file), as_read: Arc::new(config) }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn read(&self) -> Result<Config, ConfigError> {
        (self.read)(&self.file)
    }

    /// Whether settings other than those about access differ from the file that the broker was started with.
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
