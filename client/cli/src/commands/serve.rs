//! `rantai serve`: serves the objects of a configuration, on any broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rantai_client::registry::similar;
use rantai_client::wire::name::ClientId;
use rantai_nodes::ServeError;
use rantai_site::{Plan, Site, SiteEnd, SiteError, SiteOptions};
use tempfile::TempDir;

use crate::backups::{BackupOption, finish_restores};
use crate::configurations::{Loaded, advice};
use crate::connection::{Broker, note, run, say};
use crate::exit::{Exit, Failure};
use crate::listening::{self, cannot_listen};
use crate::logging::LogOptions;
use crate::signals::server_stop_signal;
use crate::supervisor::Supervisor;

const EXAMPLES: &str = "\
Examples:
  rantai serve                                         every object of the configuration
  rantai serve example.chainTopology.bandung           this one alone
  rantai serve --config circular                       a built-in configuration
  rantai serve --config ./my-objects.toml              a file
  rantai serve calculator --replica                    together with other nodes
  rantai serve --context school                        on a broker elsewhere

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
    /// Folder for what must survive a restart: the node's name, and the calls of methods that run only once, with their
    /// results
    #[arg(long, value_name = "DIR", env = "RANTAI_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    backup: BackupOption,
    /// End when stdin is closed: for programs that start nodes and must not leave any behind
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
    /// The node's name on the bus; without it the one kept in the data directory, or one of the host's name and a random end
    #[arg(long, value_name = "NODE", env = "RANTAI_NODE", hide_env_values = true)]
    node: Option<ClientId>,
    /// Let other nodes serve the same names
    #[arg(long)]
    replica: bool,
    /// Ask whoever holds a name to give it up, when it is served first
    #[arg(long, conflicts_with = "replica")]
    replace: bool,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.objects.log.begin()?;
        run(self.serve())
    }

    async fn serve(self) -> Result<(), Failure> {
        let supervisor = Supervisor::of_this_process();
        let signal = server_stop_signal().map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        let stop = async {
            tokio::select! {
                signal = signal => signal,
                () = end_of_input(), if self.while_input => "end of input",
            }
        };
        finish_restores(self.data_dir.as_deref())?;
        let (mut plan, _folder) = self.objects.read(&self.names, self.data_dir.as_deref())?;
        plan.open().map_err(failure)?;
        let mut broker = self.broker;
        broker.complete(&plan.config);
        let mut options = SiteOptions::new(broker.address()?);
        options.root = Some(broker.root()?);
        options.data_dir.clone_from(&self.data_dir);
        supervisor.watch(None);
        let mut backups = None;
        let ready =
            || backups = self.backup.listen(self.data_dir.as_deref(), &rantai_broker::Config::default());
        let end = serve_until(stop, plan, self.objects.complete(options), &supervisor, ready).await;
        drop(backups);
        end
    }
}

/// Serves until `stop` completes, which may be during the start, or until the site has lost a connection that it needs: a
/// process that went on without it would look alive and serve nothing. Calls `ready` once everything is served, and tells
/// the service manager.
pub(crate) async fn serve_until(
    stop: impl Future<Output = &'static str>,
    mut plan: Plan,
    options: SiteOptions,
    supervisor: &Supervisor,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    tokio::pin!(stop);
    let mut site = tokio::select! {
        site = Site::connect(&mut plan, options) => site.map_err(failure)?,
        _ = &mut stop => return Ok(()),
    };
    let served = tokio::select! {
        served = site.serve(plan) => {
            served.map_err(failure)?;
            true
        }
        // Stopped during the start; the objects that are served already are shut down below.
        _ = &mut stop => false,
    };
    let mut end = Ok(());
    if served {
        ready();
        supervisor.ready();
        tokio::select! {
            signal = stop => tracing::info!(signal, "stopping"),
            reason = site.ended() => end = Err(ended(&reason)),
        }
    }
    supervisor.stopping();
    site.shutdown().await;
    end
}

/// Creates the failure of a site that has ended, with advice about its node.
fn ended(reason: &SiteEnd) -> Failure {
    let failure = Failure::from_error(Exit::Failed, reason);
    match reason {
        SiteEnd::Node { .. } => failure.and_then_say(
            "; the id is that of --node or RANTAI_NODE, else `node` in nodes.toml, else the one that the data directory keeps, \
             also in a copy of it",
        ),
        _ => failure,
    }
}

impl Objects {
    /// Reads the objects to serve: all of the configuration, or those that are named. Also returns the folder of its files, which
    /// is removed when dropped.
    pub(crate) fn read(
        &self,
        names: &[String],
        data_dir: Option<&Path>,
    ) -> Result<(Plan, Option<TempDir>), Failure> {
        let Loaded { config, label, file, folder } = Loaded::read(self.config.as_deref(), data_dir)?;
        let mut plan =
            Plan::new(config, &file, Arc::new(say)).map_err(|error| Failure::from_config(&error))?;
        if !names.is_empty() {
            plan.keep(names).map_err(|error| match error {
                SiteError::Unknown(name) => unknown(&label, &name, &plan.names()),
                error => failure(error),
            })?;
        }
        if plan.names().is_empty() {
            return Err(Failure::new(Exit::Usage, format!("{label} has no objects to serve")));
        }
        if self.replica {
            plan.serve_as_replicas().map_err(failure)?;
        }
        if self.replace {
            plan.replace_holders();
        }
        Ok((plan, folder))
    }

    /// Adds the node's name, and a report that prints the progress of the start.
    pub(crate) fn complete(&self, mut options: SiteOptions) -> SiteOptions {
        options.node.clone_from(&self.node);
        options.report = Arc::new(|event| note(&event.to_string()));
        options
    }
}

/// Creates the error for a name that is not in the configuration.
fn unknown(label: &str, name: &str, known: &[String]) -> Failure {
    let meant = match similar(name, known.iter().map(String::as_str))[..] {
        [] => advice(name).map(|advice| format!("; {advice}")).unwrap_or_default(),
        ref meant => format!("; did you mean {}?", meant.join(" or ")),
    };
    Failure::new(Exit::Usage, format!("{label} has no object {name:?}{meant}"))
}

/// Waits until stdin is closed.
async fn end_of_input() {
    let (told, ended) = tokio::sync::oneshot::channel();
    // On a detached thread, as a read from stdin cannot be cancelled.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = told.send(());
    });
    let _ = ended.await;
}

/// Creates the error of a site that cannot start, with advice.
pub(crate) fn failure(error: SiteError) -> Failure {
    let exit = match error {
        SiteError::Node(error) => return error.into(),
        SiteError::Connect(error) => return error.into(),
        SiteError::Alone(_) => {
            return Failure::new(Exit::Usage, format!("{error}; leave --replica out, or name others"));
        }
        SiteError::NodeName { .. } | SiteError::WrongNodeName { .. } => {
            return Failure::from_error(Exit::Failed, &error)
                .and_then_say("; remove it, or name the node with --node");
        }
        SiteError::Listen { section, address, source } => {
            return cannot_listen(&address, &source, listening::gateway(section));
        }
        SiteError::Serve(ServeError::Taken { .. }) => {
            let text = format!("{error}; --replace takes it over, --replica serves it together");
            return Failure::new(Exit::Failed, text);
        }
        SiteError::Serve(ServeError::Refused(_) | ServeError::Unregistered { .. }) => Exit::Denied,
        SiteError::Name(_) | SiteError::DataDir { .. } => Exit::Usage,
        _ => Exit::Failed,
    };
    Failure::from_error(exit, &error)
}
