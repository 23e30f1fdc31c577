//! `rantai serve`: the objects of the configuration, on any broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rantai_client::Client;
use rantai_client::client::random_id;
use rantai_client::registry::similar;
use rantai_client::wire::entry::Mode;
use rantai_client::wire::name::{ClientId, Root};
use rantai_nodes::config::{Config, Configured, beside};
use rantai_nodes::services::Output;
use rantai_nodes::tasks::{Ledger, LedgerError};
use rantai_nodes::{Limits, Node, ServeError, ServeOptions};
use tempfile::TempDir;

use crate::configurations::{Loaded, advice};
use crate::connection::{Broker, ended, log, note, run, say};
use crate::exit::{Exit, Failure};
use crate::gateway::{self, Gateways};
use crate::signals::server_stop_signal;

/// The object of the ledger.
const TASKS: &str = "tasks";

/// Time for calls under way when the node is told to stop; the process is gone within 10 s.
const PATIENCE: Duration = Duration::from_secs(7);

const EXAMPLES: &str = "\
Examples:
  rantai serve                                         every object of the configuration
  rantai serve example.chainTopology.bandung           this one alone
  rantai serve --config circular                       a built-in configuration
  rantai serve --config ./my-objects.toml              a file
  rantai serve calculator --replica                    together with other nodes
  rantai serve --broker mqtt://ana:secret@pi.local     on a broker elsewhere

Exit codes: 0 stopped by SIGTERM, Ctrl-C or a terminal that is gone,
1 a name is taken or a connection lost for good, 2 wrong command line or configuration, 4 not allowed.";

/// Serve objects on a broker.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    /// Names of objects in the configuration; all of them without any
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    objects: Objects,
    /// Keep here what must be known after a restart: what methods that run only once were asked and answered
    #[arg(long, value_name = "DIR", env = "RANTAI_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// End when stdin does: for whoever starts nodes, and must not leave any behind
    #[arg(long, hide = true)]
    while_input: bool,
    #[command(flatten)]
    broker: Broker,
}

/// Which objects, and how.
#[derive(clap::Args)]
pub(crate) struct Objects {
    /// Objects in TOML: the path of a file, or the name of a built-in configuration (`rantai config ls`)
    #[arg(long, value_name = "FILE|NAME", env = "RANTAI_NODES", hide_env_values = true)]
    config: Option<PathBuf>,
    /// The node's name on the bus; without it the one kept in the data directory, or a random one
    #[arg(long, value_name = "NODE", env = "RANTAI_NODE", hide_env_values = true)]
    node: Option<ClientId>,
    /// Let other nodes serve the same names
    #[arg(long)]
    replica: bool,
    /// Ask whoever holds a name to give it up
    #[arg(long, conflicts_with = "replica")]
    replace: bool,
    /// Log warnings and errors only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Log more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log(self.objects.level());
        run(self.serve())
    }

    async fn serve(self) -> Result<(), Failure> {
        let signal = server_stop_signal().map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        let stop = async {
            tokio::select! {
                signal = signal => signal,
                () = end_of_input(), if self.while_input => "end of input",
            }
        };
        tokio::pin!(stop);
        let (config, mut objects, _folder) = self.objects.read(&self.names, self.data_dir.as_deref())?;
        self.objects.open(&mut objects)?;
        let root = match &config.root {
            Some(_) if self.broker.root == "rantai" => {
                config.root().map_err(|error| Failure::from_error(Exit::Usage, &error))?
            }
            _ => self.broker.root()?,
        };
        let address = self.broker.address()?;
        let data_dir = self.data_dir.as_deref();
        let node = tokio::select! {
            node = self.objects.connect(&config, address.clone(), root.clone(), data_dir) => node?,
            _ = &mut stop => return Ok(()),
        };
        let client = Client::builder(address).root(root);
        let mut gateways = tokio::select! {
            served = self.objects.serve(&node, &config, objects, client, data_dir) => served?,
            // What is served already is known to others.
            _ = &mut stop => {
                node.drain(PATIENCE).await;
                return Ok(());
            }
        };
        let end = serve_until(stop, &node, &mut gateways).await;
        gateways.shutdown().await;
        node.drain(PATIENCE).await;
        end
    }
}

