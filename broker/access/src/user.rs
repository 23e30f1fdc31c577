//! User records, as far as rules care.

use crate::client_ids::IdPattern;
use crate::user_name::{UserNameError, check_user_name};

/// What the rules know about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    pub(crate) name: String,
    pub(crate) roles: Vec<String>,
    pub(crate) client_ids: Vec<IdPattern>,
    pub(crate) acts_for: Vec<String>,
}

impl UserRecord {
    /// A user without roles, to whom the client ids `NAME` and `NAME--*` belong.
    ///
    /// # Errors
    ///
    /// A text that is no user name.
    pub fn new(name: &str) -> Result<Self, UserNameError> {
        check_user_name(name)?;
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
