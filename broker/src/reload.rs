//! The configuration file is read again while the broker runs.

use std::net::SocketAddr;
use std::sync::Weak;

use crate::config::{Config, ConfigError};
use crate::counters::Counters;
use crate::hub::Hub;

/// Reads a broker's configuration file again: see [`reload`](Self::reload). Does not keep the broker running.
#[derive(Clone, Debug)]
pub struct Reloader(pub(crate) Weak<Hub>);

/// What reading the file again has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Subscriptions that were ended because they are not allowed any more.
    pub subscriptions: usize,
    /// Connections that were ended: they had one of those, or their user is gone or has another password.
    pub connections: usize,
    /// Whether other settings in the file have changed, which only a new start applies.
    pub needs_restart: bool,
}

/// Why users and rules stay what they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// There is no file.
    #[error("there is no file to read again; start the broker with --config")]
    NoFile,
    /// The file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file has neither users nor rules any more, and there is a listener that other machines reach.
    #[error(
        "whoever reaches {address} could do everything, as the file has no users; add users, or start the broker with --open"
    )]
    Open {
        /// Where the broker listens.
        address: SocketAddr,
    },
    /// The file has `hardened`, and there is a listener without TLS that other machines reach.
    #[error(
        "passwords and messages could be read on their way to {address}, which `hardened` excludes; start the broker again \
         without that listener"
    )]
    Clear {
        /// Where the broker listens.
        address: SocketAddr,
    },
    /// The system gives no threads to check passwords.
    #[error(
        "cannot start the threads that check passwords; make room for more threads, and read the file again"
    )]
    Threads(#[source] std::io::Error),
    /// There is no broker any more.
    #[error("the broker has stopped")]
    Stopping,
}

impl Reloader {
    /// Reads the file again and applies what it says about access, all of it or nothing: users, roles, rules. What clients
    /// have and may not have any more is taken from them: subscriptions end, and with them (DISCONNECT 0x87) the
    /// connection; those of users who are gone or have another password end, too. Listeners and limits stay as they are. The
    /// certificates of listeners are read again first, whatever the file says; connections of client certificates that are not
    /// good any more end.
    ///
    /// Cancelled, it may have applied the new rules to new actions only.
    ///
    /// # Errors
    ///
    /// No file, or one that is wrong; everything is then as before.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let hub = self.0.upgrade().ok_or(ReloadError::Stopping)?;
        // One after the other: the last file that was read is the one that holds.
        let _turn = hub.reloading.lock().await;
        let untrusted = hub.reload_certificates().await;
        let source = hub.shared.config.source.clone().ok_or(ReloadError::NoFile)?;
        let read = tokio::task::spawn_blocking({
            let source = source.clone();
            move || source.read()
        });
        let config = read.await.map_err(|_| ReloadError::Stopping)??;
        // Flags may have changed what the file says about these two.
        let running = &hub.shared.config;
        let (listen, listeners, open) = (running.listen.clone(), running.listeners.clone(), running.open);
        let applied = Config { listen, listeners, open, ..config.clone() };
        if let Some(address) = applied.open_listener() {
            return Err(ReloadError::Open { address });
        }
        if let Some(address) = applied.clear_listener() {
            return Err(ReloadError::Clear { address });
        }
        let changed = hub.shared.logins.replace_records(&config.users).map_err(ReloadError::Threads)?;
        let taken = hub.replace_access(&config, &changed).await;
        Counters::add(&hub.shared.counters.reloads, 1);
        let needs_restart = source.differs_elsewhere(&config);
        if needs_restart {
            tracing::warn!("only users and rules are read again: the other changes need a restart");
        }
        let (subscriptions, connections) = (taken.subscriptions, taken.connections + untrusted);
        tracing::info!(
            subscriptions_ended = subscriptions,
            connections_ended = connections,
            "read users and rules again"
        );
        Ok(Reloaded { subscriptions, connections, needs_restart })
    }
}
