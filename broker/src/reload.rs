//! Reloading of the configuration file while the broker runs.

use std::collections::{BTreeSet, HashSet};
use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Weak;

use rantai_tls::ServerTlsError;

use crate::config::{Change, Config, ConfigError, ConfigSource};
use crate::counters::Counters;
use crate::hub::Hub;
use crate::live_limits;

/// Maximum number of changes that are logged individually.
const MAX_LOGGED_CHANGES: usize = 100;

/// Handle that reloads a broker's configuration file: see [`reload`](Self::reload). Does not keep the broker running.
#[derive(Clone, Debug)]
pub struct Reloader(pub(crate) Weak<Hub>);

/// Changes made by a reload. Displayed as one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Number of users who may log in now.
    pub users: usize,
    /// Number of users added.
    pub new_users: usize,
    /// Number of users removed.
    pub removed_users: usize,
    /// Number of subscriptions ended because they are no longer allowed.
    pub subscriptions: usize,
    /// Number of connections ended, because they had such a subscription, because their user was removed or has
    /// another password, or because their client certificate is no longer valid.
    pub connections: usize,
    /// Number of listeners whose certificates have changed.
    pub certificates: usize,
    /// Keys of the file, users and certificates whose changes are in effect now.
    pub changed: Vec<Change>,
    /// Keys that differ from the file with which the broker was started, and that only a restart applies.
    pub needs_restart: Vec<Change>,
}

/// Error of a reload; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The broker was started without a file.
    #[error("cannot reload: the broker was started without a configuration file; start it with --config")]
    NoFile,
    /// The file cannot be read or is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate, key or another TLS file of a listener cannot be used.
    #[error("cannot read the certificates of listeners again; correct the file, and reload")]
    Certificates(#[source] Box<ServerTlsError>),
    /// The file lacks a kind of protection that the running broker has. A broker that was started with
    /// [`open`](Config::open) accepts such a file.
    #[error(
        "{} has no {lost}, which this broker has: it would be open to others; put them back, or start the broker anew \
         with that file", file.display()
    )]
    Unprotected {
        /// The configuration file.
        file: PathBuf,
        /// Missing protection, in the words of the configuration file.
        lost: &'static str,
    },
    /// The file has `hardened`, but a listener without TLS can be reached from other machines.
    #[error(
        "passwords and messages could be read on their way to {address}, which `hardened` excludes; start the broker again \
         without that listener"
    )]
    Clear {
        /// Address of that listener.
        address: SocketAddr,
    },
    /// The file has `hardened`, but the listener for metrics can be reached from other machines.
    #[error(
        "other machines could read the metrics on {address}, which `hardened` excludes; start the broker again with another \
         address in [http]"
    )]
    ClearHttp {
        /// Address of that listener.
        address: SocketAddr,
    },
    /// The system provides no threads to check passwords.
    #[error(
        "cannot start the threads that check passwords; make room for more threads, and read the file again"
    )]
    Threads(#[source] std::io::Error),
    /// The broker has stopped.
    #[error("the broker has stopped")]
    Stopping,
}

impl ReloadError {
    /// Returns the error and its causes in one line, without the further lines that show the position of an error in a
    /// file.
    pub fn line(&self) -> String {
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
        let limits = self.changed.iter().filter(|change| change.key.starts_with("limits.")).count();
        if limits > 0 {
            write!(f, ", {} changed", some(limits, "limit"))?;
        }
        if self.needs_restart.is_empty() { Ok(()) } else { f.write_str("; the other changes need a restart") }
    }
}

