//! Gateway for Pyro: programs that use Pyro4 or Pyro5 call the objects on the bus, and their servers become objects of the bus.
//!
//! | Module | Content |
//! |---|---|
//! | [`settings`] | Settings in nodes.toml |
//! | `server`, `session`, `link` | Connections, with limits in number and time |
//! | `frame` | Messages of both versions |
//! | `serializer`, `serpent`, `msgpack`, `value` | Values of Python, on the wire and as JSON |
//! | `invoke`, `arguments`, `streams` | Calls of objects on the bus |
//! | `exception` | Errors as exceptions, and exceptions as errors |
//! | `catalog` | Objects on the bus and their descriptions |
//! | `daemon`, `nameserver`, `names`, `uri` | The gateway's own objects, `Pyro.Daemon` and `Pyro.NameServer` |
//! | `peer` | Pyro servers as objects of the bus |
//! | `tls` | TLS, if there is a certificate |
//! | `broadcast` | Finding the name server by UDP |

mod arguments;
mod broadcast;
mod catalog;
mod daemon;
mod error;
mod exception;
mod frame;
mod gateway;
mod invoke;
mod link;
mod msgpack;
mod names;
mod nameserver;
mod peer;
mod serializer;
mod serpent;
mod server;
mod session;
pub mod settings;
mod streams;
#[cfg(test)]
mod tests;
mod tls;
mod uri;
mod value;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rantai_client::Client;
use rantai_client::shares::ShareLog;
use rantai_client::wire::user::User;
use rantai_nodes::Node;
use ring::hmac;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub use self::error::PyroGatewayError;

use self::catalog::Catalog;
use self::gateway::{Counts, GatewayState};
use self::names::Names;
use self::peer::Dialing;
use self::settings::{Pyro, public_address};
use self::streams::Streams;
use self::tls::Tls;

/// Gateway that listens. Dropping it ends it at once; [`shutdown`](Self::shutdown) lets running calls end first.
#[derive(Debug)]
pub struct PyroGateway {
    /// Address that the gateway listens on.
    pub address: SocketAddr,
    /// Whether the gateway uses TLS.
    pub secure: bool,
    state: Arc<GatewayState>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
}

impl PyroGateway {
    /// Starts the gateway, which calls by `client` and serves the objects of Pyro servers on `node`.
    ///
    /// # Errors
    ///
    /// The gateway cannot listen on an address, cannot read the file of its key, or the settings are invalid.
    pub async fn start(settings: &Pyro, client: Client, node: Arc<Node>) -> Result<Self, PyroGatewayError> {
        settings.check().map_err(PyroGatewayError::Settings)?;
        let key = settings.hmac_key_file.as_deref().map(read_key).transpose()?;
        let public = settings.address.as_deref().map(public_address).transpose();
        let public = public.map_err(PyroGatewayError::Settings)?;
        let user = settings.user.as_deref().map(User::new).transpose();
        let user = user.map_err(|error| PyroGatewayError::Settings(error.to_string()))?;
        let tls = settings.tls().map_err(PyroGatewayError::Settings)?.map(Tls::open).transpose();
        let tls = tls.map_err(|error| PyroGatewayError::Tls(Box::new(error)))?;
        let listener = TcpListener::bind(settings.listen).await.map_err(PyroGatewayError::Listen)?;
        let address = listener.local_addr().map_err(PyroGatewayError::Listen)?;
        let catalog = Arc::new(Catalog::new(client.clone(), settings.objects.clone()));
        let mut background = vec![tokio::spawn(catalog.clone().follow())];
        if let Some(broadcast) = settings.broadcast {
            let socket = UdpSocket::bind(broadcast).await.map_err(PyroGatewayError::Broadcast)?;
            background.push(tokio::spawn(broadcast::answer(socket, address, public.clone())));
        }
        if let Some(tls) = tls.clone() {
            background.push(tokio::spawn(tls.follow()));
        }
        if !address.ip().is_loopback() && key.is_none() && settings.client_ca.is_none() {
            tracing::warn!(
                "everybody who reaches {address} may call by Pyro, which has no users; `client_ca` asks for \
                 certificates, and `hmac_key_file` is a key for Pyro4"
            );
        }
        let limits = settings.limits;
        let dialing =
            Arc::new(Dialing { networks: settings.dial.clone(), limits, key: key.clone(), own: address });
        let state = Arc::new(GatewayState {
            client,
            catalog,
            names: Names::new(node, dialing.clone()),
            dialing,
            streams: Streams::new(GatewayState::shares(limits.streams)),
            limits,
            tls,
            key,
            user,
            register_from: settings.register_from.clone(),
            address: public,
            calls: GatewayState::shares(limits.calls),
            oneways: Arc::new(Semaphore::new(limits.oneways.get().min(Semaphore::MAX_PERMITS))),
            counts: Counts::default(),
            refused: ShareLog::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(server::serve(state.clone(), listener, stopped));
        Ok(Self { address, secure: state.tls.is_some(), state, stop, serving, background })
    }

    /// Stops accepting connections, waits up to five seconds for running calls to end, and withdraws the objects of Pyro servers.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.serving).await;
        self.state.names.close().await;
    }
}

impl Drop for PyroGateway {
    fn drop(&mut self) {
        self.serving.abort();
        self.background.iter().for_each(JoinHandle::abort);
    }
}

/// Reads the HMAC key: the first line of a file.
fn read_key(file: &Path) -> Result<hmac::Key, PyroGatewayError> {
    let wrong = |reason: String| PyroGatewayError::Key { file: file.to_owned(), reason };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let key = text.lines().next().unwrap_or_default();
    if key.is_empty() {
        return Err(wrong("its first line is empty".to_owned()));
    }
    // The algorithm of Pyro4; a digest by SHA-1 with a key is not broken.
    Ok(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes()))
}
