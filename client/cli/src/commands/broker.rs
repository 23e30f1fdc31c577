//! `rantai broker`: the embedded broker as a process.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rantai_broker::{Config, Endpoint, StartError};
use rantai_client::wire::name::BROKER;
use tracing::Level;

use crate::administration::{Administered, EmbeddedBroker};
use crate::backups::{BackupOption, finish_restores};
use crate::configurations::broker_settings;
use crate::connection::{log, note, print, run};
use crate::container::is_in_container;
use crate::descriptors::raise_limit;
use crate::exit::{Exit, Failure};
use crate::listening::{LISTENER, OPTIONS, cannot_listen, cannot_listen_on_socket};
use crate::logging::LogOptions;
use crate::monitoring::{self, HttpOption};
use crate::reload::AtHangup;
use crate::signals::server_stop_signal_or;
use crate::supervisor::Supervisor;
use crate::unserved;

/// Time limit for notifying clients and flushing state: the process ends within two seconds of a SIGTERM.
const SHUTDOWN_CAP: Duration = Duration::from_millis(1_800);

/// Result of a check that has found nothing wrong.
pub(super) const RIGHT: &str = "the configuration is right";

const EXAMPLES: &str = "\
Examples:
  rantai broker                                 127.0.0.1:1883, everything in memory
  rantai broker --data-dir data                 keep sessions and retained messages in ./data
  rantai broker --config ./broker.toml          settings of a file
  rantai config show broker > broker.toml       every setting with its default
  rantai broker --port 0                        a free port; stderr says which
  rantai broker --config ./broker.toml --check  whether a start would take the file

Exit codes: 0 stopped by SIGTERM, Ctrl-C or a terminal that is gone,
1 could not start, 2 wrong command line or configuration.";

/// Run the MQTT broker: versions 3.1, 3.1.1 and 5 on one port.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Broker {
    /// Settings in TOML; flags and environment variables win over it
    #[arg(long, value_name = "FILE", env = "RANTAI_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Address to listen on, instead of those configured
    #[arg(long, value_name = "ADDR", env = "RANTAI_HOST", hide_env_values = true)]
    host: Option<IpAddr>,
    /// Port to listen on, instead of those configured; 0 takes a free one
    #[arg(long, value_name = "N", env = "RANTAI_PORT", hide_env_values = true)]
    port: Option<u16>,
    /// Where to keep sessions and retained messages; without it they are in memory only
    #[arg(long, value_name = "DIR", env = "RANTAI_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// Listen beyond this machine without users, so that whoever reaches it may do everything: for a lesson
    #[arg(long)]
    open: bool,
    /// Read the configuration with its users, rules and certificates, say whether a start would take them, and start nothing
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    backup: BackupOption,
    #[command(flatten)]
    http: HttpOption,
    #[command(flatten)]
    log: LogOptions,
}

impl Broker {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.check {
            // Without the log file, which a check does not write.
            log(Level::WARN);
            check(&self.configuration()?)?;
            print(RIGHT);
            return Ok(());
        }
        self.log.begin()?;
        let config = self.configuration()?;
        run(serve(config, self.backup))
    }

    /// Returns the settings of the file, or the defaults, overridden by flags and environment.
    fn configuration(&self) -> Result<Config, Failure> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => broker_settings(path)?,
        };
        if self.host.is_some() || self.port.is_some() {
            // A file with only [[listeners]] has no such address.
            let configured = config.listen.first().copied().unwrap_or_else(|| Config::default().listen[0]);
            let host = self.host.unwrap_or(configured.ip());
            let port = self.port.unwrap_or(configured.port());
            config.listen = vec![SocketAddr::new(host, port)];
        }
        if let Some(directory) = &self.data_dir {
            config.data_dir = Some(directory.clone());
        }
        config.open |= self.open;
        self.http.apply(&mut config);
        config.unserved = Some(unserved::handler(config.data_dir.is_some()));
        config.administrative_object = Some(BROKER.to_owned());
        Ok(config)
    }
}

/// Checks what a start checks before it listens; the files that the configuration names are read.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    config.check().map_err(|error| explain(&error, &config.listen))
}

