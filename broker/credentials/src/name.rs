//! Which user names a password file can have.

/// Bytes of the longest user name.
pub const MAX_USER_BYTES: usize = 255;

/// Why a text is no user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserNameError {
    /// The text is empty.
    #[error("a user name has at least one character")]
    Empty,
    /// The text is longer than [`MAX_USER_BYTES`].
    #[error("a user name has at most {MAX_USER_BYTES} bytes")]
    TooLong,
    /// A `:` ends the name in a password file.
    #[error("a user name has no ':', which ends it in a password file")]
    Colon,
    /// A line feed, for example, or a NUL.
    #[error("a user name has no control characters")]
    Control,
    /// `#` begins a comment in a password file, and `$` the names of the broker's own process.
    #[error("a user name does not begin with {0:?}")]
    Begins(char),
    /// `NAME--…` are the client ids of the user `NAME`.
    #[error("a user name has no \"--\": NAME--… are client ids of the user NAME")]
    Dashes,
}

/// Checks that a text can be a user name.
///
/// # Errors
///
/// The first rule that it breaks.
pub fn check_user_name(name: &str) -> Result<(), UserNameError> {
    match name.chars().next() {
        None => return Err(UserNameError::Empty),
        Some(first @ ('#' | '$')) => return Err(UserNameError::Begins(first)),
        Some(_) => {}
    }
    if name.len() > MAX_USER_BYTES {
        Err(UserNameError::TooLong)
    } else if name.contains(':') {
        Err(UserNameError::Colon)
    } else if name.chars().any(char::is_control) {
        Err(UserNameError::Control)
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
    fn names_that_would_be_read_as_something_else_are_refused() {
        for name in ["ada", "Ada Lovelace", "é", "a-b", "a#b", "a@b.example", &"x".repeat(MAX_USER_BYTES)] {
            assert_eq!(check_user_name(name), Ok(()), "{name}");
        }
        for (name, error) in [
            ("", UserNameError::Empty),
            (&*"x".repeat(MAX_USER_BYTES + 1), UserNameError::TooLong),
            ("a:b", UserNameError::Colon),
            ("a\nb", UserNameError::Control),
            ("a\0", UserNameError::Control),
            ("#a", UserNameError::Begins('#')),
            ("$local", UserNameError::Begins('$')),
            ("ada--pi", UserNameError::Dashes),
        ] {
            assert_eq!(check_user_name(name), Err(error), "{name:?}");
        }
    }
}
