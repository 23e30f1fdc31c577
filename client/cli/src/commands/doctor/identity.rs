//! Identities of the examination's connections.

use std::rc::Rc;

use rantai_client::session::Address;
use rantai_client::wire::name::ClientId;
use rmqtt_codec::v5::Connect;

/// Keep-alive of the connections, in seconds: longer than any of them lasts.
const KEEP_ALIVE: u16 = 120;

/// User name and password.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// Client id, user and address of a connection.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) id: ClientId,
    pub(super) login: Option<Rc<Login>>,
    /// Address of the broker, with the client certificate of the command or without.
    pub(super) address: Rc<Address>,
}

impl Identity {
    /// Returns a CONNECT with a clean start, whose session ends with the connection.
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
