//! Listening sockets.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::StartError;
use crate::config::{Config, Endpoint, Listener};
use crate::counters::Counters;
use crate::hub::Hub;
use crate::listener_rules::ListenerRules;
use crate::transport::{Socket as ClientSocket, Transport};
use crate::unix_endpoint::UnixEndpoint;
use crate::workers::Workers;

/// Number of connections that the system queues until they are accepted.
const ACCEPT_BACKLOG: i32 = 1_024;
/// Number of connections accepted before the task yields.
const ACCEPTS_PER_TURN: usize = 4;
/// Delay between two attempts to accept while accepting fails.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Delay after a failed attempt if handshakes were evicted.
const EVICTED_RETRY_DELAY: Duration = Duration::from_millis(5);
/// Number of handshakes evicted for lack of file descriptors.
const EVICTIONS_PER_FAILURE: usize = 64;
/// Minimum interval between two log lines about failures to accept.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

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

    /// Returns whether it occupies the port or the file of an endpoint.
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
            // Another listener of this broker may use the same address or file under another name.
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
    // Allows binding a port whose last owner has exited while its old connections are still closing.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections until the broker stops.
pub(crate) async fn accept(hub: Arc<Hub>, workers: Arc<Workers>, listener: Bound, rules: Arc<ListenerRules>) {
    let mut stopping = hub.shared.stopping.subscribe();
    let mut failures = Failures::default();
    let mut has_failed = false;
    for number in 1_usize.. {
        if number.is_multiple_of(ACCEPTS_PER_TURN) {
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
                let (hub, rules) = (hub.clone(), rules.clone());
                match workers.other() {
                    None => begin(hub, socket, address, rules),
                    Some(worker) => give(worker, hub, socket, address, rules),
                }
            }
            // The client aborted the connection before it was accepted.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            // Most likely no file descriptor is free. Evicting handshakes without a CONNECT frees some, as do
            // connections that end.
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    hub.shared.not_accepting.fetch_add(1, Ordering::Relaxed);
                }
                Counters::add(&hub.shared.counters.accept_errors, 1);
                if let Some(times) = failures.note(hub.shared.clock.uptime()) {
                    tracing::warn!(times, "cannot accept: {error}");
                }
                // A shorter delay if evictions have freed descriptors.
                let room = hub.shared.addresses.make_room(EVICTIONS_PER_FAILURE) > 0;
                tokio::time::sleep(if room { EVICTED_RETRY_DELAY } else { ACCEPT_RETRY_DELAY }).await;
            }
        }
    }
}

/// Serves an accepted connection on the current runtime.
fn begin(hub: Arc<Hub>, socket: ClientSocket, address: SocketAddr, rules: Arc<ListenerRules>) {
    match Transport::of(socket, rules.tls.as_ref(), rules.web.is_some()) {
        Ok(transport) => {
            tokio::spawn(crate::handshake::accept(hub, transport, address, rules));
        }
        Err(error) => tracing::warn!(peer = %address, "cannot begin TLS: {error}"),
    }
}

/// Serves an accepted connection on another runtime.
fn give(
    worker: &Handle,
    hub: Arc<Hub>,
    socket: ClientSocket,
    address: SocketAddr,
    rules: Arc<ListenerRules>,
) {
    let unregistered = match socket.into_unregistered() {
        Ok(unregistered) => unregistered,
        Err(error) => return tracing::warn!(peer = %address, "cannot serve a connection: {error}"),
    };
    // This task only spawns the connection's task, so that the connection's future is no larger than on its own
    // thread.
    worker.spawn(async move {
        match unregistered.register() {
            Ok(socket) => begin(hub, socket, address, rules),
            Err(error) => tracing::warn!(peer = %address, "cannot serve a connection: {error}"),
        }
    });
}

/// Failures to accept, and the time of the last log line about them.
#[derive(Debug, Default)]
struct Failures {
    count: u64,
    told: Option<Duration>,
}

impl Failures {
    /// Counts a failure at `now`. Returns the number of failures since the last log line if the next line is due.
    fn note(&mut self, now: Duration) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| now < told + LOG_INTERVAL) {
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
    fn accept_failures_are_logged_once_a_minute_with_their_number() {
        let mut failures = Failures::default();
        let told: Vec<_> = (0..2_401).filter_map(|turn| failures.note(turn * ACCEPT_RETRY_DELAY)).collect();
        assert_eq!(told, [1, 1_200, 1_200]);
    }
}
