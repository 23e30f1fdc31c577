//! Password file with one user and record per line, as `mosquitto_passwd` writes it.

use std::collections::HashMap;
use std::fmt;

use rantai_access::{UserNameError, check_user_name};

use crate::record::{Record, RecordError};

/// Lines of a password file: `user:record`, comments that begin with `#`, and empty lines.
///
/// Invalid lines are kept unchanged, so that they can be replaced or removed; [`records`](Self::records) reports them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PasswordFile {
    lines: Vec<Line>,
}

#[derive(Clone, PartialEq, Eq)]
struct Line {
    text: String,
    /// User of the line; `None` for a comment, an empty line, and a line without a colon.
    user: Option<String>,
}

/// Error of an invalid line in a password file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}")]
pub struct PasswordFileError {
    /// Number of the line, starting at 1.
    pub line: usize,
    /// Problem of the line.
    #[source]
    pub reason: LineError,
}

/// Problem of a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// The line is neither `user:record` nor a comment.
    #[error("expected user:record")]
    NoColon,
    /// The user name is not valid.
    #[error("wrong user name {user:?}")]
    User {
        /// Name in the file.
        user: String,
        /// Rule that the name breaks.
        source: UserNameError,
    },
    /// The file contains the password itself, not a record.
    #[error("the password of user {user:?} is in plain text; replace it with `rantai passwd FILE {user}`")]
    PlainText {
        /// Name of the user.
        user: String,
    },
    /// The record cannot be parsed.
    #[error("the password of user {user:?} cannot be read; replace it with `rantai passwd FILE {user}`")]
    Record {
        /// Name of the user.
        user: String,
        /// Problem of the record.
        source: RecordError,
    },
    /// An earlier line has the same user.
    #[error("user {user:?} is on line {first} already")]
    Twice {
        /// Name of the user.
        user: String,
        /// Number of the first line with this user.
        first: usize,
    },
}

impl PasswordFile {
    /// Splits a text into lines, including invalid ones.
    pub fn new(text: &str) -> Self {
        Self { lines: text.lines().map(Line::new).collect() }
    }

    /// Returns the record of each user.
    ///
    /// # Errors
    ///
    /// A line is invalid; the error names the first one.
    pub fn records(&self) -> Result<HashMap<String, Record>, PasswordFileError> {
        let mut records = HashMap::new();
        let mut lines = HashMap::new();
        for (index, line) in self.lines.iter().enumerate() {
            let wrong = |reason| PasswordFileError { line: index + 1, reason };
            if let Some((user, record)) = line.read().map_err(wrong)? {
                if let Some(&first) = lines.get(&user) {
                    return Err(wrong(LineError::Twice { user, first }));
                }
                lines.insert(user.clone(), index + 1);
                records.insert(user, record);
            }
        }
        Ok(records)
    }

    /// Returns the record of this user, regardless of other lines; `None` if no line has this user.
    ///
    /// # Errors
    ///
    /// The line of this user is invalid.
    pub fn record(&self, user: &str) -> Result<Option<Record>, PasswordFileError> {
        let Some(index) = self.find(user) else { return Ok(None) };
        let read =
            self.lines[index].read().map_err(|reason| PasswordFileError { line: index + 1, reason })?;
        Ok(read.map(|(_, record)| record))
    }

    /// Replaces the line of this user, or appends one. Returns whether the user had a line before.
    ///
    /// # Errors
    ///
    /// The text is not a valid user name.
    pub fn set(&mut self, user: &str, record: &Record) -> Result<bool, UserNameError> {
        check_user_name(user)?;
        let line = Line::new(&format!("{user}:{record}"));
        let first = self.find(user);
        match first {
            Some(index) => self.lines[index] = line,
            None => self.lines.push(line),
        }
        // Removes other lines of this user, as a second one would make the whole file invalid.
        let kept = first.unwrap_or(self.lines.len() - 1);
        let mut index = 0;
        self.lines.retain(|line| {
            index += 1;
            index - 1 == kept || line.user.as_deref() != Some(user)
        });
        Ok(first.is_some())
    }

