//! Table of all rules.

use std::collections::HashMap;

use crate::builder::TableBuilder;
use crate::client_ids::{ClientIdError, ClientIds, IdPattern};
use crate::index::Index;
use crate::rule::Rule;
use crate::rule_set::RuleSet;
use crate::who::Who;

/// Permissions of all clients. Built by a [`TableBuilder`], and immutable from then on.
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

/// A table equals only its own copies: each other table has another generation, and may decide differently.
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

/// Rules and roles of a user, or of clients that do not log in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holder {
    pub(crate) own: RuleSet,
    /// Indices into the table's roles.
    pub(crate) roles: Vec<usize>,
    /// Users on whose behalf the holder may publish; `*` stands for all.
    pub(crate) acts_for: Vec<Box<str>>,
}

/// Shared groups that a rule names: a client may join them only by a rule of its own that names them too.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReservedGroups {
    pub(crate) index: Index<u32>,
    pub(crate) rules: Vec<Rule>,
}

impl Table {
    /// Returns an empty builder.
    pub fn builder() -> TableBuilder {
        TableBuilder::default()
    }

    /// Returns the generation: a number that is higher for each table built later in this process. A cached decision is
    /// valid as long as the current table has the generation that the decision was made with.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the user that owns a client id, whether that user is connected or not.
    pub fn reserved_for(&self, client_id: &str) -> Option<&str> {
        self.client_ids.owner(client_id)
    }

    /// Checks whether a client may connect with its client id.
    ///
    /// # Errors
    ///
    /// The client id belongs to another user, or users may use only their own client ids.
    pub fn check_client_id(&self, who: &Who<'_>) -> Result<(), ClientIdError> {
        self.client_ids.check(who)
    }

    /// Returns the client ids that a user owns.
    pub fn client_ids_of(&self, user: &str) -> &[IdPattern] {
        self.client_ids.of_user(user)
    }

    /// Returns whether `user` may publish on behalf of `other`.
    pub fn may_act_for(&self, user: &str, other: &str) -> bool {
        let named = |holder: &Holder| holder.acts_for.iter().any(|name| **name == *other || **name == *"*");
        self.users.get(user).is_some_and(named)
    }

    /// Returns the names of a client's roles.
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

    /// Returns the rule sets that apply to a client, in two ranks: the second rank decides only if the first has no rule
    /// for the action.
    pub(crate) fn ranks(&self, who: &Who<'_>) -> [Vec<&RuleSet>; 2] {
        let own = self.holder(who).map_or_else(Vec::new, |holder| {
            let roles = holder.roles.iter().map(|role| &self.roles[*role].rules);
            std::iter::once(&holder.own).chain(roles).collect()
        });
        // As in mosquitto, the rules for everyone do not apply to a client with a wildcard in its client id or user name.
        let fits = |name: &str| !name.contains(['+', '#']);
        let fits = fits(who.client_id) && who.user.is_none_or(fits);
        [own, if fits { vec![&self.everyone] } else { Vec::new() }]
    }
}
