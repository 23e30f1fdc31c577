//! As whom the examination connects.

use std::rc::Rc;

use rantai_client::session::Address;
use rantai_client::wire::name::ClientId;
use rmqtt_codec::v5::Connect;

/// Keep-alive of the connections, in seconds: longer than any of them.
const KEEP_ALIVE: u16 = 120;

/// User name and password.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// A client id, the user of its connection, and the way to the broker.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) id: ClientId,
    pub(super) login: Option<Rc<Login>>,
    /// With the client certificate of the command, or without one.
    pub(super) address: Rc<Address>,
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
}
