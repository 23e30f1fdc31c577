//! The table of all rules.

use std::collections::HashMap;

use crate::builder::TableBuilder;
use crate::client_ids::{ClientIdError, ClientIds, IdPattern};
use crate::index::Index;
use crate::rule::Rule;
use crate::rule_set::RuleSet;
use crate::who::Who;

/// Who may do what. Made by a [`TableBuilder`], and then only read.
#[derive(Clone, Debug)]
pub struct Table {
    pub(crate) generation: u64,
    pub(crate) roles: Vec<Role>,
    pub(crate) users: HashMap<Box<str>, Holder>,
    pub(crate) nobody: Holder,
    pub(crate) everyone: RuleSet,
    pub(crate) reserved_groups: ReservedGroups,
    pub(crate) client_ids: ClientIds,
}

/// A table is equal to its copies only: others may decide otherwise, and have another generation.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.generation == other.generation
    }
}

impl Eq for Table {}

/// A role and its rules.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) name: Box<str>,
    pub(crate) rules: RuleSet,
}

/// What a user, or whoever did not log in, holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holder {
    pub(crate) own: RuleSet,
    /// Positions in the table's roles.
    pub(crate) roles: Vec<usize>,
    /// Users for whom it may publish; `*` stands for all.
    pub(crate) acts_for: Vec<Box<str>>,
}

/// Groups that a rule names: others join them only by a rule of their own that names them too.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReservedGroups {
    pub(crate) index: Index<u32>,
    pub(crate) rules: Vec<Rule>,
}

impl Table {
    /// An empty builder.
    pub fn builder() -> TableBuilder {
        TableBuilder::default()
    }

    /// A number that is higher for every table made later in this process. A decision that was kept holds for as long
    /// as the table in use has the generation that it was made with.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The user to whom a client id belongs, whether it is connected or not.
    pub fn reserved_for(&self, client_id: &str) -> Option<&str> {
        self.client_ids.owner(client_id)
    }

    /// Whether a client may connect with its client id.
    ///
    /// # Errors
    ///
    /// The client id belongs to another user, or users may take only their own.
    pub fn check_client_id(&self, who: &Who<'_>) -> Result<(), ClientIdError> {
        self.client_ids.check(who)
    }

    /// The client ids that belong to a user.
    pub fn client_ids_of(&self, user: &str) -> &[IdPattern] {
        self.client_ids.of_user(user)
    }

    /// Whether a user may publish for another one.
    pub fn may_act_for(&self, user: &str, other: &str) -> bool {
        let named = |holder: &Holder| holder.acts_for.iter().any(|name| **name == *other || **name == *"*");
        self.users.get(user).is_some_and(named)
    }

    /// The names of a client's roles.
    pub fn roles_of(&self, who: &Who<'_>) -> impl Iterator<Item = &str> {
        let roles = self.holder(who).map_or(&[][..], |holder| &holder.roles);
        roles.iter().map(|role| &*self.roles[*role].name)
    }

    pub(crate) fn holder(&self, who: &Who<'_>) -> Option<&Holder> {
        match who.user {
            Some(user) => self.users.get(user),
            None => Some(&self.nobody),
        }
    }

    /// The rule sets that decide for a client, in two ranks: what the first says holds, and the second is asked about
    /// what the first says nothing about.
    pub(crate) fn ranks(&self, who: &Who<'_>) -> [Vec<&RuleSet>; 2] {
        let own = self.holder(who).map_or_else(Vec::new, |holder| {
            let roles = holder.roles.iter().map(|role| &self.roles[*role].rules);
            std::iter::once(&holder.own).chain(roles).collect()
        });
        // As in mosquitto, the rules for everyone are not for who has a wildcard in its name.
        let fits = |name: &str| !name.contains(['+', '#']);
        let fits = fits(who.client_id) && who.user.is_none_or(fits);
        [own, if fits { vec![&self.everyone] } else { Vec::new() }]
    }
}
