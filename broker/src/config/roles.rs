//! How roles in a configuration become rules: in the words of a bus, which the broker does not know.

use rantai_access::{Effect, Rule, RuleAccess, RuleFilter, Source, Syntax};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A table of `[[roles]]`, in words of its own, that becomes plain rules.
///
/// [`PlainRole`] knows no bus; a program that does gives [`Config::load_with`](crate::Config::load_with) another one.
pub trait RoleSyntax: DeserializeOwned {
    /// The roles of users that are given none, and of clients that do not log in.
    const DEFAULT: &'static [&'static str];

    /// The roles that are there without being written.
    fn ready_made() -> Vec<Self>;

    /// Its name.
    fn name(&self) -> &str;

    /// What it allows below the root of a bus.
    ///
    /// # Errors
    ///
    /// An entry that means nothing.
    fn rules(&self, root: &str) -> Result<Vec<Rule>, RoleMistake>;
}

/// What is wrong with a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleMistake {
    /// The entry, to be marked in the file; empty for the role as a whole.
    pub entry: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// A role where no bus is known: everything, or what the ACL file says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainRole {
    /// Its name.
    pub name: String,
    /// Whether it may do everything.
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
