//! State of the gateway that all connections share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rantai_client::shares::{ShareLimits, ShareLog, Shares};
use rantai_client::wire::user::User;
use rantai_client::{Client, Proxy};
use ring::hmac;
use tokio::sync::Semaphore;

use crate::catalog::Catalog;
use crate::frame::{FrameLimits, Version};
use crate::names::Names;
use crate::peer::Dialing;
use crate::settings::{Network, PyroLimits};
use crate::streams::Streams;
use crate::tls::Tls;
use crate::uri::PyroUri;

/// State shared by all connections.
#[derive(Debug)]
pub(crate) struct GatewayState {
    pub(crate) client: Client,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) names: Names,
    pub(crate) dialing: Arc<Dialing>,
    pub(crate) streams: Streams,
    pub(crate) limits: PyroLimits,
    pub(crate) tls: Option<Arc<Tls>>,
    /// HMAC key of clients.
    pub(crate) key: Option<hmac::Key>,
    /// User on whose behalf the gateway calls.
    pub(crate) user: Option<User>,
    /// Networks whose clients may register names.
    pub(crate) register_from: Vec<Network>,
    /// Host and port in the URIs of objects; `None` for the address by which a client has reached the gateway.
    pub(crate) address: Option<(String, u16)>,
    /// Places of calls.
    pub(crate) calls: Arc<Shares<IpAddr>>,
    pub(crate) oneways: Arc<Semaphore>,
    pub(crate) counts: Counts,
    /// Log of refused calls, and of clients that send something else than Pyro.
    pub(crate) refused: ShareLog,
}

/// Counters of connections, calls and refusals.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) too_slow: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    /// Connections without a TLS handshake.
    pub(crate) handshakes: AtomicU64,
}

impl Counts {
    pub(crate) fn one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Client of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) version: Version,
    /// Number of the connection.
    pub(crate) connection: u64,
    pub(crate) peer: IpAddr,
    /// Address by which the client has reached the gateway.
    pub(crate) local: SocketAddr,
}

impl GatewayState {
    /// Creates a proxy of an object, with the rights of the gateway's user, else those of clients that have not logged in, else
    /// the gateway's own where it may not act for others.
    pub(crate) fn proxy(&self, object: &str) -> Proxy {
        let proxy = self.client.object(object).deadline(self.limits.call());
        match &self.user {
            Some(user) => proxy.for_user(user),
            None if self.client.may_act_for_others() == Some(true) => proxy.for_nobody(),
            None => proxy,
        }
    }

    pub(crate) fn frames(&self) -> FrameLimits {
        FrameLimits { bytes: self.limits.frame_bytes }
    }

    /// Returns the URI by which a client reaches an object of the bus.
    pub(crate) fn uri(&self, object: &str, origin: &Origin) -> PyroUri {
        match &self.address {
            Some((host, port)) => PyroUri::new(object, host, *port),
            None => PyroUri::new(object, origin.local.ip().to_canonical().to_string(), origin.local.port()),
        }
    }

    pub(crate) fn shares(limit: u64) -> Arc<Shares<IpAddr>> {
        Shares::new(ShareLimits::new(limit))
    }
}