async fn serve(config: Config, backup: BackupOption) -> Result<(), Failure> {
    // Installed before the start, so that a signal during the start is not lost.
    let supervisor = Supervisor::of_this_process();
    let at_hangup = AtHangup::new(&supervisor);
    let reload = at_hangup.clone();
    let stop = server_stop_signal_or(move || reload.reload());
    let stop = stop.map_err(|error| Failure::from_error(Exit::Failed, &error))?;
    raise_limit(config.limits.connections);
    let (choices, sockets) = (config.strict_choices(), sockets(&config));
    let (listen, http, roots) = (config.listen.clone(), config.http, config.bus_roots.clone());
    let settings = config.clone();
    finish_restores(config.data_dir.as_deref())?;
    let broker = rantai_broker::Broker::start(config).await.map_err(|error| explain(&error, &listen))?;
    at_hangup.reloads(broker.reloader());
    tell_strict_choices(choices);
    let _monitoring = monitoring::start(http, broker.monitor())?;
    let administered = Administered::start(EmbeddedBroker::from(&broker), &roots).await;
    let _backups = backup.listen(settings.data_dir.as_deref(), &settings);
    tell_listeners(broker.addresses(), &sockets);
    supervisor.watch(broker.monitor());
    supervisor.ready();
    let signal = stop.await;
    supervisor.stopping();
    tracing::info!(signal, "stopping");
    let shutdown = async {
        administered.stop().await;
        broker.shutdown().await;
    };
    if tokio::time::timeout(SHUTDOWN_CAP, shutdown).await.is_err() {
        tracing::warn!("stopped before every client was told; what was acknowledged is kept");
    }
    Ok(())
}

/// Returns the unix sockets of a configuration.
pub(super) fn sockets(config: &Config) -> Vec<PathBuf> {
    let paths = config.listeners.iter().filter_map(|listener| match &listener.endpoint {
        Endpoint::Unix { path, .. } => Some(path.clone()),
        Endpoint::Tcp(_) => None,
    });
    paths.collect()
}

/// Prints the addresses and sockets that the broker listens on.
pub(super) fn tell_listeners(addresses: &[SocketAddr], sockets: &[PathBuf]) {
    for address in addresses {
        note(&format!("listening on {address}"));
    }
    for path in sockets {
        note(&format!("listening on unix:{}", path.display()));
    }
}

/// Prints the settings that `hardened` implies.
pub(super) fn tell_strict_choices(choices: &[&str]) {
    for choice in choices {
        note(&format!("hardened: {choice}"));
    }
}

/// Creates the error of a broker that cannot start, with advice; `listen` are the addresses that its options set.
pub(super) fn explain(error: &StartError, listen: &[SocketAddr]) -> Failure {
    match error {
        StartError::Bind { address, source } => {
            let setting = if listen.contains(address) { OPTIONS } else { LISTENER };
            cannot_listen(address, source, setting)
        }
        StartError::Socket { path, source } => cannot_listen_on_socket(&path.display(), source),
        StartError::Open { address } => {
            Failure::from_error(Exit::Usage, error).and_then_say(&ways_out(address.port(), is_in_container()))
        }
        StartError::Clear { .. } => {
            let ways = "; give the listener `protocol = \"tls\"`, or an address of this machine alone";
            Failure::from_error(Exit::Usage, error).and_then_say(ways)
        }
        StartError::ClearHttp { .. } => {
            Failure::from_error(Exit::Usage, error).and_then_say("; give it an address of this machine alone")
        }
        StartError::Twice { .. } => Failure::from_error(Exit::Usage, error),
        error => Failure::from_error(Exit::Failed, error),
    }
}

/// Returns what to do if every client would have access to everything.
fn ways_out(port: u16, in_container: bool) -> String {
    let ways =
        "; `rantai init site` writes a configuration with TLS and [[users]], or, for a lesson, say --open";
    if !in_container {
        return ways.to_owned();
    }
    let port = if port == 0 { 1883 } else { port };
    format!(
        "{ways}; this is a container: mount such a site (`-v ./site:/site`) and start with /site/broker.toml, or say --open and \
         publish the port to its own machine alone (`-p 127.0.0.1:{port}:{port}`)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_in_a_container_differs_from_that_on_a_host() {
        let (plain, contained) = (ways_out(1883, false), ways_out(1884, true));
        for ways in [&plain, &contained] {
            assert!(ways.contains("`rantai init site`") && ways.contains("--open"), "{ways}");
        }
        assert!(!plain.contains("container"), "{plain}");
        assert!(
            contained.contains("-p 127.0.0.1:1884:1884") && contained.contains("-v ./site:/site"),
            "{contained}"
        );
    }
}
