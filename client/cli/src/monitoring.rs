//! The HTTP listener of the broker for metrics and health.

use std::net::SocketAddr;

use rantai_broker::{Config, HttpSettings, Monitor};
use rantai_monitoring::MonitoringServer;

use crate::connection::note;
use crate::exit::Failure;
use crate::listening::{HTTP, cannot_listen};

/// Option of the commands that run a broker.
#[derive(clap::Args)]
pub(crate) struct HttpOption {
    /// Serve metrics and health by HTTP on this address, such as 127.0.0.1:9883
    #[arg(long, value_name = "ADDR:PORT", env = "RANTAI_HTTP", hide_env_values = true)]
    http: Option<SocketAddr>,
}

impl HttpOption {
    /// Sets the address, if it is given, in place of that of the file.
    pub(crate) fn apply(&self, config: &mut Config) {
        if let Some(listen) = self.http {
            config.http = Some(HttpSettings { listen, ..config.http.unwrap_or_default() });
        }
    }
}

/// Starts the server, if there are settings for it, and prints its address. It ends when it is dropped.
pub(crate) fn start(
    settings: Option<HttpSettings>,
    monitor: Option<Monitor>,
) -> Result<Option<MonitoringServer>, Failure> {
    let (Some(settings), Some(monitor)) = (settings, monitor) else { return Ok(None) };
    let server = MonitoringServer::start(settings, monitor)
        .map_err(|error| cannot_listen(&settings.listen, &error, HTTP))?;
    note(&format!("metrics at http://{}/metrics", server.address()));
    Ok(Some(server))
}