/// Waits for a signal to stop, or for the end of a connection that the process cannot do without. A process that
/// went on without it would look alive and serve nothing.
///
/// # Errors
///
/// Where a connection has ended for good; one that was lost is made again by itself.
pub(crate) async fn serve_until(
    stop: impl Future<Output = &'static str>,
    node: &Node,
    gateways: &mut Gateways,
) -> Result<(), Failure> {
    let mut status = node.status();
    let failed = |text: String| Err(Failure::new(Exit::Failed, text));
    tokio::select! {
        signal = stop => {
            tracing::info!(signal, "stopping");
            Ok(())
        }
        reason = gateways.ended() => failed(format!("the gateways have no connection any more: {reason}")),
        reason = ended(&mut status) => {
            failed(format!("node {} has no connection any more: {reason}", node.name()))
        }
    }
}

impl Objects {
    pub(crate) fn level(&self) -> tracing::Level {
        match (self.quiet, self.verbose) {
            (true, _) => tracing::Level::WARN,
            (false, 0) => tracing::Level::INFO,
            (false, 1) => tracing::Level::DEBUG,
            (false, _) => tracing::Level::TRACE,
        }
    }

    /// The configuration, of its objects those that are named, and the folder of its files, which is removed when
    /// it is dropped.
    pub(crate) fn read(
        &self,
        names: &[String],
        data_dir: Option<&Path>,
    ) -> Result<(Config, Vec<Configured>, Option<TempDir>), Failure> {
        let usage = |error: rantai_nodes::config::ConfigError| Failure::from_config(&error);
        let Loaded { mut config, label, file, folder } = Loaded::read(self.config.as_deref(), data_dir)?;
        let output: Output = Arc::new(say);
        let mut objects = config.objects(&file, &output).map_err(usage)?;
        for name in names {
            let ledger = name == TASKS && config.tasks.is_some();
            if !ledger
                && !gateway::is_there(&config, name)
                && !objects.iter().any(|o| o.name.as_str() == name)
            {
                let known = objects.iter().map(|o| o.name.as_str());
                let meant = match similar(name, known)[..] {
                    [] => advice(name).map(|advice| format!("; {advice}")).unwrap_or_default(),
                    ref meant => format!("; did you mean {}?", meant.join(" or ")),
                };
                return Err(Failure::new(Exit::Usage, format!("{label} has no object {name:?}{meant}")));
            }
        }
        if !names.is_empty() {
            objects.retain(|o| names.iter().any(|name| name == o.name.as_str()));
            config.tasks = config.tasks.filter(|_| names.iter().any(|name| name == TASKS));
            gateway::keep(&mut config, names);
        }
        if let Some(tasks) = &mut config.tasks {
            tasks.file = tasks.file.take().map(|tasks| beside(&file, &tasks));
        }
        if objects.is_empty() && config.tasks.is_none() && !gateway::is_any(&config) {
            return Err(Failure::new(Exit::Usage, format!("{label} has no objects to serve")));
        }
        Ok((config, objects, folder))
    }

    /// Opens what the objects need, before anything is on the bus.
    pub(crate) fn open(&self, objects: &mut [Configured]) -> Result<(), Failure> {
        if let Some(alone) = objects.iter().find(|object| self.replica && object.alone) {
            let text =
                format!("{} is served by one node alone; leave --replica out, or name others", alone.name);
            return Err(Failure::new(Exit::Usage, text));
        }
        for object in objects {
            if let Some(open) = object.open.take() {
                open().map_err(|wrong| Failure::new(Exit::Failed, format!("{}: {wrong}", object.name)))?;
            }
        }
        Ok(())
    }

    /// Connects; waits for a broker that is not there yet.
    pub(crate) async fn connect(
        &self,
        config: &Config,
        address: rantai_client::session::Address,
        root: Root,
        data_dir: Option<&Path>,
    ) -> Result<Arc<Node>, Failure> {
        let name = match &self.node {
            Some(name) => Some(name.clone()),
            None => config.node().map_err(|error| Failure::from_error(Exit::Usage, &error))?,
        };
        let mut builder = Node::builder(address).root(root).patient();
        if let Some(directory) = data_dir {
            std::fs::create_dir_all(directory).map_err(|error| {
                Failure::new(Exit::Usage, format!("cannot make {}: {error}", directory.display()))
            })?;
            builder = builder.journal(directory.join("once.redb"));
        }
        let name = match (name, data_dir) {
            (None, Some(directory)) => Some(kept_name(directory)?),
            (name, _) => name,
        };
        if let Some(name) = name {
            builder = builder.name(name);
        }
        Ok(Arc::new(builder.connect().await?))
    }

