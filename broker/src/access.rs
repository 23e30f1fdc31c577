//! Who may come in, and what they may do.

mod decisions;
mod denial;
mod principal;
mod rules;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytestring::ByteString;
use constant_time_eq::constant_time_eq;
use hashbrown::HashSet;
use parking_lot::{Mutex, RwLock};
use rantai_access::Who;

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

/// User name and password for connections that the broker's own process makes to it. Drawn at the start of the broker,
/// they exist only in this process's memory. See [`Broker::local_credentials`](crate::Broker::local_credentials).
#[derive(Clone, PartialEq, Eq)]
pub struct LocalCredentials {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for LocalCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Users and what they may do.
#[derive(Debug)]
pub(crate) struct Access {
    /// As the configuration was read last: replaced as a whole.
    rules: RwLock<Arc<Rules>>,
    /// The generation of the table in `rules`; 0 where there is none, and everything is allowed.
    generation: AtomicU64,
    nobody: Arc<Principal>,
    local_process: Arc<Principal>,
    local_password: String,
    /// Client ids of connections that logged in with the local credentials.
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
            local_ids: Mutex::default(),
        }
    }

    pub(crate) fn local_credentials(&self) -> LocalCredentials {
        LocalCredentials { user: LOCAL_USER.to_owned(), password: self.local_password.clone() }
    }

    /// Replaces users and rules by those of another configuration, in which the passwords of the users `changed` are others.
    pub(crate) fn replace(&self, config: &Config, changed: &std::collections::HashSet<String>) {
        let mut rules = Rules::of(config);
        let mut now = self.rules.write();
        rules.keep_logins(&now, changed);
        let rules = Arc::new(rules);
        self.generation.store(rules.generation(), Ordering::Release);
        *now = rules;
    }

    /// A number that changes whenever rules are replaced; 0 where there are none, and everything is allowed. A decision
    /// that was kept holds for as long as this stays what it was.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether user names are checked: without users any name is taken for what it says.
    pub(crate) fn has_users(&self) -> bool {
        self.rules.read().has_users()
    }

    /// Users who may log in.
    pub(crate) fn user_count(&self) -> usize {
        self.rules.read().user_names().count()
    }

    /// How many users are new with another configuration, and how many are gone.
    pub(crate) fn user_changes(&self, config: &Config) -> (usize, usize) {
        let rules = self.rules.read();
        let names: HashSet<&str> = config.users.iter().map(|user| &*user.name).collect();
        let (kept, known) = rules
            .user_names()
            .fold((0, 0), |(kept, known), name| (kept + usize::from(names.contains(name)), known + 1));
        (names.len() - kept, known - kept)
    }

    /// What protects this broker now and would not with another configuration: in the words of the file.
    pub(crate) fn lost_with(&self, config: &Config) -> Option<&'static str> {
        self.rules.read().lost_with(config)
    }

    /// Whether a client may use this client id. The id of a connection from the broker's own process belongs to that
    /// process from then on, whether it is connected or not.
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

    /// Whether a client id belongs to this client or to nobody, by the rules of now.
    ///
    /// # Errors
    ///
    /// It belongs to another user.
    pub(crate) fn check_client_id(&self, client_id: &str, principal: &Principal) -> Result<(), Denial> {
        let rules = self.rules.read().clone();
        let Some(table) = rules.table().filter(|_| !principal.local) else { return Ok(()) };
        let who = Who { user: principal.checked_user(), client_id };
        table.check_client_id(&who).map_err(|error| Denial::client_id(&error.to_string()))
    }

    /// Whether a client may do this with a topic or filter: the one place where that is decided.
    ///
    /// # Errors
    ///
    /// What the client is told.
    pub(crate) fn authorize(
        &self,
        client: Identity<'_>,
        action: Action,
        topic: &str,
    ) -> Result<Allowed, Denial> {
        let rules = self.rules.read().clone();
        rules.authorize(client, action, topic)
    }

    /// Whether a message may be published as the will of a client: now, and once more whenever the rules have changed.
    ///
    /// # Errors
    ///
    /// What the client is told.
    pub(crate) fn authorize_will(&self, client: Identity<'_>, will: &Message) -> Result<(), Denial> {
        if !self.knows(client.principal) {
            return Err(Denial::not_authorized(
                "only users are let in; connect with a user name and password",
            ));
        }
        // A grant is for who is asked while it is connected, and no will replies, or passes a request on.
        let allowed = |action, topic: &str| match self.authorize(client, action, topic)? {
            Allowed::WithReplyGrant => {
                Err(Denial::not_authorized("a will neither replies nor passes requests on"))
            }
            _ => Ok(()),
        };
        allowed(Action::Publish, &will.topic)?;
        will.properties.response_topic.as_ref().map_or(Ok(()), |topic| allowed(Action::ReplyTo, topic))
    }

    /// Whether a client that was let in would be now.
    ///
    /// # Errors
    ///
    /// Its user is gone or has another password, or its client id or its will are not for it by the rules of now.
    pub(crate) fn is_let_in(&self, connect: &Connect, principal: &Arc<Principal>) -> Result<(), Denial> {
        if !self.is_logged_in(principal) {
            return Err(Reason::BAD_USER_NAME_OR_PASSWORD.into());
        }
        self.check_client_id(&connect.client_id, principal)?;
        let will = connect.will.as_ref();
        let client = Identity { principal, client_id: &connect.client_id };
        will.map_or(Ok(()), |will| self.authorize_will(client, &will.message))
    }

    /// Whether a client may say of its messages that another user has sent them. The broker's own process acts for everybody.
    pub(crate) fn may_act_for(&self, principal: &Principal, user: &str) -> bool {
        let named = |name: &ByteString| {
            let rules = self.rules.read().clone();
            rules.table().is_some_and(|table| table.may_act_for(name, user))
        };
        principal.local || principal.caller().is_some_and(named)
    }

    /// Whether a principal is one that could come in now: the user of a session may be gone since.
    pub(crate) fn knows(&self, principal: &Principal) -> bool {
        self.rules.read().knows(principal)
    }

    /// Whether a client that has logged in as this principal still could, by the password that it had then.
    pub(crate) fn is_logged_in(&self, principal: &Arc<Principal>) -> bool {
        self.rules.read().is_logged_in(principal)
    }

    /// Whether a client may take over, or resume, what another one with its client id has left. Where there are no rules,
    /// user names say nothing, and only the broker's own process is told apart.
    pub(crate) fn owns(&self, principal: &Principal, owner: &Principal) -> bool {
        principal == owner || principal.local == owner.local && self.generation() == 0
    }

    /// Who a client without a user name is, where such clients are let in: everywhere, or by what its listener says.
    pub(crate) fn anonymous(&self, at_listener: Option<bool>) -> Option<Arc<Principal>> {
        let let_in = at_listener.unwrap_or_else(|| self.rules.read().anonymous());
        let_in.then(|| self.nobody.clone())
    }

    /// The user of this name.
    pub(crate) fn user(&self, name: &str) -> Option<Arc<Principal>> {
        self.rules.read().user(name)
    }

    /// Who a client is by a user name and password that no record is needed for: the broker's own process, and without
    /// users whatever name it says, or nobody where there are rules by user name. `None` where the password has to be
    /// checked by a record.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;

    fn access(anonymous: bool, users: &[&str]) -> Access {
        let users = users.iter().map(|name| User::new(*name, None)).collect();
        Access::new(&Config { anonymous, users, ..Config::default() }, &Random::System)
    }

    #[test]
    fn any_name_is_taken_only_where_there_are_no_users() {
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
