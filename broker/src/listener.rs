//! Listening sockets.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::StartError;
use crate::config::{Config, Endpoint, Listener};
use crate::counters::Counters;
use crate::hub::Hub;
use crate::listener_rules::ListenerRules;
use crate::transport::{Socket as ClientSocket, Transport};
use crate::unix_endpoint::UnixEndpoint;

/// Number of connections that the system queues until they are accepted.
const BACKLOG: i32 = 1_024;
/// Number of connections accepted before the task yields.
const ACCEPTED_AT_ONCE: usize = 4;
/// Pause between two attempts to accept while accepting fails.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// The same pause after handshakes have been evicted.
const EVICTED_AGAIN: Duration = Duration::from_millis(5);
/// Number of handshakes evicted for lack of file descriptors.
const EVICTED_AT_ONCE: usize = 64;
/// Minimum interval between two log lines about failures to accept.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// A bound listener.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixEndpoint),
}

impl Bound {
    /// Returns its address; `None` for a Unix socket.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Checks whether it occupies the port or the file of an endpoint.
    fn is_at(&self, endpoint: &Endpoint) -> bool {
        match (self, endpoint) {
            (Self::Tcp(_), Endpoint::Tcp(other)) => {
                self.address().is_some_and(|own| own.port() == other.port())
            }
            (Self::Unix(own), Endpoint::Unix { path, .. }) => own.is_at(path),
            _ => false,
        }
    }

    async fn accept(&self) -> io::Result<(ClientSocket, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(peer = %address, "no TCP_NODELAY: {error}");
                }
                Ok((ClientSocket::Tcp(stream), address))
            }
            Self::Unix(endpoint) => {
                let (stream, address) = endpoint.accept().await?;
                Ok((ClientSocket::Unix(Box::new(stream)), address))
            }
        }
    }
}

/// Binds all listeners of a configuration, those of `listen` first, and returns each with the rules for its clients.
pub(crate) fn bind_all(config: &Config) -> Result<Vec<(Bound, Arc<ListenerRules>)>, StartError> {
    let short = config.listen.iter().copied().map(Listener::tcp);
    let mut all: Vec<(Bound, Arc<ListenerRules>)> = Vec::new();
    let mut titles = Vec::new();
    for listener in short.chain(config.listeners.iter().cloned()) {
        let tls = |source| StartError::Tls { endpoint: listener.endpoint.clone(), source: Box::new(source) };
        let rules = Arc::new(ListenerRules::of(&listener).map_err(tls)?);
        let bound = match &listener.endpoint {
            &Endpoint::Tcp(address) => {
                bind(address).map(Bound::Tcp).map_err(|source| StartError::Bind { address, source })
            }
            Endpoint::Unix { path, mode } => UnixEndpoint::bind(path, *mode)
                .map(Bound::Unix)
                .map_err(|source| StartError::Socket { path: path.clone(), source }),
        };
        let bound = bound.map_err(|error| {
            let is_in_use = matches!(
                &error,
                StartError::Bind { source, .. } | StartError::Socket { source, .. }
                    if source.kind() == ErrorKind::AddrInUse
            );
            // Another listener of this broker, under another name of the same address or file.
            let in_the_way = all.iter().zip(&titles).find(|((bound, _), _)| bound.is_at(&listener.endpoint));
            match in_the_way {
                Some((_, other)) if is_in_use => {
                    StartError::Twice { first: String::clone(other), second: listener.title() }
                }
                _ => error,
            }
        })?;
        all.push((bound, rules));
        titles.push(listener.title());
    }
    Ok(all)
}

/// Binds an address; port 0 picks a free port.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port whose last owner has exited is free, though its old connections may linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections until the broker stops.
pub(crate) async fn accept(hub: Arc<Hub>, listener: Bound, rules: Arc<ListenerRules>) {
    let mut stopping = hub.shared.stopping.subscribe();
    let mut failures = Failures::default();
    let mut has_failed = false;
    for number in 1_usize.. {
        if number.is_multiple_of(ACCEPTED_AT_ONCE) {
            tokio::task::yield_now().await;
        }
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|&stop| stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, address)) => {
                if std::mem::take(&mut has_failed) {
                    hub.shared.not_accepting.fetch_sub(1, Ordering::Relaxed);
                }
                Counters::add(&hub.shared.counters.connections, 1);
                match Transport::of(socket, rules.tls.as_ref(), rules.web.is_some()) {
                    Ok(transport) => {
                        let rules = rules.clone();
                        tokio::spawn(crate::handshake::accept(hub.clone(), transport, address, rules));
                    }
                    Err(error) => tracing::warn!(peer = %address, "cannot begin TLS: {error}"),
                }
            }
            // The client has aborted the connection.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            // Most likely out of file descriptors: ended connections free some, and handshakes without a CONNECT are
            // evicted.
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    hub.shared.not_accepting.fetch_add(1, Ordering::Relaxed);
                }
                Counters::add(&hub.shared.counters.accept_errors, 1);
                if let Some(times) = failures.note(hub.shared.clock.uptime()) {
                    tracing::warn!(times, "cannot accept: {error}");
                }
                // Shorter if evictions free descriptors.
                let room = hub.shared.addresses.make_room(EVICTED_AT_ONCE) > 0;
                tokio::time::sleep(if room { EVICTED_AGAIN } else { ACCEPT_AGAIN }).await;
            }
        }
    }
}

/// Failures to accept, and the time of the last log line about them.
#[derive(Debug, Default)]
struct Failures {
    count: u64,
    told: Option<Duration>,
}

impl Failures {
    /// Counts a failure at `now`. Returns the number of failures since the last log line, if another line is due.
    fn note(&mut self, now: Duration) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| now < told + TELL_AGAIN) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_once_a_minute_with_their_number() {
        let mut failures = Failures::default();
        let told: Vec<_> = (0..2_401).filter_map(|turn| failures.note(turn * ACCEPT_AGAIN)).collect();
        assert_eq!(told, [1, 1_200, 1_200]);
    }
}