    /// Removes all lines of this user. Returns whether there were any.
    pub fn remove(&mut self, user: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| line.user.as_deref() != Some(user));
        self.lines.len() < before
    }

    fn find(&self, user: &str) -> Option<usize> {
        self.lines.iter().position(|line| line.user.as_deref() == Some(user))
    }
}

impl Line {
    fn new(text: &str) -> Self {
        let is_comment = text.starts_with('#');
        let user = text.split_once(':').filter(|_| !is_comment).map(|(user, _)| user.to_owned());
        Self { text: text.to_owned(), user }
    }

    fn read(&self) -> Result<Option<(String, Record)>, LineError> {
        let Some(user) = self.user.clone() else {
            let ignored = self.text.starts_with('#') || self.text.trim().is_empty();
            return if ignored { Ok(None) } else { Err(LineError::NoColon) };
        };
        if let Err(source) = check_user_name(&user) {
            return Err(LineError::User { user, source });
        }
        match self.text[user.len() + 1..].trim_end().parse() {
            Ok(record) => Ok(Some((user, record))),
            Err(RecordError::PlainText) => Err(LineError::PlainText { user }),
            Err(source) => Err(LineError::Record { user, source }),
        }
    }
}

/// Formats the file as it is written to disk: every line ends in a line feed.
impl fmt::Display for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{}", line.text))
    }
}

/// Formats only the user, because the rest may be a password.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Cost;

    fn record(password: &str) -> Record {
        Record::new(password.as_bytes(), Cost::LOWEST).expect("hashed")
    }

    #[test]
    fn one_line_changes_and_the_others_stay() {
        let (ada, ani) = (record("a"), record("b"));
        let text = format!("# people\nada:{ada}\n\nani:{ani}\nold:plain\n");
        let mut file = PasswordFile::new(&text);
        assert_eq!(file.to_string(), text);
        let new = record("c");
        assert_eq!(file.set("ani", &new), Ok(true));
        assert_eq!(file.set("eva", &ani), Ok(false));
        assert_eq!(file.to_string(), format!("# people\nada:{ada}\n\nani:{new}\nold:plain\neva:{ani}\n"));
        assert!(file.remove("old") && !file.remove("old") && !file.remove("# people"));
        let records = file.records().expect("all right");
        assert_eq!(records.len(), 3);
        assert!(records["ada"] == ada && records["ani"] == new && records["eva"] == ani);
        assert_eq!(file.set("a:b", &new), Err(UserNameError::Colon));
    }

    #[test]
    fn setting_a_user_removes_its_duplicate_lines() {
        let (one, other) = (record("a"), record("b"));
        let mut file = PasswordFile::new(&format!("ada:{one}\nani:{one}\nada:{one}\n"));
        let twice = LineError::Twice { user: "ada".to_owned(), first: 1 };
        assert_eq!(file.records().expect_err("twice"), PasswordFileError { line: 3, reason: twice });
        assert_eq!(file.set("ada", &other), Ok(true));
        assert_eq!(file.to_string(), format!("ada:{other}\nani:{one}\n"));
    }

    #[test]
    fn an_error_names_its_line_and_the_command_but_no_password() {
        for (line, expected) in [
            ("ada", "expected user:record"),
            ("ada:rahasia", "`rantai passwd FILE ada`"),
            ("ada:", "plain text"),
            ("ada:$2y$10$rahasia", "cannot be read"),
            (":rahasia", "wrong user name \"\""),
            ("a--b:rahasia", "wrong user name \"a--b\""),
            ("a/b:rahasia", "wrong user name \"a/b\""),
        ] {
            let error = PasswordFile::new(&format!("# users\n\n{line}\n")).records().expect_err(line);
            assert_eq!(error.to_string(), "line 3", "{line}");
            let reason = error.reason.to_string();
            assert!(reason.contains(expected) && !reason.contains("rahasia"), "{line}: {reason}");
        }
        let shown = format!("{:?}", PasswordFile::new("ada:rahasia\n"));
        assert!(!shown.contains("rahasia"), "{shown}");
    }

    #[test]
    fn files_with_crlf_or_without_a_last_line_feed_are_parsed() {
        let ada = record("a");
        for text in [format!("ada:{ada}\r\n"), format!("ada:{ada}")] {
            assert_eq!(PasswordFile::new(&text).record("ada"), Ok(Some(ada.clone())));
        }
    }
}
