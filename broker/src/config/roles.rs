//! Syntax of roles in a configuration. Roles of a bus are defined outside the broker, which has no rules for buses
//! itself.

use rantai_access::{Effect, Rule, RuleAccess, RuleFilter, Source, Syntax};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A table of `[[roles]]` in a syntax of its own that is compiled to plain rules.
///
/// [`PlainRole`] has no syntax for buses; a program that needs one passes another type to
/// [`Config::load_with`](crate::Config::load_with).
pub trait RoleSyntax: DeserializeOwned {
    /// Roles of users without a `roles` key, and of clients that do not log in.
    const DEFAULT: &'static [&'static str];

    /// Returns the predefined roles.
    fn ready_made() -> Vec<Self>;

    /// Returns the name of the role.
    fn name(&self) -> &str;

    /// Returns the rules of the role below the root of a bus.
    ///
    /// # Errors
    ///
    /// An entry is invalid.
    fn rules(&self, root: &str) -> Result<Vec<Rule>, RoleMistake>;
}

/// Error in a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleMistake {
    /// Invalid entry, to be marked in the file; empty if the error is about the role as a whole.
    pub entry: String,
    /// Error, and what to write instead.
    pub message: String,
}

/// A role without bus syntax: it may do everything, or only what the ACL file allows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainRole {
    /// Name of the role.
    pub name: String,
    /// Whether the role may do everything.
    #[serde(default)]
    pub admin: bool,
}

impl RoleSyntax for PlainRole {
    const DEFAULT: &'static [&'static str] = &[];

    fn ready_made() -> Vec<Self> {
        vec![Self { name: "admin".to_owned(), admin: true }]
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn rules(&self, _root: &str) -> Result<Vec<Rule>, RoleMistake> {
        let everything = [
            (RuleAccess::ReadWrite, "#"),
            (RuleAccess::Read, "$share/+/#"),
            (RuleAccess::Read, "$SYS/#"),
            (RuleAccess::ReadWrite, "$CONTROL/#"),
        ];
        let allow = |(access, filter)| {
            let filter = RuleFilter::parse(filter, Syntax::Topic).expect("a filter");
            let source = Source::Role { role: self.name.as_str().into(), entry: "admin = true".into() };
            Rule::new(Effect::Allow, access, filter, source).expect("groups are only read")
        };
        Ok(everything.into_iter().filter(|_| self.admin).map(allow).collect())
    }
}
