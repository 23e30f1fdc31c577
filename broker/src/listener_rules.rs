//! Rules for the clients of one listener, besides those for all clients.

use std::sync::Arc;

use bytestring::ByteString;
use hashbrown::hash_map::EntryRef;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use rantai_tls::{CertificateFiles, ClientFiles, NameField, ServerFiles, ServerTls, ServerTlsError};

use crate::access::LOCAL_USER;
use crate::config::{ClientCertificates, Listener, TlsSettings, UserFrom, WebSettings};

/// Settings of a listener for its clients, and its connected clients.
#[derive(Debug, Default)]
pub(crate) struct ListenerRules {
    /// WebSocket settings, if its connections carry MQTT over WebSocket.
    pub(crate) web: Option<WebSettings>,
    /// TLS, if its connections use it.
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// Part of a client certificate that names its user.
    pub(crate) user_from: NameField,
    anonymous: Option<bool>,
    users: Option<HashSet<ByteString>>,
    /// Maximum number of connected clients.
    connections: Option<usize>,
    seated: Arc<Seated>,
}

/// Client ids connected at a listener with a limit, with their number of connections: during a takeover there are two,
/// which count as one client.
type Seated = Mutex<HashMap<ByteString, usize>>;

/// Place of a connected client at a listener with a limit; released when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seated: Arc<Seated>,
    client_id: ByteString,
}

/// Error: a listener has reached its maximum number of clients.
#[derive(Debug)]
pub(crate) struct Full;

impl ListenerRules {
    /// Creates the rules of a listener.
    ///
    /// # Errors
    ///
    /// The files of its TLS cannot be used.
    pub(crate) fn of(listener: &Listener) -> Result<Self, ServerTlsError> {
        let users = listener.users.as_ref();
        let tls = listener.tls.as_ref();
        let user_from = tls.map_or(UserFrom::Cn, |tls| tls.user_from);
        Ok(Self {
            web: listener.web.clone(),
            tls: tls.map(|tls| ServerTls::open(files(tls)).map(Arc::new)).transpose()?,
            user_from: match user_from {
                UserFrom::Cn => NameField::CommonName,
                UserFrom::San => NameField::AlternativeName,
            },
            anonymous: listener.anonymous,
            users: users.map(|users| users.iter().map(|name| ByteString::from(&**name)).collect()),
            connections: listener.connections,
            seated: Arc::default(),
        })
    }

    /// Returns whether clients without a user name are admitted, if the listener has its own setting.
    pub(crate) fn anonymous(&self) -> Option<bool> {
        self.anonymous
    }

    /// Checks whether a user may log in here. The broker's own process may log in everywhere.
    pub(crate) fn is_for(&self, user: &ByteString) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(user) || user == LOCAL_USER)
    }

    /// Reserves a place for a client; `None` if there is no limit. A client that is already connected here keeps its
    /// place: its earlier connection, which it may have lost, is about to end.
    ///
    /// # Errors
    ///
    /// The maximum is reached.
    pub(crate) fn take_seat(&self, client_id: &ByteString) -> Result<Option<Seat>, Full> {
        let Some(most) = self.connections else { return Ok(None) };
        let mut seated = self.seated.lock();
        if let Some(connections) = seated.get_mut(client_id) {
            *connections += 1;
        } else if seated.len() < most {
            seated.insert(client_id.clone(), 1);
        } else {
            return Err(Full);
        }
        Ok(Some(Seat { seated: self.seated.clone(), client_id: client_id.clone() }))
    }
}

fn files(settings: &TlsSettings) -> ServerFiles {
    let asked = settings.client_certificates != ClientCertificates::None;
    let roots = settings.client_ca.clone().filter(|_| asked);
    ServerFiles {
        default: CertificateFiles { certificate: settings.certificate.clone(), key: settings.key.clone() },
        additional: settings.additional_certificates.clone(),
        clients: roots.map(|roots| ClientFiles {
            roots,
            revocations: settings.revocations.clone(),
            required: settings.client_certificates == ClientCertificates::Required,
        }),
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let EntryRef::Occupied(mut connections) = self.seated.lock().entry_ref(&self.client_id) {
            *connections.get_mut() -= 1;
            if *connections.get() == 0 {
                connections.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_seats_can_be_taken_again() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let rules = ListenerRules::of(&Listener { connections: Some(2), ..Listener::tcp(address) })
            .expect("no files");
        let take = |client_id: &'static str| rules.take_seat(&ByteString::from_static(client_id));
        let (a, b) = (take("a").expect("the first"), take("b").expect("the second"));
        assert!(take("c").is_err());
        let again = take("a").expect("it has its place");
        drop(a);
        assert!(take("c").is_err(), "its later connection has it");
        drop((again, b));
        assert!(take("c").is_ok_and(|seat| seat.is_some()));
        assert!(rules.seated.lock().is_empty());
        let unlimited = ListenerRules::of(&Listener::tcp(address)).expect("no files");
        let seat = unlimited.take_seat(&ByteString::from_static("a"));
        assert!(seat.is_ok_and(|seat| seat.is_none()), "nothing is counted without a limit");
    }
}
