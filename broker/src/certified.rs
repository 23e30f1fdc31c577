//! Authentication by client certificates.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::Arc;

use bytestring::ByteString;
use rantai_access::check_user_name;
use rantai_tls::{Renewal, ServerTls, user_name};

use crate::access::Principal;
use crate::codec::{Connect, DecodeError, Reason};
use crate::config::Change;
use crate::counters::Counters;
use crate::hub::Hub;
use crate::listener_rules::ListenerRules;
use crate::log::ClientText;
use crate::reload::ReloadError;
use crate::transport::Transport;

/// Returns the principal of a client by its certificate, which the TLS handshake has verified; its password is ignored.
/// `None` if it has no certificate.
///
/// # Errors
///
/// Returns the refusal of the CONNECT if the certificate names no user who may log in here.
pub(crate) fn certified(
    hub: &Hub,
    rules: &ListenerRules,
    transport: &Transport,
    connect: &Connect,
) -> Option<Result<Arc<Principal>, DecodeError>> {
    let chain = transport.tls()?.client_chain()?;
    let refused = |text| Some(Err(DecodeError { reason: Reason::NOT_AUTHORIZED, text }));
    let Ok(name) = user_name(chain.first()?, rules.user_from) else {
        return refused("the client certificate names no user: see user_from of the listener");
    };
    if check_user_name(&name).is_err() {
        return refused("the name in the client certificate cannot be a user name");
    }
    let name = ByteString::from(name);
    if connect.user_name.as_ref().is_some_and(|user| *user != name) {
        return refused("the user name is not that of the client certificate; connect without a user name");
    }
    if !rules.is_for(&name) {
        return refused("this listener is not for that user; connect by another one");
    }
    let access = &hub.shared.access;
    if !access.has_users() {
        return Some(Ok(Arc::new(Principal::of_user(name))));
    }
    match access.user(&name) {
        Some(principal) => Some(Ok(principal)),
        None => refused("there is no user of the client certificate's name; add one to the broker's users"),
    }
}

/// New contents of the listeners' certificate files that are not in use yet, with the endpoint of each listener.
#[derive(Debug)]
pub(crate) struct Renewals(Vec<(String, Arc<ServerTls>, Renewal)>);

impl Renewals {
    /// Returns the changes, by listener.
    pub(crate) fn changes(&self) -> impl ExactSizeIterator<Item = Change> {
        self.0.iter().map(|(endpoint, ..)| Change::hidden(format!("certificates of listeners[{endpoint}]")))
    }
}

impl Hub {
    /// Checks whether any listener has TLS.
    pub(crate) fn has_certificates(&self) -> bool {
        self.shared.tls_servers.get().is_some_and(|servers| !servers.is_empty())
    }

    /// Reads the certificates of all listeners again, and checks them.
    ///
    /// # Errors
    ///
    /// The files of a listener cannot be used.
    pub(crate) async fn read_certificates(&self) -> Result<Renewals, ReloadError> {
        let mut renewals = Vec::new();
        // `servers` is in the order in which the listeners were bound.
        let listeners = self.shared.config.listeners.iter().filter(|listener| listener.tls.is_some());
        let servers = self.shared.tls_servers.get().into_iter().flatten();
        for (server, listener) in servers.zip(listeners) {
            let (server, endpoint) = (server.clone(), listener.endpoint.to_string());
            let read = tokio::task::spawn_blocking(move || {
                let read = server.read_again();
                read.map(|renewal| renewal.map(|renewal| (endpoint, server, renewal)))
            });
            let read = read.await.map_err(|_| ReloadError::Stopping)?;
            renewals.extend(read.map_err(|error| ReloadError::Certificates(Box::new(error)))?);
        }
        Ok(Renewals(renewals))
    }

    /// Uses renewed certificates for new connections, and ends connections whose client certificates are no longer
    /// valid. Returns the number of connections ended.
    pub(crate) async fn renew_certificates(&self, Renewals(renewals): Renewals) -> usize {
        if renewals.is_empty() {
            return 0;
        }
        for (_, server, renewal) in renewals {
            server.renew(renewal);
        }
        tracing::info!("read certificates again: new connections use them");
        self.end_untrusted().await
    }

    /// Logs present and imminent problems of the listeners' certificates.
    pub(crate) fn tell_certificate_warnings(&self) {
        let servers = self.shared.tls_servers.get().into_iter().flatten();
        // A set, because several listeners may use the same files.
        let warnings: BTreeSet<_> = servers.flat_map(|server| server.warnings()).collect();
        for warning in warnings {
            tracing::warn!("{warning}");
        }
    }

    /// Reads the certificates of each listener again. If its files cannot be used, a listener keeps its certificates.
    pub(crate) async fn follow_certificates(&self) {
        // Waits for a reload in progress: the certificates that it reads must not be replaced by older ones.
        let _turn = self.reloading.lock().await;
        let mut changed = false;
        for server in self.shared.tls_servers.get().into_iter().flatten() {
            let server: Arc<ServerTls> = server.clone();
            match tokio::task::spawn_blocking(move || server.reload()).await {
                Ok(Ok(is_new)) => {
                    if is_new {
                        tracing::info!("read certificates again: new connections use them");
                    }
                    changed |= is_new;
                }
                Ok(Err(error)) => {
                    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                    tracing::error!(
                        "cannot read certificates again: {error}{source}; new connections use the old ones"
                    );
                }
                Err(stopping) => tracing::debug!("certificates are not read again: {stopping}"),
            }
        }
        if changed {
            self.tell_certificate_warnings();
            self.end_untrusted().await;
        }
    }

    /// Ends the connections of clients whose certificates would not be accepted now.
    async fn end_untrusted(&self) -> usize {
        let untrusted = self.sessions_in_turns(|session| {
            let link = session.state.lock().link.clone()?;
            let reason = link.transport.tls()?.distrust()?;
            (!link.is_closing()).then_some((link, reason))
        });
        let untrusted = untrusted.await;
        let ended = untrusted.len();
        for (session, (link, reason)) in untrusted {
            Counters::add(&self.shared.counters.refused_tls, 1);
            if self.shared.may_log(&self.shared.log_lines.ended) {
                let client = ClientText(&session.client_id);
                tracing::warn!(%client, peer = %link.peer.address, "ended: {reason}");
            }
            link.close(Some(Reason::NOT_AUTHORIZED));
        }
        ended
    }
}
