//! A rule, and where it was written.

use std::fmt;
use std::sync::Arc;

use crate::filter::RuleFilter;

/// Whether a rule gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Allows what it is about.
    Allow,
    /// Refuses what it is about, whatever other rules of the same rank allow.
    Deny,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAccess {
    /// Subscribing and being sent messages.
    Read,
    /// Publishing.
    Write,
    /// Both.
    ReadWrite,
    /// Publishing, but only what the broker has a reply grant for: an answer to a request that it delivered.
    Reply,
}

/// Where a rule was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In an ACL file.
    File {
        /// The file, as it was named.
        file: Arc<str>,
        /// The line, from 1 on.
        line: u32,
    },
    /// In a role.
    Role {
        /// The role.
        role: Arc<str>,
        /// What of the role it follows from, such as `call = "calculator.*"`.
        entry: Arc<str>,
    },
}

/// Allows or denies reading or writing the topics of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    effect: Effect,
    access: RuleAccess,
    filter: RuleFilter,
    source: Source,
}

/// Why these parts are no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{filter} is about a shared group, which is read and not written to; write `read` before it, or `deny`"
)]
pub struct RuleError {
    filter: String,
}

impl Rule {
    /// A rule.
    ///
    /// # Errors
    ///
    /// A rule that allows only writing, with a filter about a shared group.
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

    /// Whether it allows or denies.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// What it is about.
    pub fn access(&self) -> RuleAccess {
        self.access
    }

    /// Which topics it is about.
    pub fn filter(&self) -> &RuleFilter {
        &self.filter
    }

    /// Where it was written.
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
