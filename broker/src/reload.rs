//! The configuration file is read again while the broker runs.

use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Weak;

use rantai_tls::ServerTlsError;

use crate::config::{Config, ConfigError};
use crate::counters::Counters;
use crate::hub::Hub;

/// Reads a broker's configuration file again: see [`reload`](Self::reload). Does not keep the broker running.
#[derive(Clone, Debug)]
pub struct Reloader(pub(crate) Weak<Hub>);

/// What reading the file again has changed. Displays as one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Users who may log in now.
    pub users: usize,
    /// Those of them who could not before.
    pub new_users: usize,
    /// Users who may not log in any more.
    pub removed_users: usize,
    /// Subscriptions that were ended because they are not allowed any more.
    pub subscriptions: usize,
    /// Connections that were ended: they had one of those, or their user is gone or has another password, or their client
    /// certificate is not good any more.
    pub connections: usize,
    /// Listeners whose certificates are others now.
    pub certificates: usize,
    /// Whether other settings in the file have changed, which only a new start applies.
    pub needs_restart: bool,
}

/// Why everything stays what it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// There is no file.
    #[error("there is no file to read again; start the broker with --config")]
    NoFile,
    /// The file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate, key or another file of a listener's TLS cannot be used.
    #[error("cannot read the certificates of listeners again; mend the file, and reload")]
    Certificates(#[source] Box<ServerTlsError>),
    /// The file lacks a kind of protection that the running broker has. A broker that was started with
    /// [`open`](Config::open) takes such a file.
    #[error(
        "{} has no {lost}, which this broker has: it would be open to others; put them back, or start the broker anew \
         with that file", file.display()
    )]
    Unprotected {
        /// The configuration file.
        file: PathBuf,
        /// What it lacks, as the file calls it.
        lost: &'static str,
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

impl ReloadError {
    /// It and its causes in one line. What a mistake in a file has below its first line shows the place.
    pub(crate) fn line(&self) -> String {
        let mut line = first_line(self);
        let mut source = self.source();
        while let Some(error) = source {
            line = line + ": " + &first_line(error);
            source = error.source();
        }
        line
    }
}

fn first_line(error: &dyn std::error::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        write!(
            f,
            "read users and rules again: {} ({} new, {} removed), {} and {} ended",
            some(self.users, "user"),
            self.new_users,
            self.removed_users,
            some(self.connections, "connection"),
            some(self.subscriptions, "subscription"),
        )?;
        if self.certificates > 0 {
            write!(f, ", new certificates of {}", some(self.certificates, "listener"))?;
        }
        if self.needs_restart { f.write_str("; the other changes need a restart") } else { Ok(()) }
    }
}

impl Reloader {
    /// Reads the file and the certificates of listeners again, and applies them, all of it or nothing: users, roles, rules,
    /// certificates. What clients have and may not have any more is taken from them: subscriptions end, and with them
    /// (DISCONNECT 0x87) the connection; those of users who are gone or have another password end, too, and those of client
    /// certificates that are not good any more. Listeners and limits stay as they are. A broker without a file reads its
    /// certificates again.
    ///
    /// Cancelled, it may have applied the new rules to new actions only.
    ///
    /// # Errors
    ///
    /// No file, one that is wrong, or one that lacks what protects the broker now; everything is then as before.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let hub = self.0.upgrade().ok_or(ReloadError::Stopping)?;
        // One after the other: the last file that was read is the one that holds.
        let _turn = hub.reloading.lock().await;
        let renewals = hub.read_certificates().await?;
        let certificates = renewals.len();
        let Some(source) = hub.shared.config.source.clone() else {
            if !hub.has_certificates() {
                return Err(ReloadError::NoFile);
            }
            let connections = hub.renew_certificates(renewals).await;
            hub.tell_certificate_warnings();
            let users = hub.shared.access.user_count();
            return Ok(Reloaded { users, connections, certificates, ..Reloaded::default() });
        };
        let read = tokio::task::spawn_blocking({
            let source = source.clone();
            move || source.read()
        });
        let config = read.await.map_err(|_| ReloadError::Stopping)??;
        let running = &hub.shared.config;
        if let Some(lost) = hub.shared.access.lost_with(&config)
            && !running.open
        {
            return Err(ReloadError::Unprotected { file: source.file().to_owned(), lost });
        }
        // Flags may have changed what the file says about these.
        let (listen, listeners, open) = (running.listen.clone(), running.listeners.clone(), running.open);
        if let Some(address) = (Config { listen, listeners, open, ..config.clone() }).clear_listener() {
            return Err(ReloadError::Clear { address });
        }
        let changed = hub.shared.logins.replace_records(&config.users).map_err(ReloadError::Threads)?;
        let (new_users, removed_users) = hub.shared.access.user_changes(&config);
        let taken = hub.replace_access(&config, &changed).await;
        let untrusted = hub.renew_certificates(renewals).await;
        Counters::add(&hub.shared.counters.reloads, 1);
        hub.tell_certificate_warnings();
        let reloaded = Reloaded {
            users: config.users.len(),
            new_users,
            removed_users,
            subscriptions: taken.subscriptions,
            connections: taken.connections + untrusted,
            certificates,
            needs_restart: source.differs_elsewhere(&config),
        };
        if reloaded.needs_restart {
            tracing::warn!("{reloaded}");
        } else {
            tracing::info!("{reloaded}");
        }
        Ok(reloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_causes() {
        let read = Config::load("/no/such/broker.toml").expect_err("there is none");
        let line = ReloadError::from(read).line();
        assert!(line.contains("/no/such/broker.toml: ") && line.contains("No such file"), "{line}");
        let wrong = Config::from_toml("listen = 1", std::path::Path::new("a.toml")).expect_err("wrong");
        let line = ReloadError::from(wrong).line();
        assert!(line.starts_with("a.toml:1:10: ") && !line.contains('\n'), "{line}");
    }

    #[test]
    fn what_has_changed_is_one_line() {
        let reloaded = Reloaded { users: 2, new_users: 1, connections: 1, ..Reloaded::default() };
        assert_eq!(
            reloaded.to_string(),
            "read users and rules again: 2 users (1 new, 0 removed), 1 connection and 0 subscriptions ended"
        );
        let reloaded = Reloaded { certificates: 1, needs_restart: true, ..reloaded };
        let told = reloaded.to_string();
        assert!(
            told.ends_with(", new certificates of 1 listener; the other changes need a restart"),
            "{told}"
        );
    }
}
