//! Rules, and the places where they are defined.

use std::fmt;
use std::sync::Arc;

use crate::filter::RuleFilter;

/// Effect of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Allows the access.
    Allow,
    /// Denies the access, even if other rules of the same rank allow it.
    Deny,
}

/// Access that a rule allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAccess {
    /// Subscribing to topics and receiving their messages.
    Read,
    /// Publishing.
    Write,
    /// Reading and writing.
    ReadWrite,
    /// Publishing replies only: allowed if the broker holds a reply grant for a request that it delivered to the client.
    Reply,
}

/// Place where a rule is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Line of an ACL file.
    File {
        /// Name of the file, as given to the parser.
        file: Arc<str>,
        /// Number of the line, starting at 1.
        line: u32,
    },
    /// Entry of a role.
    Role {
        /// Name of the role.
        role: Arc<str>,
        /// Entry of the role that the rule is derived from, such as `call = "calculator.*"`.
        entry: Arc<str>,
    },
}

/// Rule that allows or denies access to the topics of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    effect: Effect,
    access: RuleAccess,
    filter: RuleFilter,
    source: Source,
}

/// Error of a filter about a shared group in a rule that only allows writing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{filter} is about a shared group, which is read and not written to; write `read` before it, or `deny`"
)]
pub struct RuleError {
    filter: String,
}

impl Rule {
    /// Creates a rule.
    ///
    /// # Errors
    ///
    /// The filter is about a shared group, and the access does not include reading.
    pub fn new(
        effect: Effect,
        access: RuleAccess,
        filter: RuleFilter,
        source: Source,
    ) -> Result<Self, RuleError> {
        let rule = Self { effect, access, filter, source };
        if rule.filter.is_shared() && !rule.is_about_reading() {
            return Err(RuleError { filter: rule.filter.to_string() });
        }
        Ok(rule)
    }

    /// Returns whether the rule allows or denies.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Returns the access that the rule allows or denies.
    pub fn access(&self) -> RuleAccess {
        self.access
    }

    /// Returns the filter of the topics that the rule applies to.
    pub fn filter(&self) -> &RuleFilter {
        &self.filter
    }

    /// Returns the place where the rule is defined.
    pub fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn is_about_reading(&self) -> bool {
        matches!(self.access, RuleAccess::Read | RuleAccess::ReadWrite)
    }

    pub(crate) fn is_about_writing(&self) -> bool {
        !matches!(self.access, RuleAccess::Read)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        let access = match self.access {
            RuleAccess::Read => "read",
            RuleAccess::Write => "write",
            RuleAccess::ReadWrite => "readwrite",
            RuleAccess::Reply => "reply",
        };
        write!(f, "{effect} {access} {}", self.filter)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Role { role, entry } => write!(f, "role {role}, {entry}"),
        }
    }
}