    /// Serves the objects; the ledger calls by a client of its own. Where one of them cannot be served the node
    /// has ended. Cancelled, those that are served stay so until the node is drained.
    pub(crate) async fn serve(
        &self,
        node: &Arc<Node>,
        config: &Config,
        objects: Vec<Configured>,
        client: rantai_client::client::Builder,
        data_dir: Option<&Path>,
    ) -> Result<Gateways, Failure> {
        config.calls.bind(client.clone());
        if let Some(tasks) = &config.tasks {
            let file = tasks.file.clone().or_else(|| data_dir.map(|folder| folder.join("tasks.redb")));
            if file.is_none() {
                tracing::warn!("tasks are kept in memory only; --data-dir keeps them on disk");
            }
            let failed = |error: LedgerError| Failure::from_error(Exit::Failed, &error);
            let ledger = Ledger::open(file.as_deref(), tasks.limits()).map_err(failed)?;
            let ledger = ledger.start(client.clone()).await.map_err(failed)?;
            let limits = Limits { concurrent: 1_024, ..Limits::default() };
            let options = ServeOptions { limits, replace: self.replace, ..ServeOptions::default() };
            if let Err(error) = node.serve_with(TASKS, Arc::new(ledger), options).await {
                node.drain(PATIENCE).await;
                return Err(explain(&error));
            }
            note(&format!("serving {TASKS} on node {}", node.name()));
        }
        // All claims at once: each may be contested for a second.
        let mut claims = tokio::task::JoinSet::new();
        for Configured { name, object, mut options, started, .. } in objects {
            if self.replica {
                options.mode = Mode::Replica;
            }
            options.replace = self.replace;
            let node = node.clone();
            claims.spawn(async move {
                node.serve_with(name.as_str(), object, options).await?;
                if let Some(line) = started {
                    say(&line);
                }
                note(&format!("serving {name} on node {}", node.name()));
                Ok::<(), ServeError>(())
            });
        }
        while let Some(claimed) = claims.join_next().await {
            let claimed = claimed.map_err(|error| Failure::from_error(Exit::Failed, &error))?;
            if let Err(error) = claimed {
                claims.shutdown().await;
                node.drain(PATIENCE).await;
                return Err(explain(&error));
            }
        }
        match Gateways::start(config, client).await {
            Ok(gateways) => Ok(gateways),
            Err(failure) => {
                node.drain(PATIENCE).await;
                Err(failure)
            }
        }
    }
}

/// The node's name that is kept in this directory, drawn at the first start.
///
/// With a name of its own at each start, a node that was killed together with its broker would find its names taken:
/// what the registry says of the old one is retained on disk, and its will went with the broker.
fn kept_name(directory: &Path) -> Result<ClientId, Failure> {
    let file = directory.join("node-name");
    let failed = |what: &str, why: &dyn std::fmt::Display| {
        let text =
            format!("cannot {what} {}: {why}; remove it, or name the node with --node", file.display());
        Failure::new(Exit::Failed, text)
    };
    match std::fs::read_to_string(&file) {
        Ok(text) => ClientId::new(text.trim()).map_err(|error| failed("use the node's name in", &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = random_id("node");
            std::fs::write(&file, format!("{name}\n")).map_err(|error| failed("write", &error))?;
            Ok(name)
        }
        Err(error) => Err(failed("read", &error)),
    }
}

/// Ends when nothing more can come on stdin.
async fn end_of_input() {
    let (told, ended) = tokio::sync::oneshot::channel();
    // A thread of its own, which nobody waits for: a read from stdin cannot be called off.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = told.send(());
    });
    let _ = ended.await;
}

fn explain(error: &ServeError) -> Failure {
    match error {
        ServeError::Taken { .. } => {
            let text = format!("{error}; --replace takes it over, --replica serves it together");
            Failure::new(Exit::Failed, text)
        }
        ServeError::Refused(_) | ServeError::Unregistered { .. } => Failure::from_error(Exit::Denied, error),
        _ => Failure::from_error(Exit::Failed, error),
    }
}
