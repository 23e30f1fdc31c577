//! Access control: users, and what they may do.

mod decisions;
mod denial;
mod principal;
mod rules;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytestring::ByteString;
use constant_time_eq::constant_time_eq;
use hashbrown::HashSet;
use parking_lot::{Mutex, RwLock};
use rantai_access::Who;

use crate::bus::group_filter;
use crate::codec::{Connect, Reason};
use crate::config::Config;
use crate::message::Message;
use crate::peer::Identity;
use crate::random::Random;
use rules::Rules;

pub use rules::is_own_topic;

pub(crate) use decisions::Decisions;
pub(crate) use denial::{Allowed, Denial};
pub(crate) use principal::{Action, LOCAL_USER, Principal};

/// User name and password for connections that the broker's own process makes to it. Drawn at random when the broker
/// starts, and kept only in this process's memory. See [`Broker::local_credentials`](crate::Broker::local_credentials).
#[derive(Clone, PartialEq, Eq)]
pub struct LocalCredentials {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for LocalCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Users and their rights.
#[derive(Debug)]
pub(crate) struct Access {
    /// Rules of the last configuration read; replaced as a whole.
    rules: RwLock<Arc<Rules>>,
    /// Generation of the table in `rules`; 0 if there is none, and everything is allowed.
    generation: AtomicU64,
    nobody: Arc<Principal>,
    local_process: Arc<Principal>,
    local_password: String,
    /// Shared filters by which the object that administers the broker receives requests.
    own_groups: Vec<String>,
    /// Client ids of connections that have logged in with the local credentials.
    local_ids: Mutex<HashSet<ByteString>>,
}

impl Access {
    pub(crate) fn new(config: &Config, random: &Random) -> Self {
        let rules = Rules::of(config);
        Self {
            generation: AtomicU64::new(rules.generation()),
            rules: RwLock::new(Arc::new(rules)),
            nobody: Arc::default(),
            local_process: Arc::new(Principal { local: true, ..Principal::default() }),
            // 244 random bits.
            local_password: random.id() + &random.id(),
            own_groups: config
                .administrative_object
                .iter()
                .flat_map(|object| groups(config, object))
                .collect(),
            local_ids: Mutex::default(),
        }
    }

    pub(crate) fn local_credentials(&self) -> LocalCredentials {
        LocalCredentials { user: LOCAL_USER.to_owned(), password: self.local_password.clone() }
    }

    /// Replaces users and rules with those of another configuration. `changed` names the users whose passwords have
    /// changed.
    pub(crate) fn replace(&self, config: &Config, changed: &std::collections::HashSet<String>) {
        let mut rules = Rules::of(config);
        let mut now = self.rules.write();
        rules.keep_logins(&now, changed);
        let rules = Arc::new(rules);
        self.generation.store(rules.generation(), Ordering::Release);
        *now = rules;
    }

    /// Returns a number that changes whenever rules are replaced; 0 if there are none, and everything is allowed. A
    /// cached decision is valid as long as this number does not change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Checks whether user names are verified: without users any name is accepted as it is.
    pub(crate) fn has_users(&self) -> bool {
        self.rules.read().has_users()
    }

    /// Returns the number of users who may log in.
    pub(crate) fn user_count(&self) -> usize {
        self.rules.read().user_names().count()
    }

    /// Returns the users that another configuration adds, and those that it removes, sorted.
    pub(crate) fn user_changes(&self, config: &Config) -> (BTreeSet<String>, BTreeSet<String>) {
        let rules = self.rules.read();
        let known: HashSet<&str> = rules.user_names().collect();
        let names: HashSet<&str> = config.users.iter().map(|user| &*user.name).collect();
        let sorted = |one: &HashSet<&str>, other: &HashSet<&str>| {
            one.difference(other).map(|name| (*name).to_owned()).collect::<BTreeSet<_>>()
        };
        (sorted(&names, &known), sorted(&known, &names))
    }

