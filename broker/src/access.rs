//! Who may come in, and what they may do.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use constant_time_eq::constant_time_eq;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use crate::codec::Reason;
use crate::config::Config;
use crate::random::Random;
use crate::topic::is_bridge_state;

/// The user name of connections from the broker's own process.
const LOCAL_USER: &str = "$local";

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

/// Who a client is: made once, at CONNECT, and carried by its session and by everything it publishes, its will
/// included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The user it logged in as; none for a client that did not, and for the broker's own process.
    pub(crate) user: Option<ByteString>,
    /// Whether it is the broker's own process.
    pub(crate) local: bool,
}

/// What a client wants to do with a topic or a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Publish to a topic, now or by its will.
    Publish,
    /// Subscribe to a filter, now or by a session that was kept on disk.
    Subscribe,
    /// Get a message on a topic that it has subscribed to.
    Receive,
}

/// Users and what they may do.
#[derive(Debug)]
pub(crate) struct Access {
    anonymous: bool,
    users: HashMap<ByteString, Arc<Principal>>,
    nobody: Arc<Principal>,
    local_process: Arc<Principal>,
    local_password: String,
    /// Client ids of connections that logged in with the local credentials.
    local_ids: Mutex<HashSet<ByteString>>,
}

impl Access {
    pub(crate) fn new(config: &Config, random: &Random) -> Self {
        let users = config.users.iter().map(|user| {
            let name = ByteString::from(&*user.name);
            let principal = Arc::new(Principal { user: Some(name.clone()), local: false });
            (name, principal)
        });
        Self {
            anonymous: config.anonymous,
            users: users.collect(),
            nobody: Arc::new(Principal { user: None, local: false }),
            local_process: Arc::new(Principal { user: None, local: true }),
            // 244 random bits.
            local_password: random.id() + &random.id(),
            local_ids: Mutex::default(),
        }
    }

    pub(crate) fn local_credentials(&self) -> LocalCredentials {
        LocalCredentials { user: LOCAL_USER.to_owned(), password: self.local_password.clone() }
    }

    /// Whether a client may use this client id. The id of a connection from the broker's own process belongs to that
    /// process from then on, whether it is connected or not.
    pub(crate) fn claim_id(&self, client_id: &ByteString, principal: &Principal) -> bool {
        let mut ids = self.local_ids.lock();
        if principal.local {
            ids.insert(client_id.clone());
            return true;
        }
        !ids.contains(client_id)
    }

    /// Whether a client may do this with a topic or filter: the one place where that is decided.
    ///
    /// # Errors
    ///
    /// The reason code that the client is told.
    #[expect(clippy::unused_self, reason = "the rules by user that it will ask belong to this value")]
    pub(crate) fn authorize(&self, principal: &Principal, action: Action, topic: &str) -> Result<(), Reason> {
        // No rules by user yet: all users may do the same.
        let Principal { user: _, local: _ } = principal;
        match action {
            // What begins with $ is the broker's own (MQTT 5, 4.7.2), but for what bridges say about themselves.
            Action::Publish if topic.starts_with('$') && !is_bridge_state(topic) => {
                Err(Reason::NOT_AUTHORIZED)
            }
            Action::Publish | Action::Subscribe | Action::Receive => Ok(()),
        }
    }

    /// Who a client without a user name is, where such clients are let in.
    pub(crate) fn anonymous(&self) -> Option<Arc<Principal>> {
        self.anonymous.then(|| self.nobody.clone())
    }

    /// The user of this name.
    pub(crate) fn user(&self, name: &str) -> Option<Arc<Principal>> {
        self.users.get(name).cloned()
    }

    /// Who a client is by a user name and password that no record is needed for: the broker's own process, and without
    /// users whatever name it says. `None` where the password has to be checked by a record.
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
        (self.users.is_empty() && self.anonymous)
            .then(|| Ok(Arc::new(Principal { user: Some(name.clone()), local: false })))
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
