//! Errors of a configuration file.

use rantai_client::object::in_json_words;

/// Error of a configuration file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// Path of the file.
        file: String,
        /// Error of the operating system or library.
        source: std::io::Error,
    },
    /// The contents are invalid; the text has line, column, the line itself and a caret.
    #[error("{file}: {message}")]
    Invalid {
        /// Path of the file.
        file: String,
        /// Description and position.
        message: String,
    },
    /// The name or the settings of an object are invalid, or its name is used twice.
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

/// Formats a parser's error with its excerpt of the file; replaces the names of Rust's types by what may be written.
pub(super) fn in_toml_words(error: &toml::de::Error) -> String {
    let told = error.to_string();
    let Some((found, wanted)) = error.message().rsplit_once(", expected ") else { return told };
    told.replace(error.message(), &format!("{found}, expected {}", in_json_words(wanted)))
}