    /// Returns the protection, in the words of the configuration file, that this broker has now and would lose with
    /// another configuration.
    pub(crate) fn lost_with(&self, config: &Config) -> Option<&'static str> {
        self.rules.read().lost_with(config)
    }

    /// Checks whether a client may use this client id. The id of a connection from the broker's own process is reserved
    /// for that process from then on, connected or not.
    ///
    /// # Errors
    ///
    /// The id belongs to the broker's own process or to another user.
    pub(crate) fn claim_id(&self, client_id: &ByteString, principal: &Principal) -> Result<(), Denial> {
        let mut ids = self.local_ids.lock();
        if principal.local {
            ids.insert(client_id.clone());
            return Ok(());
        }
        if ids.contains(client_id) {
            return Err(Denial::client_id(
                "the client id belongs to a connection of the broker's own process",
            ));
        }
        drop(ids);
        self.check_client_id(client_id, principal)
    }

    /// Checks whether the current rules reserve a client id for another user.
    ///
    /// # Errors
    ///
    /// The id belongs to another user.
    pub(crate) fn check_client_id(&self, client_id: &str, principal: &Principal) -> Result<(), Denial> {
        let rules = self.rules.read().clone();
        let Some(table) = rules.table().filter(|_| !principal.local) else { return Ok(()) };
        let who = Who { user: principal.checked_user(), client_id };
        table.check_client_id(&who).map_err(|error| Denial::client_id(&error.to_string()))
    }

    /// Decides whether a client may perform an action on a topic or filter. All such decisions are made here.
    ///
    /// # Errors
    ///
    /// The refusal for the client.
    pub(crate) fn authorize(
        &self,
        client: Identity<'_>,
        action: Action,
        topic: &str,
    ) -> Result<Allowed, Denial> {
        if action == Action::Subscribe
            && !client.principal.local
            && self.own_groups.iter().any(|group| group == topic)
        {
            return Err(Denial::not_authorized("the broker itself serves that object"));
        }
        let rules = self.rules.read().clone();
        rules.authorize(client, action, topic)
    }

    /// Checks whether the rules allow a client to administer the broker; without rules they do.
    ///
    /// # Errors
    ///
    /// The refusal for the client.
    pub(crate) fn authorize_administration(&self, client: Identity<'_>) -> Result<(), Denial> {
        let rules = self.rules.read().clone();
        rules.authorize_administration(client)
    }

    /// Checks whether a message may be published as the will of a client: at CONNECT, and again whenever the rules have
    /// changed.
    ///
    /// # Errors
    ///
    /// The refusal for the client.
    pub(crate) fn authorize_will(&self, client: Identity<'_>, will: &Message) -> Result<(), Denial> {
        if !self.knows(client.principal) {
            return Err(Denial::not_authorized(
                "only users are let in; connect with a user name and password",
            ));
        }
        // A reply grant belongs to a client that receives a request while it is connected, so a will can neither reply
        // nor pass a request on.
        let allowed = |action, topic: &str| match self.authorize(client, action, topic)? {
            Allowed::WithReplyGrant => {
                Err(Denial::not_authorized("a will neither replies nor passes requests on"))
            }
            _ => Ok(()),
        };
        allowed(Action::Publish, &will.topic)?;
        will.properties.response_topic.as_ref().map_or(Ok(()), |topic| allowed(Action::ReplyTo, topic))
    }

    /// Checks whether a client that was admitted earlier would still be admitted.
    ///
    /// # Errors
    ///
    /// Its user was removed or has another password, or the current rules deny its client id or its will.
    pub(crate) fn is_let_in(&self, connect: &Connect, principal: &Arc<Principal>) -> Result<(), Denial> {
        if !self.is_logged_in(principal) {
            return Err(Reason::BAD_USER_NAME_OR_PASSWORD.into());
        }
        self.check_client_id(&connect.client_id, principal)?;
        let will = connect.will.as_ref();
        let client = Identity { principal, client_id: &connect.client_id };
        will.map_or(Ok(()), |will| self.authorize_will(client, &will.message))
    }

