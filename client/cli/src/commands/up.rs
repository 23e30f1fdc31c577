//! `rantai up`: the broker and all objects, in one process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rantai_broker::{Broker, BrokerThread, Config as BrokerConfig, Engine, Listener, Monitor, Reloader};
use rantai_client::session::Address;
use rantai_client::wire::name::BROKER;
use rantai_site::SiteOptions;
use tokio::time::timeout;

use super::broker::{RIGHT, check, explain, sockets, tell_listeners, tell_strict_choices};
use super::serve::{Objects, failure, serve_until};
use crate::administration::{Administered, EmbeddedBroker};
use crate::backups::{BackupOption, finish_restores};
use crate::configurations::broker_settings;
use crate::connection::{log, note, print, run};
use crate::descriptors::raise_limit;
use crate::embedded::own_broker;
use crate::exit::{Exit, Failure};
use crate::monitoring::{self, HttpOption};
use crate::reload::AtHangup;
use crate::signals::server_stop_signal_or;
use crate::supervisor::Supervisor;
use crate::unserved;

/// Time limit for clients to be notified of the end, after the objects have ended.
const END_TIMEOUT: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  rantai up                        a broker on 127.0.0.1:1883, and the default objects
  rantai up --config library       the objects of a built-in configuration
  rantai up --config ./mine.toml   those of a file
  rantai up --port 0               on a free port; stderr says which
  rantai up --inline               no thread between the broker and the objects
  rantai up --data-dir data        keep sessions, retained messages and tasks in ./data
  rantai up --broker-config ./broker.toml
  rantai up --config ./mine.toml --check   whether a start would take the files

Exit codes: 0 stopped by SIGTERM, Ctrl-C or a terminal that is gone, 1 could not start or lost a connection for good,
2 wrong command line or configuration.";

/// Run the broker and the objects in one process.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Up {
    /// Address the broker listens on, instead of those configured
    #[arg(long, value_name = "ADDR", env = "RANTAI_HOST", hide_env_values = true)]
    host: Option<IpAddr>,
    /// Port the broker listens on, instead of those configured; 0 takes a free one
    #[arg(long, value_name = "N", env = "RANTAI_PORT", hide_env_values = true)]
    port: Option<u16>,
    /// Where the broker keeps sessions and retained messages, and objects what they keep, such as tasks [default: that
    /// of the broker's configuration; without either they are in memory only]
    #[arg(long, value_name = "DIR", env = "RANTAI_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// Listen beyond this machine without users, so that whoever reaches it may do everything: for a lesson
    #[arg(long)]
    open: bool,
    /// Serve the objects on the broker's own thread: calls take half the time, but a method that computes for long or
    /// blocks holds up every client of the broker meanwhile
    #[arg(long)]
    inline: bool,
    /// The broker's settings in TOML
    #[arg(long, value_name = "FILE", env = "RANTAI_CONFIG", hide_env_values = true)]
    broker_config: Option<PathBuf>,
    /// Read the configurations with their users, rules and certificates, say whether a start would take them, and start
    /// nothing
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    backup: BackupOption,
    #[command(flatten)]
    http: HttpOption,
    #[command(flatten)]
    objects: Objects,
}

