//! Builder of tables.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::client_ids::{ClientIds, IdConflict};
use crate::level::Level;
use crate::mosquitto::{AclFile, Subject};
use crate::rule::{Effect, Rule};
use crate::rule_set::RuleSet;
use crate::table::{Holder, ReservedGroups, Role, Table};
use crate::user::UserRecord;

/// Generation of the most recently built table.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Builder of a [`Table`] from users, roles and rules.
#[derive(Clone, Debug, Default)]
pub struct TableBuilder {
    users: Vec<UserRecord>,
    nobody_roles: Vec<String>,
    roles: Vec<(String, Vec<Rule>)>,
    rules: Vec<(Subject, Rule)>,
    hardened: bool,
}

/// Error of building a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A user record names a role that does not exist.
    #[error("{holder} has the role {role:?}, which does not exist; known roles are {known}")]
    UnknownRole {
        /// Holder of the role: `user ada`, or clients that do not log in.
        holder: String,
        /// Name of the role.
        role: String,
        /// Names of the roles that exist.
        known: String,
    },
    /// Two user records have the same name.
    #[error("there are two users {0:?}; remove one")]
    TwoUsers(String),
    /// Two roles have the same name.
    #[error("there are two roles {0:?}; rename one")]
    TwoRoles(String),
    /// Two users own the same client id.
    #[error(transparent)]
    ClientIds(#[from] IdConflict),
}

impl TableBuilder {
    /// Adds a user.
    #[must_use]
    pub fn user(mut self, user: UserRecord) -> Self {
        self.users.push(user);
        self
    }

    /// Adds a role with its rules.
    #[must_use]
    pub fn role(mut self, name: &str, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.roles.push((name.to_owned(), rules.into_iter().collect()));
        self
    }

    /// Adds roles to clients that do not log in.
    #[must_use]
    pub fn nobody_roles(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.nobody_roles.extend(roles.into_iter().map(Into::into));
        self
    }

    /// Adds a rule.
    #[must_use]
    pub fn rule(mut self, subject: Subject, rule: Rule) -> Self {
        self.rules.push((subject, rule));
        self
    }

    /// Adds the rules of an ACL file.
    #[must_use]
    pub fn file(mut self, file: AclFile) -> Self {
        self.rules.extend(file.rules);
        self
    }

    /// Sets whether users may connect only with client ids that they own. Default: false.
    #[must_use]
    pub fn hardened(mut self, hardened: bool) -> Self {
        self.hardened = hardened;
        self
    }

    /// Builds the table.
    ///
    /// # Errors
    ///
    /// Two users or two roles have the same name, a role does not exist, or a client id belongs to two users.
    pub fn build(self) -> Result<Table, TableError> {
        let client_ids = ClientIds::new(&self.users, self.hardened)?;
        let mut positions = HashMap::new();
        for (position, (name, _)) in self.roles.iter().enumerate() {
            if positions.insert(name.as_str(), position).is_some() {
                return Err(TableError::TwoRoles(name.clone()));
            }
        }
        let holder = |name: &str, roles: &[String]| -> Result<Holder, TableError> {
            let position = |role: &String| {
                positions.get(role.as_str()).copied().ok_or_else(|| TableError::UnknownRole {
                    holder: name.to_owned(),
                    role: role.clone(),
                    known: self.roles.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
                })
            };
            let roles = roles.iter().map(position).collect::<Result<_, _>>()?;
            Ok(Holder { own: RuleSet::default(), roles, acts_for: Vec::new() })
        };
        let mut nobody = holder("a client without a user", &self.nobody_roles)?;
        let mut users: HashMap<Box<str>, Holder> = HashMap::new();
        for user in &self.users {
            let mut record = holder(&format!("user {}", user.name), &user.roles)?;
            record.acts_for = user.acts_for.iter().map(|name| name.as_str().into()).collect();
            if users.insert(user.name.as_str().into(), record).is_some() {
                return Err(TableError::TwoUsers(user.name.clone()));
            }
        }
        let all =
            self.roles.iter().flat_map(|(_, rules)| rules).chain(self.rules.iter().map(|(_, rule)| rule));
        let reserved_groups = ReservedGroups::new(all);
        let mut everyone = RuleSet::default();
        for (subject, rule) in self.rules {
            match subject {
                Subject::User(name) => users.entry(name.into()).or_default().own.push(rule),
                Subject::Nobody => nobody.own.push(rule),
                Subject::Everyone => everyone.push(rule),
            }
        }
        let roles = self.roles.into_iter().map(|(name, rules)| {
            let mut set = RuleSet::default();
            for rule in rules {
                set.push(rule);
            }
            Role { name: name.into(), rules: set }
        });
        Ok(Table {
            generation: GENERATION.fetch_add(1, Ordering::Relaxed) + 1,
            roles: roles.collect(),
            users,
            nobody,
            everyone,
            reserved_groups,
            client_ids,
        })
    }
}

impl ReservedGroups {
    fn new<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut groups = Self::default();
        for rule in rules {
            // A rule for every group (`+`) does not reserve any.
            let names_group = rule.filter().group.as_ref().is_some_and(|group| *group != Level::Any);
            if names_group && rule.effect() == Effect::Allow {
                let number = u32::try_from(groups.rules.len()).expect("fewer than 2^32 rules");
                groups.index.insert_shared(&rule.filter().for_anybody(), number);
                groups.rules.push(rule.clone());
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_names_its_cause() {
        let user = |name: &str| UserRecord::new(name).expect("a user name");
        let error = |builder: TableBuilder| builder.build().expect_err("a mistake").to_string();
        let table = Table::builder().role("caller", []).role("node", []);
        assert_eq!(
            error(table.clone().user(user("ada").roles(["caler"]))),
            "user ada has the role \"caler\", which does not exist; known roles are caller, node"
        );
        assert!(error(table.clone().nobody_roles(["x"])).starts_with("a client without a user has the role"));
        assert_eq!(
            error(table.clone().user(user("a")).user(user("a"))),
            "there are two users \"a\"; remove one"
        );
        assert_eq!(error(table.role("node", [])), "there are two roles \"node\"; rename one");
    }

    #[test]
    fn later_tables_have_higher_generations() {
        let table = || Table::builder().build().expect("a table").generation();
        assert!(table() < table());
    }
}