    /// Checks whether a client may send messages on behalf of another user. The broker's own process acts for everyone.
    pub(crate) fn may_act_for(&self, principal: &Principal, user: &str) -> bool {
        let named = |name: &ByteString| {
            let rules = self.rules.read().clone();
            rules.table().is_some_and(|table| table.may_act_for(name, user))
        };
        principal.local || principal.caller().is_some_and(named)
    }

    /// Returns whether a principal could connect now: its user may have been removed since its session began.
    pub(crate) fn knows(&self, principal: &Principal) -> bool {
        self.rules.read().knows(principal)
    }

    /// Returns whether a client that logged in as this principal could still log in with the same password.
    pub(crate) fn is_logged_in(&self, principal: &Arc<Principal>) -> bool {
        self.rules.read().is_logged_in(principal)
    }

    /// Returns whether a client may take over or resume the session that another connection with its client id has
    /// left. Without rules, user names are not verified, and only the broker's own process is distinguished from
    /// others.
    pub(crate) fn owns(&self, principal: &Principal, owner: &Principal) -> bool {
        principal == owner || principal.local == owner.local && self.generation() == 0
    }

    /// Returns the principal of a client without a user name, if such clients are admitted: in general, or by the
    /// setting of the listener.
    pub(crate) fn anonymous(&self, at_listener: Option<bool>) -> Option<Arc<Principal>> {
        let let_in = at_listener.unwrap_or_else(|| self.rules.read().anonymous());
        let_in.then(|| self.nobody.clone())
    }

    /// Returns the principal of a user.
    pub(crate) fn user(&self, name: &str) -> Option<Arc<Principal>> {
        self.rules.read().user(name)
    }

    /// Returns the principal of a user name and password that need no password record: those of the broker's own
    /// process, and, without users, any name (or the anonymous principal if there are rules). `None` if the password
    /// has to be checked against a record.
    pub(crate) fn without_record(
        &self,
        name: &ByteString,
        password: &[u8],
    ) -> Option<Result<Arc<Principal>, Reason>> {
        if name == LOCAL_USER {
            let right = constant_time_eq(self.local_password.as_bytes(), password);
            let local = self.local_process.clone();
            return Some(if right { Ok(local) } else { Err(Reason::BAD_USER_NAME_OR_PASSWORD) });
        }
        let rules = self.rules.read();
        if rules.has_users() || !rules.anonymous() {
            return None;
        }
        Some(Ok(match rules.table() {
            Some(_) => self.nobody.clone(),
            None => Arc::new(Principal { claimed: true, ..Principal::of_user(name.clone()) }),
        }))
    }
}

/// Returns the shared filters by which an object receives requests, one for each bus.
fn groups(config: &Config, object: &str) -> Vec<String> {
    config.bus_roots.iter().map(|root| group_filter(root, object)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;

    fn access(anonymous: bool, users: &[&str]) -> Access {
        let users = users.iter().map(|name| User::new(*name, None)).collect();
        Access::new(&Config { anonymous, users, ..Config::default() }, &Random::System)
    }

    #[test]
    fn any_name_is_accepted_only_without_users() {
        let name = ByteString::from("ani");
        let taken = access(true, &[]).without_record(&name, b"").expect("no record").expect("let in");
        assert_eq!(taken.user.as_deref(), Some("ani"));
        assert_eq!(access(true, &["ani"]).without_record(&name, b""), None);
        assert_eq!(access(false, &[]).without_record(&name, b""), None);
    }

    #[test]
    fn the_local_process_needs_its_own_password() {
        let access = access(true, &[]);
        let local = access.local_credentials();
        let name = ByteString::from(&*local.user);
        let with = |password: &str| access.without_record(&name, password.as_bytes()).expect("no record");
        assert!(with(&local.password).is_ok_and(|principal| principal.local));
        assert_eq!(with(""), Err(Reason::BAD_USER_NAME_OR_PASSWORD));
        assert_eq!(with(&local.password[1..]), Err(Reason::BAD_USER_NAME_OR_PASSWORD));
    }
}
