//! An embedded MQTT broker for MQTT 3.1.1 and 5 on one port.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use rantai_broker::{Broker, Config};
//!
//! let broker = Broker::start(Config::on_free_port()).await?;
//! println!("listening on {}", broker.addresses()[0]);
//! broker.shutdown().await;
//! # Ok::<(), rantai_broker::StartError>(())
//! # }).unwrap();
//! ```
//!
//! There is no central thread. The task that reads a publisher's socket matches a message, appends it to the
//! outboxes of its subscribers, and at the end of the read batch writes each touched outbox once.

mod absent;
mod access;
mod addresses;
mod administration;
mod bus;
mod caller;
mod certified;
mod clock;
mod codec;
mod config;
mod connection;
mod connector;
mod control;
mod counters;
mod filters;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grants;
mod guesses;
mod handshake;
mod handshakes;
mod holdings;
mod housekeeping;
mod hub;
mod in_flight_budget;
mod link;
mod listener;
mod listener_rules;
mod live_limits;
mod log;
mod log_in;
mod logged;
mod logins;
mod memory;
mod message;
mod monitor;
mod owner;
mod parted;
mod peer;
mod place;
mod pool;
mod random;
mod readings;
mod reload;
mod retained;
mod router;
#[cfg(feature = "rumqttd")]
mod rumqttd;
mod session;
mod shared;
#[cfg(test)]
mod simulation;
mod store;
mod subscriptions;
mod tally;
mod thread;
mod topic;
mod transport;
mod turns;
mod unix_endpoint;
mod unserved;
mod user_properties;
mod wills;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

pub use access::{LocalCredentials, is_own_topic};
pub use administration::{
    Administration, AdministrationError, ConnectionInfo, Deleted, EndResult, LimitInfo, Listed, Page,
    RetainedInfo, SessionInfo, SubscriptionInfo,
};
use clock::Clock;
pub use config::{
    CertificateFiles, Change, ClientCertificates, Config, ConfigError, ConfigSource, Endpoint, Engine,
    HttpSettings, Limits, Listener, OnDamage, Origins, PlainRole, QueueDrops, QueueFull, QueueRule,
    RoleMistake, RoleSyntax, TlsSettings, User, UserFrom, WebSettings,
};
pub use connector::{Connector, LocalStream};
pub use counters::Counts;
use hub::Hub;
pub use monitor::{Monitor, MonitorError};
use random::Random;
pub use rantai_credentials::{Cost, Record};
pub use rantai_tls::ServerTlsError;
pub use readings::{Reading, ReadingValue, Readings, Unit};
pub use reload::{ReloadError, Reloaded, Reloader};
use shared::BrokerState;
pub use store::LAYOUT as STORE_LAYOUT;
use store::{Store, StoreError, StoreSettings};
pub use thread::BrokerThread;
pub use topic::is_state_of_bridge;
pub use unserved::{Unserved, UnservedHandler, UnservedReply};
use workers::{Workers, threads};

/// A running broker. Dropping it closes all connections without a DISCONNECT; [`shutdown`](Self::shutdown) stops it
/// gracefully.
#[derive(Debug)]
pub struct Broker {
    addresses: Vec<SocketAddr>,
    damaged: Option<PathBuf>,
    monitor: Option<Monitor>,
    administration: Option<Administration>,
    running: RunningEngine,
}

#[derive(Debug)]
enum RunningEngine {
    Rantai(Arc<Hub>, Arc<Workers>),
    #[cfg(feature = "rumqttd")]
    Rumqttd,
}

