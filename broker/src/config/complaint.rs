//! Errors of a configuration, with their place in the file.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::hidden::{HIDDEN, hide_passwords};

/// Error of reading a configuration file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The file has invalid contents. Displayed with file, line, column, the line itself and a caret.
    #[error("{}:{line}:{column}: {message}\n{}", file.display(), Excerpt { line: *line, column: *column, width: *width, source: source_line })]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// Number of invalid characters, from `column` on.
        width: usize,
        /// The line as in the file, without passwords.
        source_line: String,
        /// Error, and what to write instead.
        message: String,
    },
}

/// Error at a range of bytes of the file.
pub(super) struct Complaint {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

impl Complaint {
    pub(super) fn at<T>(value: &Spanned<T>, message: impl Into<String>) -> Self {
        Self { span: value.span(), message: message.into() }
    }

    /// Adds the line and the column.
    pub(super) fn locate(self, text: &str, file: &Path) -> ConfigError {
        let at = text.floor_char_boundary(self.span.start);
        let before = &text[..at];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let source_line = text[start..].lines().next().unwrap_or_default();
        // Of a range over several lines, only the first line is marked.
        let end = text.floor_char_boundary(self.span.end.clamp(at, start + source_line.len()).max(at));
        let line = before.matches('\n').count() + 1;
        let (source_line, marked) = hide_passwords(source_line, at - start..end - start);
        let column = source_line[..marked.start].chars().count() + 1;
        // For a value of a wrong type, the parser's message quotes the value, which may be a password.
        let is_quoted = source_line[marked.clone()] == *HIDDEN && self.message.starts_with("invalid type");
        let message = if is_quoted { "expected a text in quotes".to_owned() } else { self.message };
        let width = source_line[marked].chars().count().max(1);
        ConfigError::Invalid { file: file.to_owned(), line, column, width, source_line, message }
    }
}

/// Maximum number of characters of a line that are shown, with the invalid part among them: a file that is no configuration
/// may have a line of any length.
const MAX_LINE_CHARS: usize = 160;

/// Line of the file with carets under the invalid part.
struct Excerpt<'a> {
    line: usize,
    column: usize,
    width: usize,
    source: &'a str,
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let is_long = self.source.chars().nth(MAX_LINE_CHARS).is_some();
        let skipped = if is_long { (self.column - 1).saturating_sub(MAX_LINE_CHARS / 2) } else { 0 };
        let shown = || self.source.chars().skip(skipped).take(MAX_LINE_CHARS);
        let before = self.column - 1 - skipped;
        // Tabs are kept, so that the carets are under the right characters at any tab width.
        let indent: String = shown().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let width = self.width.min(MAX_LINE_CHARS - before.min(MAX_LINE_CHARS - 1));
        writeln!(f, " {margin} |")?;
        writeln!(f, " {number} | {}", shown().collect::<String>())?;
        write!(f, " {margin} | {indent}{}", "^".repeat(width))
    }
}
