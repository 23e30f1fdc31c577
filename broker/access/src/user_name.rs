//! Validation of user names in rules, configurations and password files.

/// Maximum length of a user name, in characters.
pub const MAX_USER_CHARS: usize = 64;

/// Error of a text that is not a valid user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserNameError {
    /// The text is empty.
    #[error("a user name has at least one character")]
    Empty,
    /// The text is longer than [`MAX_USER_CHARS`].
    #[error("a user name has at most {MAX_USER_CHARS} characters")]
    TooLong,
    /// `/`, `+` or `#`: in place of `%u` in a rule it would match topics of other users.
    #[error("a user name has no {0:?}, which means something else in topics and filters")]
    OfTopics(char),
    /// `:`, which ends the name in a password file.
    #[error("a user name has no ':', which ends it in a password file")]
    Colon,
    /// A control character, such as a line feed or NUL.
    #[error("a user name has no control characters")]
    Control,
    /// `$` as the first character, which is reserved for the broker's own process.
    #[error("a user name does not begin with '$'")]
    Dollar,
    /// White space at the beginning or the end, which readers would not see.
    #[error("a user name does not begin or end with a space")]
    Space,
    /// `--`: client ids of the form `NAME--…` belong to the user `NAME`.
    #[error("a user name has no \"--\": NAME--… are client ids of the user NAME")]
    Dashes,
}

/// Checks whether a text is a valid user name.
///
/// # Errors
///
/// The text breaks a rule; the error names the first one that it breaks.
pub fn check_user_name(name: &str) -> Result<(), UserNameError> {
    if name.is_empty() {
        Err(UserNameError::Empty)
    } else if name.chars().count() > MAX_USER_CHARS {
        Err(UserNameError::TooLong)
    } else if let Some(of_topics) = name.chars().find(|c| matches!(c, '/' | '+' | '#')) {
        Err(UserNameError::OfTopics(of_topics))
    } else if name.contains(':') {
        Err(UserNameError::Colon)
    } else if name.contains(char::is_control) {
        Err(UserNameError::Control)
    } else if name.starts_with('$') {
        Err(UserNameError::Dollar)
    } else if name.trim() != name {
        Err(UserNameError::Space)
    } else if name.contains("--") {
        Err(UserNameError::Dashes)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_names_are_refused() {
        let longest = "é".repeat(MAX_USER_CHARS);
        for name in ["ada", "Ada Lovelace", "grâce", "a-b", "pi.east", "a@b.example", &longest] {
            assert_eq!(check_user_name(name), Ok(()), "{name}");
        }
        for (name, error) in [
            ("", UserNameError::Empty),
            (&*"x".repeat(MAX_USER_CHARS + 1), UserNameError::TooLong),
            ("a/b", UserNameError::OfTopics('/')),
            ("+", UserNameError::OfTopics('+')),
            ("#a", UserNameError::OfTopics('#')),
            ("a:b", UserNameError::Colon),
            ("a\nb", UserNameError::Control),
            ("a\0", UserNameError::Control),
            ("$local", UserNameError::Dollar),
            (" a", UserNameError::Space),
            ("ada--pi", UserNameError::Dashes),
        ] {
            assert_eq!(check_user_name(name), Err(error), "{name:?}");
        }
    }
}
