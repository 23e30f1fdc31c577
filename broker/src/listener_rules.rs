//! What holds for the clients of one listener beside what holds for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytestring::ByteString;
use hashbrown::HashSet;
use rantai_tls::{ClientFiles, NameField, ServerFiles, ServerTls, ServerTlsError};

use crate::access::LOCAL_USER;
use crate::config::{ClientCertificates, Listener, TlsSettings, UserFrom, WebSettings};

/// The settings of a listener about its clients, and how many it has.
#[derive(Debug, Default)]
pub(crate) struct ListenerRules {
    /// WebSocket, where its connections carry MQTT in it.
    pub(crate) web: Option<WebSettings>,
    /// TLS, where its connections use it.
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// The part of a client certificate that names its user.
    pub(crate) user_from: NameField,
    anonymous: Option<bool>,
    users: Option<HashSet<ByteString>>,
    /// The limit of connected clients.
    connections: Option<usize>,
    connected: Arc<AtomicUsize>,
}

/// One of the connected clients of a listener that has a limit; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicUsize>);

/// A listener has as many clients as it may.
#[derive(Debug)]
pub(crate) struct Full;

impl ListenerRules {
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
            connected: Arc::default(),
        })
    }

    /// Whether clients without a user name are let in, where the listener says so itself.
    pub(crate) fn anonymous(&self) -> Option<bool> {
        self.anonymous
    }

    /// Whether a user may log in here. The broker's own process may everywhere.
    pub(crate) fn is_for(&self, user: &ByteString) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(user) || user == LOCAL_USER)
    }

    /// Counts another connected client; none where there is no limit.
    ///
    /// # Errors
    ///
    /// There are as many as there may be.
    pub(crate) fn take_seat(&self) -> Result<Option<Seat>, Full> {
        let Some(most) = self.connections else { return Ok(None) };
        let another = |connected: usize| (connected < most).then_some(connected + 1);
        let taken = self.connected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, another);
        taken.map(|_| Some(Seat(self.connected.clone()))).map_err(|_| Full)
    }
}

fn files(settings: &TlsSettings) -> ServerFiles {
    let asked = settings.client_certificates != ClientCertificates::None;
    let roots = settings.client_ca.clone().filter(|_| asked);
    ServerFiles {
        certificate: settings.certificate.clone(),
        key: settings.key.clone(),
        clients: roots.map(|roots| ClientFiles {
            roots,
            revocations: settings.revocations.clone(),
            required: settings.client_certificates == ClientCertificates::Required,
        }),
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_that_are_given_back_are_taken_again() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let rules = ListenerRules::of(&Listener { connections: Some(2), ..Listener::tcp(address) })
            .expect("no files");
        let seats = [rules.take_seat().expect("the first"), rules.take_seat().expect("the second")];
        assert!(rules.take_seat().is_err());
        drop(seats);
        assert!(rules.take_seat().is_ok_and(|seat| seat.is_some()));
        let unlimited = ListenerRules::of(&Listener::tcp(address)).expect("no files");
        assert!(unlimited.take_seat().is_ok_and(|seat| seat.is_none()), "nothing is counted without a limit");
    }
}
