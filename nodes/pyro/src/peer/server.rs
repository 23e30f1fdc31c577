//! Connections to one Pyro server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rantai_client::wire::fault::Fault;
use ring::hmac;
use tokio::net::lookup_host;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connection::{Metadata, PeerError, PyroConnection};
use crate::frame::{FrameLimits, Version};
use crate::settings::{Network, PyroLimits};
use crate::uri::PyroUri;

/// Time limit of a name look-up.
const LOOK_UP: Duration = Duration::from_secs(5);
/// Suggested delay before a server that is not reachable is called again, in milliseconds.
const AGAIN_MS: u64 = 1_000;

/// Which servers may be connected to, and how.
#[derive(Clone, Debug)]
pub(crate) struct Dialing {
    /// Networks of the servers.
    pub(crate) networks: Vec<Network>,
    pub(crate) limits: PyroLimits,
    /// HMAC key of Pyro4 servers.
    pub(crate) key: Option<hmac::Key>,
    /// Address of the gateway itself, which is never connected to.
    pub(crate) own: SocketAddr,
}

/// Reason why a server is not connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotDialled {
    #[error("the host {0:?} is unknown")]
    UnknownHost(String),
    #[error("the gateway may not connect to {0}; add its address or network to `dial` in [pyro]")]
    NotAllowed(String),
    #[error("that is the address of the gateway itself")]
    Own,
}

impl Dialing {
    pub(super) fn frames(&self) -> FrameLimits {
        FrameLimits { bytes: self.limits.frame_bytes }
    }

    /// Returns the address of a server: the first address of its host that may be connected to.
    ///
    /// # Errors
    ///
    /// The host is unknown, or none of its addresses may be connected to.
    pub(crate) async fn resolve(&self, uri: &PyroUri) -> Result<SocketAddr, NotDialled> {
        let unknown = || NotDialled::UnknownHost(uri.host.clone());
        let found = timeout(LOOK_UP, lookup_host((&*uri.host, uri.port))).await.map_err(|_| unknown())?;
        let mut addresses: Vec<SocketAddr> = found.map_err(|_| unknown())?.collect();
        addresses.retain(|address| Network::any_has(&self.networks, address.ip()));
        let first = *addresses.first().ok_or_else(|| NotDialled::NotAllowed(uri.host.clone()))?;
        let is_own = |address: &SocketAddr| {
            let is_here =
                self.own.ip() == address.ip() || self.own.ip().is_unspecified() && address.ip().is_loopback();
            address.port() == self.own.port() && is_here
        };
        if addresses.iter().any(is_own) { Err(NotDialled::Own) } else { Ok(first) }
    }
}

/// Pyro server of one object.
#[derive(Debug)]
pub(crate) struct PyroServer {
    pub(crate) uri: PyroUri,
    dialing: Arc<Dialing>,
    version: Mutex<Version>,
    /// Connections without a call, the most recently used last. A server may keep state for each connection: sequential callers
    /// get the same one.
    idle: Mutex<Vec<PyroConnection>>,
    places: Arc<Semaphore>,
    is_reachable: AtomicBool,
}

impl std::fmt::Debug for PyroConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PyroConnection").finish_non_exhaustive()
    }
}

/// Connection that carries out a call. It is closed when dropped before [`give_back`](Self::give_back).
pub(super) struct Held {
    pub(super) connection: PyroConnection,
    server: Arc<PyroServer>,
    _place: OwnedSemaphorePermit,
}

impl Held {
    /// Keeps the connection for the next call.
    pub(super) fn give_back(self) {
        self.server.idle.lock().push(self.connection);
    }
}

impl PyroServer {
    pub(crate) fn new(uri: PyroUri, version: Version, dialing: Arc<Dialing>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(dialing.limits.connections_per_server.get().min(1 << 16)));
        let (version, idle) = (Mutex::new(version), Mutex::default());
        Arc::new(Self { uri, dialing, version, idle, places, is_reachable: AtomicBool::new(true) })
    }

    /// Returns whether the server was reachable when last tried.
    pub(crate) fn is_reachable(&self) -> bool {
        self.is_reachable.load(Ordering::Relaxed)
    }

    /// Takes a connection for a call; waits until one is free, and connects if none is open.
    ///
    /// # Errors
    ///
    /// -32005 if the server cannot be reached.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Held, Fault> {
        let place = self.places.clone().acquire_owned().await.expect("the places are never closed");
        let idle = self.idle();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open().await.map(|(connection, _)| connection).map_err(|error| {
                let message = format!("cannot reach the Pyro server {}: {error}", self.uri);
                Fault { message, ..Fault::busy(AGAIN_MS) }
            })?,
        };
        Ok(Held { connection, server: self.clone(), _place: place })
    }

    /// Takes an idle connection that is still open.
    fn idle(&self) -> Option<PyroConnection> {
        let mut idle = self.idle.lock();
        std::iter::from_fn(|| idle.pop()).find(PyroConnection::is_quiet)
    }

    /// Checks whether the server answers: by a ping if a connection is open, else by a new connection. Returns the metadata of a
    /// new connection.
    pub(super) async fn check(self: &Arc<Self>) -> Result<Option<Metadata>, String> {
        let checked = self.check_once().await;
        self.is_reachable.store(checked.is_ok(), Ordering::Relaxed);
        checked
    }

    async fn check_once(&self) -> Result<Option<Metadata>, String> {
        // Where all connections carry out calls, the end of the calls tells whether the server is there.
        let Ok(_place) = self.places.clone().try_acquire_owned() else { return Ok(None) };
        if let Some(mut connection) = self.idle() {
            if connection.ping().await.is_ok() {
                self.idle.lock().push(connection);
                return Ok(None);
            }
            self.idle.lock().clear();
        }
        let (connection, metadata) = self.open().await.map_err(|error| error.to_string())?;
        self.idle.lock().push(connection);
        Ok(Some(metadata))
    }

    /// Closes the connections without a call.
    pub(super) fn disconnect(&self) {
        self.idle.lock().clear();
    }

    async fn open(&self) -> Result<(PyroConnection, Metadata), PeerError> {
        let refused = |error: NotDialled| PeerError::Refused(error.to_string());
        // Looked up and checked each time: a host's address may change.
        let address = self.dialing.resolve(&self.uri).await.map_err(refused)?;
        let version = *self.version.lock();
        let opened = PyroConnection::open(address, &self.uri.object, version, &self.dialing).await;
        if opened.as_ref().is_err_and(PeerError::may_be_version) {
            // A Pyro5 client may have registered a Pyro4 server, and the other way round: the next attempt tries the other one.
            *self.version.lock() = match version {
                Version::Four => Version::Five,
                Version::Five => Version::Four,
            };
        }
        opened
    }
}
