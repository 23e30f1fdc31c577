//! An embedded MQTT broker: 3.1.1 and 5 on one port.
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
mod bus;
mod caller;
mod certified;
mod clock;
mod codec;
mod config;
mod connection;
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
mod log;
mod log_in;
mod logged;
mod logins;
mod memory;
mod message;
mod owner;
mod peer;
mod place;
mod pool;
mod random;
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
mod wills;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

pub use access::{LocalCredentials, is_own_topic};
use clock::Clock;
pub use config::{
    CertificateFiles, ClientCertificates, Config, ConfigError, ConfigSource, Endpoint, Engine, Limits,
    Listener, OnDamage, Origins, PlainRole, QueueDrops, QueueFull, QueueRule, RoleMistake, RoleSyntax,
    TlsSettings, User, UserFrom, WebSettings,
};
pub use counters::Counts;
use hub::Hub;
use random::Random;
pub use rantai_credentials::{Cost, Record};
pub use rantai_tls::ServerTlsError;
pub use reload::{ReloadError, Reloaded, Reloader};
use shared::Shared;
use store::{Store, StoreError, StoreSettings};
pub use thread::BrokerThread;
pub use topic::is_state_of_bridge;
pub use unserved::{Unserved, UnservedHandler, UnservedReply};

/// A running broker. Dropping it stops it without a word to its clients; [`shutdown`](Self::shutdown) is the
/// polite way.
#[derive(Debug)]
pub struct Broker {
    addresses: Vec<SocketAddr>,
    damaged: Option<PathBuf>,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Rantai(Arc<Hub>),
    #[cfg(feature = "rumqttd")]
    Rumqttd,
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A listener that other machines reach, and no users.
    #[error("cannot listen on {address}: whoever reaches it could do everything, as there are no users")]
    Open {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Two listeners of the configuration are in each other's way.
    #[error("{second} is where {first} is, too; give one of them another place, or remove it")]
    Twice {
        /// The one that was bound.
        first: String,
        /// The one that could not be.
        second: String,
    },
    /// A unix socket could not be bound.
    #[error("cannot listen on {}", path.display())]
    Socket {
        /// The socket asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The files of a listener's TLS cannot be used.
    #[error("cannot listen on {endpoint} with TLS")]
    Tls {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// What is wrong with them.
        source: Box<ServerTlsError>,
    },
    /// A listener without TLS that other machines reach, where `hardened` does not allow one.
    #[error(
        "cannot listen on {address}: passwords and messages could be read on their way, which `hardened` excludes"
    )]
    Clear {
        /// The address asked for.
        address: SocketAddr,
    },
    /// No thread, or no runtime on it, for [`BrokerThread`].
    #[error("cannot start a thread for the broker")]
    Thread(#[source] io::Error),
    /// What is kept in `data_dir` cannot be used.
    #[error("cannot use the data directory {}", path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// What the system or library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The configuration asks for an engine that is not built in.
    #[error(
        "`engine = \"rumqttd\"` needs a build with the feature: cargo build --release --features rumqttd"
    )]
    NoSuchEngine,
    /// The other engine could not start.
    #[error("rumqttd does not start: {0}")]
    OtherEngine(String),
}

impl StartError {
    fn store(path: PathBuf, error: StoreError) -> Self {
        Self::Store { path, source: Box::new(error) }
    }
}

impl Broker {
    /// Binds, restores what is kept in `data_dir`, and serves on the current tokio runtime, whose I/O and
    /// time drivers must be on, until [`shutdown`](Self::shutdown) or drop.
    ///
    /// # Errors
    ///
    /// A port in use and a data directory in use by another broker are errors. A damaged file in it is moved
    /// aside, logged, and told by [`damaged`](Self::damaged), and what can be read of it is kept; with
    /// [`OnDamage::Stop`] it is an error and stays.
    #[cfg_attr(
        not(feature = "rumqttd"),
        expect(clippy::unused_async, reason = "it spawns, so it needs a runtime")
    )]
    pub async fn start(config: Config) -> Result<Self, StartError> {
        if let Some(address) = config.open_listener() {
            return Err(StartError::Open { address });
        }
        if let Some(address) = config.clear_listener() {
            return Err(StartError::Clear { address });
        }
        if config.engine == Engine::Rumqttd {
            #[cfg(feature = "rumqttd")]
            return rumqttd::start(&config).await;
            #[cfg(not(feature = "rumqttd"))]
            return Err(StartError::NoSuchEngine);
        }
        let listeners = listener::bind_all(&config)?;
        let addresses = listeners.iter().filter_map(|(l, _)| l.address()).collect();
        let (hub, damaged) = Self::open(config)?;
        tokio::spawn(housekeeping::expire_retained(hub.clone()));
        tokio::spawn(housekeeping::look_after_clients(hub.clone()));
        tokio::spawn(housekeeping::publish_sys(hub.clone()));
        tokio::spawn(hub::watch_memory(hub.clone()));
        let servers: Vec<_> = listeners.iter().filter_map(|(_, rules)| rules.tls.clone()).collect();
        if !servers.is_empty() {
            tokio::spawn(housekeeping::follow_certificates(hub.clone()));
        }
        let _ = hub.shared.tls_servers.set(servers);
        hub.tell_certificate_warnings();
        for (listener, rules) in listeners {
            tokio::spawn(listener::accept(hub.clone(), listener, rules));
        }
        Ok(Self { addresses, damaged, running: Running::Rantai(hub) })
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
    ) -> Result<Arc<Shared>, StartError> {
        let shared = Shared::new(config, store, clock, random);
        shared.logins.replace_records(&shared.config.users).map_err(StartError::Thread)?;
        Ok(shared)
    }

    /// Where it listens, with real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where a damaged database was moved to, if there was one; the broker has then started with what could be read of it.
    pub fn damaged(&self) -> Option<&std::path::Path> {
        self.damaged.as_deref()
    }

    /// Credentials for connections that this process makes to its own broker, none with another engine than our own.
    /// They are let in whatever the configured users are, and the client id of each such connection is reserved from
    /// then on: anybody else's CONNECT with it is refused with 0x85 (3.1.1: return code 2).
    pub fn local_credentials(&self) -> Option<LocalCredentials> {
        match &self.running {
            Running::Rantai(hub) => Some(hub.shared.access.local_credentials()),
            #[cfg(feature = "rumqttd")]
            Running::Rumqttd => None,
        }
    }

    /// Reads the configuration file again; none with another engine than our own.
    pub fn reloader(&self) -> Option<Reloader> {
        match &self.running {
            Running::Rantai(hub) => Some(Reloader(Arc::downgrade(hub))),
            #[cfg(feature = "rumqttd")]
            Running::Rumqttd => None,
        }
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        match &self.running {
            Running::Rantai(hub) => hub.shared.counters.read(),
            #[cfg(feature = "rumqttd")]
            Running::Rumqttd => Counts::default(),
        }
    }

    /// Tells every client (DISCONNECT 0x8B in MQTT 5), gives them a moment to take it, writes what is kept,
    /// and stops. Takes at most about a second and a half, plus the last commit. For wills it is a connection
    /// lost like any other: what is retained or queued of them is there when the broker comes back.
    pub async fn shutdown(self) {
        match &self.running {
            Running::Rantai(hub) => hub.stop().await,
            #[cfg(feature = "rumqttd")]
            Running::Rumqttd => {}
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        match &self.running {
            Running::Rantai(hub) => hub.abandon(),
            #[cfg(feature = "rumqttd")]
            Running::Rumqttd => {}
        }
    }
}