impl Reloader {
    /// Reads the file and the certificates of listeners again, and applies users, roles, rules, certificates and
    /// limits: all of them or none. Connections with subscriptions that are no longer allowed are ended (DISCONNECT
    /// 0x87), and so are those of users who were removed or have another password, and of client certificates that are
    /// no longer valid. Lower limits end no connection or session, and connections keep the limits announced in
    /// CONNACK. Listeners stay unchanged. A broker without a file only rereads its certificates.
    ///
    /// If the future is dropped, the new rules may apply to new actions only.
    ///
    /// # Errors
    ///
    /// There is no file, or it is invalid, or it lacks a protection of the running broker; nothing was changed.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let hub = self.0.upgrade().ok_or(ReloadError::Stopping)?;
        // Locked, so that the last file read is the one in effect.
        let mut applied = hub.reloading.lock().await;
        let renewals = hub.read_certificates().await?;
        let certificates = renewals.changes().len();
        let mut changed: Vec<Change> = renewals.changes().collect();
        let Some(source) = hub.shared.config.source.clone() else {
            if !hub.has_certificates() {
                return Err(ReloadError::NoFile);
            }
            let connections = hub.renew_certificates(renewals).await;
            hub.tell_certificate_warnings();
            let users = hub.shared.access.user_count();
            let reloaded = Reloaded { users, connections, certificates, changed, ..Reloaded::default() };
            reloaded.log();
            return Ok(reloaded);
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
        // These settings of the file may have been overridden by flags.
        let (listen, listeners, open) = (running.listen.clone(), running.listeners.clone(), running.open);
        let together = Config { listen, listeners, open, http: running.http, ..config.clone() };
        if let Some(address) = together.clear_listener() {
            return Err(ReloadError::Clear { address });
        }
        if let Some(address) = together.clear_http() {
            return Err(ReloadError::ClearHttp { address });
        }
        let passwords = hub.shared.logins.replace_records(&config.users).map_err(ReloadError::Threads)?;
        let (new_users, removed_users) = hub.shared.access.user_changes(&config);
        let (keys, mut needs_restart) = changes(&source, applied.as_ref(), &config);
        let in_files = password_file_changes(&keys, (&new_users, &removed_users), &passwords);
        changed.extend(keys);
        changed.extend(in_files);
        let is_limit = |change: &Change| change.key.starts_with("limits.");
        if changed.iter().any(is_limit) {
            let limits = live_limits::reloaded(&config.limits, hub.shared.limits());
            if let Err(live_limits::TooManySets) = hub.shared.live_limits.replace(&limits) {
                needs_restart.extend(changed.extract_if(.., |change| is_limit(change)));
            }
        }
        let taken = hub.replace_access(&config, &passwords).await;
        let untrusted = hub.renew_certificates(renewals).await;
        Counters::add(&hub.shared.counters.reloads, 1);
        hub.tell_certificate_warnings();
        let reloaded = Reloaded {
            users: config.users.len(),
            new_users: new_users.len(),
            removed_users: removed_users.len(),
            subscriptions: taken.subscriptions,
            connections: taken.connections + untrusted,
            certificates,
            changed,
            needs_restart,
        };
        reloaded.log();
        *applied = config.source;
        Ok(reloaded)
    }
}

impl Reloaded {
    fn log(&self) {
        for change in self.changed.iter().take(MAX_LOGGED_CHANGES) {
            tracing::info!("reloaded {change}");
        }
        for change in self.needs_restart.iter().take(MAX_LOGGED_CHANGES) {
            tracing::warn!("needs a restart: {change}");
        }
        if self.needs_restart.is_empty() {
            tracing::info!("{self}");
        } else {
            tracing::warn!("{self}");
        }
    }
}

/// Returns the keys whose changes a reload applies, compared with the file `applied` last, and those that need a restart,
/// compared with the file `started` of the start.
fn changes(
    started: &ConfigSource,
    applied: Option<&ConfigSource>,
    config: &Config,
) -> (Vec<Change>, Vec<Change>) {
    let Some(read) = &config.source else { return (Vec::new(), Vec::new()) };
    let mut now = applied.unwrap_or(started).changes_to(read);
    let mut later = started.changes_to(read);
    now.retain(Change::is_applied);
    later.retain(|change| !change.is_applied());
    (now, later)
}

/// Returns the changes of users that are not changes of a key: those of the password file.
fn password_file_changes(
    keys: &[Change],
    (new, removed): (&BTreeSet<String>, &BTreeSet<String>),
    passwords: &HashSet<String>,
) -> Vec<Change> {
    let is_told = |name: &str| {
        let entry = format!("users[{name}]");
        keys.iter().any(|change| change.key == entry || change.key == format!("{entry}.password"))
    };
    let key = |name: &String| format!("password_file[{name}]");
    let one = || Some("a user".to_owned());
    let mut changes: Vec<Change> = new
        .iter()
        .filter(|name| !is_told(name))
        .map(|name| Change { key: key(name), old: None, new: one() })
        .collect();
    let gone = removed.iter().filter(|name| !is_told(name));
    changes.extend(gone.map(|name| Change { key: key(name), old: one(), new: None }));
    let mut others: Vec<&String> = passwords.iter().filter(|name| !is_told(name)).collect();
    others.retain(|name| !new.contains(*name) && !removed.contains(*name));
    others.sort_unstable();
    changes.extend(others.into_iter().map(|name| Change::hidden(key(name))));
    changes
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
    fn a_reload_is_displayed_in_one_line() {
        let reloaded = Reloaded { users: 2, new_users: 1, connections: 1, ..Reloaded::default() };
        assert_eq!(
            reloaded.to_string(),
            "read users and rules again: 2 users (1 new, 0 removed), 1 connection and 0 subscriptions ended"
        );
        let needs_restart = vec![Change::hidden("threads")];
        let changed = vec![Change::hidden("limits.connections")];
        let reloaded = Reloaded { certificates: 1, changed, needs_restart, ..reloaded };
        let told = reloaded.to_string();
        assert!(
            told.ends_with(
                ", new certificates of 1 listener, 1 limit changed; the other changes need a restart"
            ),
            "{told}"
        );
    }
}