/// Error of starting a broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// Configured address.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A listener is reachable from other machines, and no users are configured.
    #[error("cannot listen on {address}: whoever reaches it could do everything, as there are no users")]
    Open {
        /// Configured address.
        address: SocketAddr,
    },
    /// Two listeners of the configuration use the same address or path.
    #[error("{second} is where {first} is, too; give one of them another place, or remove it")]
    Twice {
        /// Listener that was bound first.
        first: String,
        /// Listener that could not be bound.
        second: String,
    },
    /// A Unix socket could not be bound.
    #[error("cannot listen on {}", path.display())]
    Socket {
        /// Configured path of the socket.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The certificate or key files of a TLS listener cannot be used.
    #[error("cannot listen on {endpoint} with TLS")]
    Tls {
        /// Configured endpoint.
        endpoint: Endpoint,
        /// Error in the files.
        source: Box<ServerTlsError>,
    },
    /// A listener without TLS is reachable from other machines, which `hardened` does not allow.
    #[error(
        "cannot listen on {address}: passwords and messages could be read on their way, which `hardened` excludes"
    )]
    Clear {
        /// Configured address.
        address: SocketAddr,
    },
    /// Other machines can reach the listener for metrics, which has no TLS and which `hardened` does not allow.
    #[error(
        "cannot serve metrics on {address}: `hardened` lets other machines reach listeners with TLS alone"
    )]
    ClearHttp {
        /// Configured address.
        address: SocketAddr,
    },
    /// The thread of a [`BrokerThread`], or the runtime on it, could not be created.
    #[error("cannot start a thread for the broker")]
    Thread(#[source] io::Error),
    /// The contents of `data_dir` cannot be used.
    #[error("cannot use the data directory {}", path.display())]
    Store {
        /// The data directory.
        path: PathBuf,
        /// Error of the operating system or the database library.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The configuration names an engine that this build does not contain.
    #[error(
        "`engine = \"rumqttd\"` needs a build with the feature: cargo build --release --features rumqttd"
    )]
    NoSuchEngine,
    /// The rumqttd engine could not start.
    #[error("rumqttd does not start: {0}")]
    OtherEngine(String),
}

impl StartError {
    fn store(path: PathBuf, error: StoreError) -> Self {
        Self::Store { path, source: Box::new(error) }
    }
}

