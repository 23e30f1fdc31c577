//! An embedded MQTT broker: 3.1.1 and 5 on one port.

mod clock;
mod config;
mod message;
#[cfg_attr(not(test), expect(dead_code, reason = "the engine is not wired in yet"))]
mod store;

pub use config::{Config, ConfigError, Engine, Limits, QueueFull, User};

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    addresses: Vec<std::net::SocketAddr>,
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Broker {
    /// Binds, restores what is kept in `data_dir`, and serves on the current tokio runtime until
    /// [`shutdown`](Self::shutdown) or drop.
    #[expect(clippy::unused_async, reason = "the engine is not wired in yet")]
    pub async fn start(_config: Config) -> Result<Self, StartError> {
        Ok(Self { addresses: Vec::new() })
    }

    /// Where it listens, with real ports.
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        &self.addresses
    }

    /// Tells every client (DISCONNECT 0x8B in MQTT 5), flushes what is kept, and stops.
    #[expect(clippy::unused_async, reason = "the engine is not wired in yet")]
    pub async fn shutdown(self) {}
}
