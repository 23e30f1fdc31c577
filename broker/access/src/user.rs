//! User records, as far as rules care.

use crate::client_ids::IdPattern;

/// What the rules know about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    pub(crate) name: String,
    pub(crate) roles: Vec<String>,
    pub(crate) client_ids: Vec<IdPattern>,
    pub(crate) acts_for: Vec<String>,
}

/// Why a text is no user name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no user name: {problem}; user names have 1 to 64 characters, none of them / + # or a control character, and \
     no `--`, which stands between a user and the rest of a client id"
)]
pub struct UserError {
    name: String,
    problem: &'static str,
}

impl UserRecord {
    /// A user without roles, to whom the client ids `NAME` and `NAME--*` belong.
    ///
    /// # Errors
    ///
    /// A text that is no user name.
    pub fn new(name: &str) -> Result<Self, UserError> {
        let problem = if name.is_empty() {
            Some("it is empty")
        } else if name.chars().count() > 64 {
            Some("it is too long")
        } else if name.contains(['/', '+', '#']) {
            Some("a / + or # would reach other topics where rules name the user")
        } else if name.contains(char::is_control) {
            Some("it has a control character")
        } else if name.contains("--") {
            Some("it has `--` in it")
        } else if name.trim() != name {
            Some("it begins or ends with a space")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(UserError { name: name.to_owned(), problem });
        }
        let client_ids = vec![IdPattern::exact(name), IdPattern::prefix(&format!("{name}--"))];
        Ok(Self { name: name.to_owned(), roles: Vec::new(), client_ids, acts_for: Vec::new() })
    }

    /// Gives the user roles, besides those that it has.
    #[must_use]
    pub fn roles(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.roles.extend(roles.into_iter().map(Into::into));
        self
    }

    /// Gives the user these client ids instead of `NAME` and `NAME--*`.
    #[must_use]
    pub fn client_ids(mut self, patterns: impl IntoIterator<Item = IdPattern>) -> Self {
        self.client_ids = patterns.into_iter().collect();
        self
    }

    /// Lets the user publish for these users, as a gateway does; `*` stands for every user.
    #[must_use]
    pub fn acts_for(mut self, users: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.acts_for.extend(users.into_iter().map(Into::into));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_cannot_reach_other_levels_or_other_users_client_ids() {
        for good in ["ada", "Ada Lovelace", "ada-1", "grâce", "pi.east"] {
            assert!(UserRecord::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", "a/b", "+", "a#", "ada--1", "a\n", " a", &long] {
            let error = UserRecord::new(bad).expect_err(bad).to_string();
            assert!(error.contains("is no user name: "), "{error}");
        }
    }
}
