//! User records, with the fields that rules need.

use crate::client_ids::IdPattern;
use crate::user_name::{UserNameError, check_user_name};

/// User as known to the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    pub(crate) name: String,
    pub(crate) roles: Vec<String>,
    pub(crate) client_ids: Vec<IdPattern>,
    pub(crate) acts_for: Vec<String>,
}

impl UserRecord {
    /// Creates a user without roles that owns the client ids `NAME` and `NAME--*`.
    ///
    /// # Errors
    ///
    /// The text is not a valid user name.
    pub fn new(name: &str) -> Result<Self, UserNameError> {
        check_user_name(name)?;
        let client_ids = vec![IdPattern::exact(name), IdPattern::prefix(&format!("{name}--"))];
        Ok(Self { name: name.to_owned(), roles: Vec::new(), client_ids, acts_for: Vec::new() })
    }

    /// Adds roles to the user.
    #[must_use]
    pub fn roles(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.roles.extend(roles.into_iter().map(Into::into));
        self
    }

    /// Sets the client ids of the user, in place of `NAME` and `NAME--*`.
    #[must_use]
    pub fn client_ids(mut self, patterns: impl IntoIterator<Item = IdPattern>) -> Self {
        self.client_ids = patterns.into_iter().collect();
        self
    }

    /// Allows the user to publish on behalf of these users, as a gateway does; `*` stands for every user.
    #[must_use]
    pub fn acts_for(mut self, users: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.acts_for.extend(users.into_iter().map(Into::into));
        self
    }

    /// Returns the user's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}
