//! Errors of a configuration file.

use rantai_client::object::in_json_words;

/// Error of a configuration file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// The file, as it was named.
        file: String,
        /// Error of the operating system or library.
        source: std::io::Error,
    },
    /// It is not what it should be: with line, column, the line itself and a caret.
    #[error("{file}: {message}")]
    Invalid {
        /// The file, as it was named.
        file: String,
        /// Description and position.
        message: String,
    },
    /// A name that is none, or stands there twice.
    #[error("{file}: object {name:?}: {reason}")]
    Object {
        /// Path of the file.
        file: String,
        /// Object name.
        name: String,
        /// Description.
        reason: String,
    },
}

/// A parser's error with its excerpt of the file, with the names of Rust's types replaced by what may be written.
pub(super) fn in_toml_words(error: &toml::de::Error) -> String {
    let told = error.to_string();
    let Some((found, wanted)) = error.message().rsplit_once(", expected ") else { return told };
    told.replace(error.message(), &format!("{found}, expected {}", in_json_words(wanted)))
}
