//! Users, as authenticated by a broker.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Maximum length of a user name, in bytes.
pub const MAX_USER_BYTES: usize = 256;

/// Name of a user, as authenticated by the broker: 1 to 256 bytes without control characters. Cheap to clone.
///
/// A client id is never a user, even if the texts are equal: a client that has not logged in chooses its own id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct User(Arc<str>);

/// Error of parsing a user name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no user name: 1 to {MAX_USER_BYTES} bytes without control characters")]
pub struct UserError {
    text: String,
}

impl User {
    /// Checks the name.
    ///
    /// # Errors
    ///
    /// The name is empty, too long, or contains a control character.
    pub fn new(text: &str) -> Result<Self, UserError> {
        let valid = (1..=MAX_USER_BYTES).contains(&text.len()) && !text.contains(char::is_control);
        if valid { Ok(Self(text.into())) } else { Err(UserError { text: text.to_owned() }) }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for User {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        Self::new(text)
    }
}

impl TryFrom<String> for User {
    type Error = UserError;

    fn try_from(text: String) -> Result<Self, UserError> {
        Self::new(&text)
    }
}

impl From<User> for String {
    fn from(user: User) -> Self {
        user.as_str().to_owned()
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_checked_and_keep_their_text_in_json() {
        for good in ["ada", "Ada Lovelace", "é", "a@b.example", &"x".repeat(MAX_USER_BYTES)] {
            let user = User::new(good).expect(good);
            assert_eq!(user.as_str(), good);
            let json = serde_json::to_string(&user).expect("JSON");
            assert_eq!(serde_json::from_str::<User>(&json).expect("a user"), user);
        }
        for bad in ["", "a\nb", "a\0", "\u{7f}", &"x".repeat(MAX_USER_BYTES + 1)] {
            assert!(User::new(bad).is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<User>("\"\"").is_err());
    }
}
