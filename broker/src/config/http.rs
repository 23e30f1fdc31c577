//! `[http]`: the listener for metrics and health.

use std::net::SocketAddr;

use serde::Deserialize;
use toml::Spanned;

use super::Config;
use super::complaint::Complaint;
use super::file::{address, within};

/// Default maximum number of connections.
const DEFAULT_CONNECTIONS: usize = 16;

/// HTTP listener for metrics and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Address to listen on; port 0 picks a free port. Default: 127.0.0.1:9883.
    pub listen: SocketAddr,
    /// Maximum number of simultaneous connections; further ones are closed. Default: 16.
    pub connections: usize,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9_883)), connections: DEFAULT_CONNECTIONS }
    }
}

/// Table `[http]` of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHttp {
    listen: Option<Spanned<String>>,
    connections: Option<Spanned<usize>>,
}

impl WrittenHttp {
    pub(super) fn check(self) -> Result<HttpSettings, Complaint> {
        let default = HttpSettings::default();
        Ok(HttpSettings {
            listen: self.listen.as_ref().map_or(Ok(default.listen), address)?,
            connections: within(self.connections, &(1..=1_024), default.connections)?,
        })
    }
}

impl Config {
    /// Returns the address for metrics if other machines can reach it, which `hardened` does not allow; otherwise
    /// `None`.
    pub(crate) fn clear_http(&self) -> Option<SocketAddr> {
        let address = self.http?.listen;
        (self.hardened && !address.ip().to_canonical().is_loopback()).then_some(address)
    }
}