impl Up {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.check {
            log(tracing::Level::WARN);
            return self.check();
        }
        self.objects.log.begin()?;
        run(self.up())
    }

    /// Checks both configurations, and reports the errors of each.
    fn check(&self) -> Result<(), Failure> {
        // Without the data directory, into which files of a built-in configuration would be written.
        let objects = self.objects.read(&[], None);
        let objects = objects.and_then(|(plan, _folder)| plan.check().map_err(failure));
        let broker = self.broker().and_then(|broker| check(&broker));
        match (objects, broker) {
            (Ok(()), Ok(())) => {
                print(RIGHT);
                Ok(())
            }
            (Err(wrong), Ok(())) | (Ok(()), Err(wrong)) => Err(wrong),
            (Err(objects), Err(broker)) => {
                objects.tell();
                Err(broker)
            }
        }
    }

    async fn up(self) -> Result<(), Failure> {
        let supervisor = Supervisor::of_this_process();
        let at_hangup = AtHangup::new(&supervisor);
        let reload = at_hangup.clone();
        let stop = server_stop_signal_or(move || reload.reload());
        let stop = stop.map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        let mut broker = self.broker()?;
        finish_restores(broker.data_dir.as_deref())?;
        // The objects keep their data where the broker does, also where only its configuration says so.
        let data_dir = broker.data_dir.clone();
        let (mut plan, _folder) = self.objects.read(&[], data_dir.as_deref())?;
        plan.open().map_err(failure)?;
        if self.broker_config.is_none() {
            let root = plan.config.root().map_err(|error| Failure::from_error(Exit::Usage, &error))?;
            broker.bus_roots = vec![root.to_string()];
        }
        raise_limit(broker.limits.connections);
        broker.unserved = Some(unserved::handler(broker.data_dir.is_some()));
        broker.administrative_object = Some(BROKER.to_owned());
        let (choices, sockets) = (broker.strict_choices(), sockets(&broker));
        let has_plain = !broker.listen.is_empty();
        if !has_plain && broker.engine == Engine::Rumqttd {
            broker.listeners.push(for_own_process());
        }
        let (listen, http, settings) = (broker.listen.clone(), broker.http, broker.clone());
        let started = if self.inline {
            Broker::start(broker).await.map(Running::Inline)
        } else {
            // A slow object then does not delay the broker's clients in other processes.
            BrokerThread::start(broker).await.map(Running::Thread)
        };
        let broker = started.map_err(|error| explain(&error, &listen))?;
        at_hangup.reloads(broker.reloader());
        tell_strict_choices(choices);
        let _monitoring = monitoring::start(http, broker.monitor())?;
        let administered = Administered::start(broker.embedded(), &settings.bus_roots).await;
        tell_listeners(broker.addresses(), &sockets);
        supervisor.watch(broker.monitor());
        let addresses = broker.addresses();
        let listener = if has_plain { addresses.first() } else { addresses.last() };
        let mut options = SiteOptions::new(broker.own_address(listener.copied()));
        options.data_dir = data_dir;
        // While its disk fails, the broker answers only some requests: a stop signal cancels the start at any await.
        let mut backups = None;
        let ready = || {
            // All databases are open now.
            backups = self.backup.listen(settings.data_dir.as_deref(), &settings);
            note("ready");
        };
        let end = serve_until(stop, plan, self.objects.complete(options), &supervisor, ready).await;
        let shutdown = async {
            administered.stop().await;
            broker.shutdown().await;
        };
        drop(backups);
        if timeout(END_TIMEOUT, shutdown).await.is_err() {
            tracing::warn!("stopped before every client was told; what was acknowledged is kept");
        }
        end
    }

    fn broker(&self) -> Result<BrokerConfig, Failure> {
        let mut config = match &self.broker_config {
            None => BrokerConfig::default(),
            Some(path) => broker_settings(path)?,
        };
        if self.host.is_some() || self.port.is_some() {
            // A file with only [[listeners]] has no such address.
            let configured =
                config.listen.first().copied().unwrap_or_else(|| BrokerConfig::default().listen[0]);
            let address = (self.host.unwrap_or(configured.ip()), self.port.unwrap_or(configured.port()));
            config.listen = vec![SocketAddr::from(address)];
        }
        if let Some(directory) = &self.data_dir {
            config.data_dir = Some(directory.clone());
        }
        config.open |= self.open;
        self.http.apply(&mut config);
        Ok(config)
    }
}

/// Broker of this process.
enum Running {
    /// On its own thread.
    Thread(BrokerThread),
    /// On the thread of the objects.
    Inline(Broker),
}

impl Running {
    fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Thread(broker) => broker.addresses(),
            Self::Inline(broker) => broker.addresses(),
        }
    }

    fn embedded(&self) -> EmbeddedBroker {
        match self {
            Self::Thread(broker) => broker.into(),
            Self::Inline(broker) => broker.into(),
        }
    }

    fn monitor(&self) -> Option<Monitor> {
        match self {
            Self::Thread(broker) => broker.monitor(),
            Self::Inline(broker) => broker.monitor(),
        }
    }

    fn reloader(&self) -> Option<Reloader> {
        match self {
            Self::Thread(broker) => broker.reloader(),
            Self::Inline(broker) => broker.reloader(),
        }
    }

    /// Returns the address of the broker for the objects, with its local credentials. `listener` is for rumqttd.
    fn own_address(&self, listener: Option<SocketAddr>) -> Address {
        let (connector, credentials) = match self {
            Self::Thread(broker) => (broker.connector(), broker.local_credentials()),
            Self::Inline(broker) => (broker.connector(), broker.local_credentials()),
        };
        own_broker(connector, listener, credentials)
    }

    async fn shutdown(self) {
        match self {
            Self::Thread(broker) => broker.shutdown().await,
            Self::Inline(broker) => broker.shutdown().await,
        }
    }
}

/// Creates a listener for the objects of this process, for rumqttd if no other one speaks plain MQTT over TCP.
fn for_own_process() -> Listener {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Listener { anonymous: Some(false), users: Some(Vec::new()), ..Listener::tcp(address) }
}
