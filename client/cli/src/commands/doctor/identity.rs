//! As whom the examination connects.

use std::rc::Rc;

use rantai_client::wire::name::ClientId;
use rmqtt_codec::v5::Connect;

/// Keep-alive of the connections, in seconds: longer than any of them.
const KEEP_ALIVE: u16 = 120;

/// User name and password.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// A client id, and the user of its connection.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) id: ClientId,
    pub(super) login: Option<Rc<Login>>,
}

impl Identity {
    /// CONNECT with a clean start and no session afterwards.
    pub(super) fn connect(&self) -> Connect {
        let login = self.login.as_deref();
        Connect {
            clean_start: true,
            keep_alive: KEEP_ALIVE,
            client_id: self.id.as_str().into(),
            username: login.map(|login| login.user.as_str().into()),
            password: login.map(|login| login.password.clone().into_bytes().into()),
            ..Connect::default()
        }
    }

    /// What to call it in a sentence.
    pub(super) fn name(&self) -> String {
        match &self.login {
            Some(login) => format!("user {}", login.user),
            None => "a client without a login".to_owned(),
        }
    }
}
