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

impl Principal {
    /// Whether it may say of a message that another user sent it. The broker's own process acts for everybody.
    pub(crate) fn acts_for(&self, _user: &str) -> bool {
        self.local
    }

    /// The name under which it passes messages on for others.
    pub(crate) fn name(&self) -> Option<&ByteString> {
        self.user.as_ref()
    }
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
    users: HashMap<ByteString, User>,
    nobody: Arc<Principal>,
    local_process: Arc<Principal>,
    local_password: String,
    /// Client ids of connections that logged in with the local credentials.
    local_ids: Mutex<HashSet<ByteString>>,
}

#[derive(Debug)]
struct User {
    password: Vec<u8>,
    principal: Arc<Principal>,
}

impl Access {
    pub(crate) fn new(config: &Config, random: &Random) -> Self {
        let users = config.users.iter().map(|user| {
            let name = ByteString::from(&*user.name);
            let principal = Arc::new(Principal { user: Some(name.clone()), local: false });
            (name, User { password: user.password.clone().into_bytes(), principal })
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

    /// Whether a password for this user could be guessed: nobody's is checked without users, and that of the broker's own
    /// process is too long.
    pub(crate) fn can_be_guessed(&self, user: &str) -> bool {
        user != LOCAL_USER && !self.users.is_empty()
    }

    /// Who a client is by the user name and password of its CONNECT. With no users configured any name is let in, and
    /// stands for nobody.
    ///
    /// # Errors
    ///
    /// The reason code of the refusal.
    pub(crate) fn log_in(
        &self,
        user: Option<&ByteString>,
        password: Option<&[u8]>,
    ) -> Result<Arc<Principal>, Reason> {
        let Some(user) = user else {
            return if self.anonymous { Ok(self.nobody.clone()) } else { Err(Reason::NOT_AUTHORIZED) };
        };
        let password = password.unwrap_or_default();
        if user == LOCAL_USER && constant_time_eq(self.local_password.as_bytes(), password) {
            return Ok(self.local_process.clone());
        }
        match self.users.get(user) {
            Some(known) if constant_time_eq(&known.password, password) => Ok(known.principal.clone()),
            // Whoever has not been asked for a password has proved nothing: it is nobody.
            None if self.users.is_empty() && self.anonymous => Ok(self.nobody.clone()),
            _ => Err(Reason::BAD_USER_NAME_OR_PASSWORD),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;

    fn access(anonymous: bool, users: &[(&str, &str)]) -> Access {
        let users = users.iter().map(|(n, p)| User { name: (*n).into(), password: (*p).into() }).collect();
        Access::new(&Config { anonymous, users, ..Config::default() }, &Random::System)
    }

    fn user(
        access: &Access,
        user: Option<&ByteString>,
        password: Option<&[u8]>,
    ) -> Result<Option<String>, Reason> {
        access.log_in(user, password).map(|principal| principal.user.as_ref().map(ToString::to_string))
    }

    #[test]
    fn who_is_let_in() {
        let name = ByteString::from("ani");
        let closed = access(false, &[("ani", "rahasia")]);
        assert_eq!(user(&closed, Some(&name), Some(b"rahasia")), Ok(Some("ani".to_owned())));
        for wrong in [&b""[..], b"rahasi", b"rahasia!", b"rahasiA"] {
            assert_eq!(user(&closed, Some(&name), Some(wrong)), Err(Reason::BAD_USER_NAME_OR_PASSWORD));
        }
        assert_eq!(
            user(&closed, Some(&"budi".into()), Some(b"rahasia")),
            Err(Reason::BAD_USER_NAME_OR_PASSWORD)
        );
        assert_eq!(user(&closed, None, None), Err(Reason::NOT_AUTHORIZED));
        assert_eq!(user(&access(true, &[]), Some(&name), None), Ok(None), "a name that nobody has checked");
        assert_eq!(user(&access(true, &[("ani", "x")]), None, None), Ok(None));
        assert_eq!(
            user(&access(true, &[("ani", "x")]), Some(&name), None),
            Err(Reason::BAD_USER_NAME_OR_PASSWORD)
        );
    }
}
