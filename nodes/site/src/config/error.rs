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
    let told = without_secrets(&error.to_string());
    let Some((found, wanted)) = error.message().rsplit_once(", expected ") else { return told };
    told.replace(error.message(), &format!("{found}, expected {}", in_json_words(wanted)))
}

/// Keys whose values may be passwords, where they stand in the wrong place or in the wrong form.
const SECRET_KEYS: [&str; 2] = ["password", "key"];

/// Replaces passwords in the excerpt of a file by as many asterisks, as errors end up in logs; the caret stays in its place.
fn without_secrets(told: &str) -> String {
    // Lines of the excerpt begin with their number.
    let is_excerpt =
        |line: &str| line.trim_start().starts_with(|c: char| c.is_ascii_digit()) && line.contains(" | ");
    let line = |line: &str| if is_excerpt(line) { masked(line) } else { line.to_owned() };
    told.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn masked(line: &str) -> String {
    let mut hidden: Vec<std::ops::Range<usize>> = Vec::new();
    for key in SECRET_KEYS {
        for (at, _) in line.match_indices(key) {
            let is_part = |c: char| c.is_alphanumeric() || "_-".contains(c);
            let rest = line[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
            let Some(value) = rest.strip_prefix('=').filter(|_| !line[..at].ends_with(is_part)) else {
                continue;
            };
            let value = value.trim_start();
            let start = line.len() - value.len();
            let quote = value.chars().next().filter(|quote| ['"', '\''].contains(quote));
            let quoted =
                quote.and_then(|quote| value[1..].find(quote)).map(|length| start + 1..start + 1 + length);
            hidden.push(quoted.unwrap_or(start..line.len()));
        }
    }
    for (at, scheme) in line.match_indices("://") {
        let start = at + scheme.len();
        let end = line[start..].find(['"', '\'']).map_or(line.len(), |length| start + length);
        hidden.extend(line[start..end].rfind('@').map(|length| start..start + length));
    }
    let is_hidden = |at: &usize| hidden.iter().any(|range| range.contains(at));
    line.char_indices().map(|(at, c)| if is_hidden(&at) { '*' } else { c }).collect()
}
