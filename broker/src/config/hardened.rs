//! `hardened = true`: all strict choices at once. Settings that contradict it are errors, so that each line of
//! [`CHOICES`] holds.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::complaint::Complaint;
use super::{Config, Listener, TlsSettings};

/// Meaning of `hardened`, for logging at the start.
const CHOICES: [&str; 5] = [
    "clients without a user are not let in",
    "users take no client ids but their own (NAME and NAME--*, or their client_ids)",
    "other machines reach listeners with TLS alone",
    "other users of this machine may read neither records of passwords nor private keys",
    "wrong passwords are followed by a wait",
];

/// Settings relevant for `hardened`, as in the file.
pub(super) struct Strictness<'a> {
    pub(super) hardened: &'a Option<Spanned<bool>>,
    pub(super) anonymous: &'a Option<Spanned<bool>>,
    /// Whether users who may log in are configured.
    pub(super) has_users: bool,
    /// Whether the configuration itself contains password records.
    pub(super) has_records: bool,
    pub(super) password_file: Option<&'a Path>,
    pub(super) file: &'a Path,
}

impl Strictness<'_> {
    /// Returns whether the file has `hardened`, and refuses settings in `config` that contradict it. Listeners without
    /// TLS are checked when the broker starts.
    pub(super) fn check(&self, config: &Config) -> Result<bool, Complaint> {
        let Some(hardened) = self.hardened.as_ref().filter(|hardened| *hardened.as_ref()) else {
            return Ok(false);
        };
        let refuse = |message: String| Err(Complaint::at(hardened, message));
        if !self.has_users {
            return refuse(
                "nobody could log in; add [[users]] or a password_file, or leave the key out".to_owned(),
            );
        }
        if let Some(anonymous) = self.anonymous.as_ref().filter(|anonymous| *anonymous.as_ref()) {
            let message = "`hardened` lets nobody in without a user; leave out one of the two";
            return Err(Complaint::at(anonymous, message));
        }
        if let Some(listener) = config.listeners.iter().find(|listener| listener.anonymous == Some(true)) {
            return refuse(format!(
                "nobody is let in without a user, but on {} anonymous = true; leave out one of the two",
                listener.endpoint
            ));
        }
        if config.open {
            return refuse("`open` lets everybody in; leave out one of the two".to_owned());
        }
        if config.limits.guess_delay.is_zero() {
            return refuse(
                "with limits.guess_delay_ms = 0 passwords can be guessed as fast as they are checked; leave it out".to_owned(),
            );
        }
        match self.secrets(config).into_iter().find(|path| is_open_to_others(path)) {
            None => Ok(true),
            Some(path) => refuse(format!(
                "others on this machine may read {}; run `chmod o= {}`",
                path.display(),
                path.display()
            )),
        }
    }

    /// Returns the files that contain secrets.
    fn secrets(&self, config: &Config) -> Vec<PathBuf> {
        let beside = |path: &Path| self.file.parent().unwrap_or(Path::new("")).join(path);
        let own = self.has_records.then(|| self.file.to_owned());
        let tls = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let keys = tls.flat_map(TlsSettings::keys).map(ToOwned::to_owned);
        own.into_iter().chain(self.password_file.map(beside)).chain(keys).collect()
    }
}

/// Returns whether users other than the file's owner and group may read or change it; false if the file cannot be
/// inspected, because the error is reported when the file is read.
fn is_open_to_others(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.permissions().mode() & 0o007 != 0)
}

impl Config {
    /// Returns the meaning of `hardened`, one sentence per choice; empty if it is not set.
    pub fn strict_choices(&self) -> &'static [&'static str] {
        if self.hardened { &CHOICES } else { &[] }
    }

    /// Returns the first listener without TLS that other machines can reach, if `hardened` does not allow one.
    pub(crate) fn clear_listener(&self) -> Option<SocketAddr> {
        let clear = self.listeners.iter().filter(|listener| listener.tls.is_none());
        let addresses = self.listen.iter().copied().chain(clear.filter_map(Listener::address));
        let mut beyond = addresses.filter(|address| !address.ip().to_canonical().is_loopback());
        beyond.next().filter(|_| self.hardened)
    }
}
