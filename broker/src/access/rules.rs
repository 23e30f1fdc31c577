//! Users and access rules of one configuration.

use std::collections::HashSet;
use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::HashMap;
use rantai_access::{self as access, Outcome, Table, Who};

use super::{Action, Allowed, Denial, Principal};
use crate::config::{ClientCertificates, Config};
use crate::control;
use crate::peer::Identity;
use crate::topic::{is_bridge_state, is_state_of_bridge};

/// Users who may log in, and their rights.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub(super) struct Rules {
    anonymous: bool,
    /// Whether clients without a user name are admitted by at least one listener.
    anonymous_somewhere: bool,
    /// Whether at least one listener accepts client certificates.
    certified_somewhere: bool,
    users: HashMap<ByteString, Arc<Principal>>,
    /// Table of rules; `None` if everything is allowed.
    table: Option<Arc<Table>>,
    hardened: bool,
}

impl Rules {
    pub(super) fn of(config: &Config) -> Self {
        let users = config.users.iter().map(|user| {
            let name = ByteString::from(&*user.name);
            (name.clone(), Arc::new(Principal::of_user(name)))
        });
        let at_listener = config.listeners.iter().any(|listener| listener.anonymous == Some(true));
        Self {
            anonymous: config.anonymous,
            anonymous_somewhere: config.anonymous || at_listener,
            certified_somewhere: config.listeners.iter().any(|listener| {
                let tls = listener.tls.as_ref();
                tls.is_some_and(|tls| tls.client_certificates != ClientCertificates::None)
            }),
            users: users.collect(),
            table: config.access.clone(),
            hardened: config.hardened,
        }
    }

    pub(super) fn user_names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(|name| &**name)
    }

    /// Returns a kind of protection that is in effect and that a configuration lacks entirely; `None` if it lacks none.
    pub(super) fn lost_with(&self, config: &Config) -> Option<&'static str> {
        match () {
            () if self.has_users() && config.users.is_empty() => Some("users"),
            () if self.table.is_some() && config.access.is_none() => Some("access rules"),
            () if self.hardened && !config.hardened => Some("`hardened`"),
            () => None,
        }
    }

    /// Keeps the principals of users whose passwords have not changed, because clients that logged in earlier are
    /// recognized by the identity of their principal.
    pub(super) fn keep_logins(&mut self, earlier: &Self, changed: &HashSet<String>) {
        for (name, principal) in &mut self.users {
            if let Some(same) = earlier.users.get(name)
                && !changed.contains(&**name)
            {
                principal.clone_from(same);
            }
        }
    }

    /// Checks whether a principal is the current one of its user.
    pub(super) fn is_logged_in(&self, principal: &Arc<Principal>) -> bool {
        let current = principal.checked_user().and_then(|user| self.users.get(user));
        self.knows(principal) && current.is_none_or(|current| Arc::ptr_eq(current, principal))
    }

    pub(super) fn anonymous(&self) -> bool {
        self.anonymous
    }

    pub(super) fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    pub(super) fn table(&self) -> Option<&Table> {
        self.table.as_deref()
    }

    /// Returns the generation of the table; never 0 if there is one.
    pub(super) fn generation(&self) -> u64 {
        self.table().map_or(0, Table::generation)
    }

    pub(super) fn user(&self, name: &str) -> Option<Arc<Principal>> {
        self.users.get(name).cloned()
    }

    pub(super) fn knows(&self, principal: &Principal) -> bool {
        match &principal.user {
            Some(_) if principal.claimed => self.users.is_empty() && self.anonymous && self.table.is_none(),
            // Client certificates name users even if none are configured.
            Some(user) => self.users.contains_key(user) || self.users.is_empty() && self.certified_somewhere,
            None => principal.local || self.anonymous_somewhere,
        }
    }

    pub(super) fn authorize(
        &self,
        Identity { principal, client_id }: Identity<'_>,
        action: Action,
        topic: &str,
    ) -> Result<Allowed, Denial> {
        if action == Action::Publish && is_own_topic(topic) {
            return Err(Denial::not_authorized("topics that begin with $ are the broker's own"));
        }
        if principal.local {
            return Ok(Allowed::Yes);
        }
        let Some(table) = self.table() else {
            if action == Action::Publish && control::is_command(topic) {
                let text =
                    "commands are for users with the role admin, and there are no users; send SIGHUP instead";
                return Err(Denial::not_authorized(text));
            }
            return Ok(Allowed::Yes);
        };
        if let Some(user) = principal.checked_user()
            && !self.knows(principal)
        {
            let text =
                format!("refused: the broker has no user {user}; add one to its users or password file");
            return Err(Denial::not_authorized(&text));
        }
        // A bridge needs its will, which no rule of a bus covers.
        if action == Action::Publish && is_state_of_bridge(topic, client_id) {
            return Ok(Allowed::Yes);
        }
        let who = Who { user: principal.checked_user(), client_id };
        decide(table, &who, action, topic)
    }
}

impl Rules {
    pub(super) fn authorize_administration(&self, client: Identity<'_>) -> Result<(), Denial> {
        let Some(table) = self.table() else { return Ok(()) };
        let Identity { principal, client_id } = client;
        let who = Who { user: principal.checked_user(), client_id };
        let asked = access::Action::Publish(control::ADMINISTRATION);
        if self.knows(principal) && table.decide(&who, asked).outcome == Outcome::Allowed {
            return Ok(());
        }
        Err(Denial::not_authorized(
            "only users with the role admin may administer the broker; log in as one, or give this user roles = [\"admin\"]",
        ))
    }
}

/// Returns whether no client may publish to a topic, whatever the rules say: topics that begin with `$` belong to the
/// broker (MQTT 5, 4.7.2), except for the states of bridges, and commands.
pub fn is_own_topic(topic: &str) -> bool {
    topic.starts_with('$') && !is_bridge_state(topic) && !control::is_command(topic)
}

fn decide(table: &Table, who: &Who<'_>, action: Action, topic: &str) -> Result<Allowed, Denial> {
    let asked = match action {
        Action::Publish => access::Action::Publish(topic),
        Action::Subscribe => access::Action::Subscribe(topic),
        Action::Receive | Action::ReplyTo => access::Action::Deliver(topic),
    };
    match table.decide(who, asked).outcome {
        Outcome::Allowed => Ok(Allowed::Yes),
        Outcome::AtDelivery => Ok(Allowed::AtDelivery),
        Outcome::WithReplyGrant => Ok(Allowed::WithReplyGrant),
        // A client that may reply on a topic may also pass on a request whose Response Topic it is.
        Outcome::Refused(_)
            if action == Action::ReplyTo
                && !matches!(
                    table.decide(who, access::Action::Publish(topic)).outcome,
                    Outcome::Refused(_)
                ) =>
        {
            Ok(Allowed::WithReplyGrant)
        }
        Outcome::Refused(_) => {
            let what_to_do = match action {
                Action::ReplyTo => {
                    "; ask for the reply on a topic that you may read, such as ROOT/reply/OBJECT/ and your client id"
                }
                _ => "; `rantai acl test` tries rules",
            };
            Err(Denial::not_authorized(&(table.explain(who, asked) + what_to_do)))
        }
    }
}