impl Config {
    /// Checks the conditions that [`Broker::start`] checks before it binds listeners: that no protection is missing,
    /// and that the files of listeners with TLS can be used. Does not check `data_dir`, nor whether addresses are
    /// free.
    ///
    /// # Errors
    ///
    /// Those of [`Broker::start`].
    pub fn check(&self) -> Result<(), StartError> {
        self.check_protection()?;
        for listener in &self.listeners {
            listener_rules::ListenerRules::of(listener).map_err(|source| StartError::Tls {
                endpoint: listener.endpoint.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    fn check_protection(&self) -> Result<(), StartError> {
        if let Some(address) = self.open_listener() {
            return Err(StartError::Open { address });
        }
        if let Some(address) = self.clear_listener() {
            return Err(StartError::Clear { address });
        }
        match self.clear_http() {
            Some(address) => Err(StartError::ClearHttp { address }),
            None => Ok(()),
        }
    }
}

impl Broker {
    /// Binds the listeners, restores the state kept in `data_dir`, and serves until [`shutdown`](Self::shutdown) or
    /// drop. Spawns its tasks on the current tokio runtime, whose I/O and time drivers must be enabled; with more than
    /// one of [`threads`](Config::threads), part of the connections is served by threads of the broker's own.
    ///
    /// # Errors
    ///
    /// A port is in use, or another broker uses the data directory. A damaged file in the data directory is moved
    /// aside, logged and reported by [`damaged`](Self::damaged), and the broker keeps whatever can be read of it; with
    /// [`OnDamage::Stop`] the damage is an error and the file stays in place.
    #[cfg_attr(
        not(feature = "rumqttd"),
        expect(clippy::unused_async, reason = "it spawns, so it needs a runtime")
    )]
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.check_protection()?;
        if config.engine == Engine::Rumqttd {
            #[cfg(feature = "rumqttd")]
            return rumqttd::start(&config).await;
            #[cfg(not(feature = "rumqttd"))]
            return Err(StartError::NoSuchEngine);
        }
        let listeners = listener::bind_all(&config)?;
        let addresses = listeners.iter().filter_map(|(l, _)| l.address()).collect();
        let workers = Arc::new(Workers::start(threads(config.threads)).map_err(StartError::Thread)?);
        let (hub, damaged) = Self::open(config)?;
        tokio::spawn(housekeeping::expire_retained(hub.clone()));
        tokio::spawn(housekeeping::look_after_clients(hub.clone()));
        tokio::spawn(housekeeping::publish_sys(hub.clone()));
        let monitor = Some(Monitor::start(hub.clone(), workers.clone()));
        let administration = Some(Administration::start(&hub));
        tokio::spawn(hub::watch_memory(hub.clone()));
        let servers: Vec<_> = listeners.iter().filter_map(|(_, rules)| rules.tls.clone()).collect();
        if !servers.is_empty() {
            tokio::spawn(housekeeping::follow_certificates(hub.clone()));
        }
        let _ = hub.shared.tls_servers.set(servers);
        hub.tell_certificate_warnings();
        for (listener, rules) in listeners {
            tokio::spawn(listener::accept(hub.clone(), workers.clone(), listener, rules));
        }
        Ok(Self { addresses, damaged, monitor, administration, running: RunningEngine::Rantai(hub, workers) })
    }

    fn open(config: Config) -> Result<(Arc<Hub>, Option<PathBuf>), StartError> {
        let (clock, random) = (Clock::system(), Random::System);
        let Some(path) = config.data_dir.clone() else {
            let shared = Self::shared(config, None, clock, random)?;
            return Ok((Hub::new(shared, 1), None));
        };
        let (sender, committed) = mpsc::unbounded_channel();
        let settings = StoreSettings {
            free_space: config.limits.free_space_bytes,
            on_damage: config.on_damage,
            stall: config.limits.disk_stall,
        };
        let (store, snapshot) = Store::open(&path, sender, settings, clock.now_ms())
            .map_err(|e| StartError::store(path.clone(), e))?;
        let damaged = snapshot.damaged.clone();
        let hub = Hub::new(Self::shared(config, Some(store), clock, random)?, snapshot.next_key);
        hub.restore(snapshot).map_err(|e| StartError::store(path, e))?;
        tokio::spawn(housekeeping::follow_store(hub.clone(), committed));
        Ok((hub, damaged))
    }

    fn shared(
        config: Config,
        store: Option<Store>,
        clock: Clock,
        random: Random,
    ) -> Result<Arc<BrokerState>, StartError> {
        let shared = BrokerState::new(config, store, clock, random);
        shared.logins.replace_records(&shared.config.users).map_err(StartError::Thread)?;
        Ok(shared)
    }

    /// Returns the addresses of the TCP listeners, with the ports that were actually bound.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the path to which a damaged database was moved, or `None` if there was no damage. The broker has then
    /// started with the part of the database that could be read.
    pub fn damaged(&self) -> Option<&std::path::Path> {
        self.damaged.as_deref()
    }

    /// Returns credentials for connections from this process to its own broker, or `None` with the rumqttd engine.
    /// Such connections are accepted regardless of the configured users. The client id of each such connection is
    /// reserved from then on: a CONNECT with it by another client is refused with 0x85 (3.1.1: return code 2).
    pub fn local_credentials(&self) -> Option<LocalCredentials> {
        match &self.running {
            RunningEngine::Rantai(hub, _) => Some(hub.shared.access.local_credentials()),
            #[cfg(feature = "rumqttd")]
            RunningEngine::Rumqttd => None,
        }
    }

    /// Returns a handle that opens connections from this process without a socket, or `None` with the rumqttd engine.
    pub fn connector(&self) -> Option<Connector> {
        match &self.running {
            RunningEngine::Rantai(hub, workers) => Some(Connector::new(hub, workers)),
            #[cfg(feature = "rumqttd")]
            RunningEngine::Rumqttd => None,
        }
    }

    /// Returns a handle that rereads the configuration file, or `None` with the rumqttd engine.
    pub fn reloader(&self) -> Option<Reloader> {
        match &self.running {
            RunningEngine::Rantai(hub, _) => Some(Reloader(Arc::downgrade(hub))),
            #[cfg(feature = "rumqttd")]
            RunningEngine::Rumqttd => None,
        }
    }

    /// Returns a handle that reads the broker's state from any task or thread, or `None` with the rumqttd engine.
    pub fn monitor(&self) -> Option<Monitor> {
        self.monitor.clone()
    }

    /// Returns a handle that administers the broker from any task or thread, or `None` with the rumqttd engine.
    pub fn administration(&self) -> Option<Administration> {
        self.administration.clone()
    }

    /// Returns the current values of the counters; all are zero with the rumqttd engine.
    pub fn counts(&self) -> Counts {
        match &self.running {
            RunningEngine::Rantai(hub, _) => hub.shared.counters.read(),
            #[cfg(feature = "rumqttd")]
            RunningEngine::Rumqttd => Counts::default(),
        }
    }

    /// Disconnects every client (DISCONNECT 0x8B in MQTT 5), waits a moment for the clients to read their last bytes,
    /// writes pending changes to disk, and stops. Takes at most about 1.5 s, plus the last commit. Wills are treated
    /// as after a lost connection: retained and queued wills are there when the broker starts again.
    pub async fn shutdown(self) {
        match &self.running {
            RunningEngine::Rantai(hub, _) => hub.stop().await,
            #[cfg(feature = "rumqttd")]
            RunningEngine::Rumqttd => {}
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        match &self.running {
            RunningEngine::Rantai(hub, _) => hub.abandon(),
            #[cfg(feature = "rumqttd")]
            RunningEngine::Rumqttd => {}
        }
    }
}
