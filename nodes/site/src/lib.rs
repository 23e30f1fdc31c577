//! Sites: a configuration's objects on one node, its ledger and its gateways, started and shut down together.
//!
//! ```no_run
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use rantai_site::config::Config;
//! use rantai_site::{Plan, Site, SiteOptions};
//!
//! let file = "nodes.toml";
//! let config = Config::load(file.as_ref())?;
//! let plan = Plan::new(config, file, Arc::new(|line| println!("{line}")))?;
//! let mut site = Site::start(plan, SiteOptions::new("mqtt://localhost".parse()?)).await?;
//! tokio::select! {
//!     reason = site.ended() => eprintln!("{reason}"),
//!     () = std::future::pending() => {} // a signal
//! }
//! site.shutdown().await;
//! # Ok(())
//! # }
//! ```

pub mod config;
mod error;
mod gateways;
mod name;
mod plan;
mod predecessors;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rantai_client::Client;
use rantai_client::client::own_id;
use rantai_client::session::{Address, Status};
use rantai_client::wire::name::{ClientId, Root};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

pub use error::{SiteEnd, SiteError};
pub use plan::Plan;
use rantai_group_commit::Layout;

use gateways::Gateways;
use name::kept_name;
use plan::TASKS;

use crate::config::Configured;
use rantai_nodes::{Limits, Node, ServeError, ServeOptions};
use rantai_tasks::{Ledger, LedgerObject};

/// Maximum number of concurrent calls of the ledger; most of them wait for the end of a task.
const LEDGER_CALLS: usize = 1_024;
/// Time limit for the node to leave the registry, in addition to that of running calls.
const LEAVE: Duration = Duration::from_secs(2);

/// Broker of a site, and options of serving it.
#[derive(Clone)]
#[non_exhaustive]
pub struct SiteOptions {
    /// Address of the broker.
    pub address: Address,
    /// Root of all topics; `None` for that of the configuration.
    pub root: Option<Root>,
    /// Name of the node on the bus. `None` for that of the configuration, else the one stored in the data directory, else a
    /// random one that begins with the host's name. What former nodes of the same objects, host and user have left in
    /// the registry is cleared then.
    pub node: Option<ClientId>,
    /// Directory for the node's name, the journal of `once` methods and the ledger; created if it does not exist. `None` to
    /// keep them in memory only.
    pub data_dir: Option<PathBuf>,
    /// Time limit for running calls when the site ends. Default: 7 s.
    pub patience: Duration,
    /// Called with the progress of the start.
    pub report: Arc<dyn Fn(SiteEvent) + Send + Sync>,
}

impl SiteOptions {
    /// Creates the default options for this broker.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            root: None,
            node: None,
            data_dir: None,
            patience: Duration::from_secs(7),
            report: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for SiteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SiteOptions").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Progress of the start. `Display` formats it for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SiteEvent {
    /// An object is registered and callable.
    Serving {
        /// Name of the object.
        object: String,
        /// Name of the node.
        node: ClientId,
    },
    /// A gateway is listening.
    Listening {
        /// Protocol: `REST`, `SOAP` or `Pyro`.
        protocol: &'static str,
        /// Address that the gateway listens on.
        address: SocketAddr,
        /// Whether the gateway uses TLS.
        secure: bool,
    },
}

impl fmt::Display for SiteEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving { object, node } => write!(f, "serving {object} on node {node}"),
            Self::Listening { protocol: "Pyro", address, secure } => {
                write!(f, "Pyro on {address}{}", if *secure { " by TLS" } else { "" })
            }
            Self::Listening { protocol, address, secure } => {
                let scheme = if *secure { "https" } else { "http" };
                write!(f, "{protocol} on {scheme}://{address}")
            }
        }
    }
}

/// Layouts of the databases that a site keeps: of the ledger, of objects, and of the journal.
pub const LAYOUTS: [&Layout; 4] = [
    &rantai_tasks::LEDGER_LAYOUT,
    &rantai_systems::insult::store::LAYOUT,
    &rantai_imaging::STATE_LAYOUT,
    &rantai_nodes::JOURNAL_LAYOUT,
];

/// Node with the objects, the ledger and the gateways of a [`Plan`].
///
/// When a site is dropped without [`shutdown`](Self::shutdown), the registry shows its objects as lost.
#[derive(Debug)]
pub struct Site {
    node: Arc<Node>,
    client: rantai_client::client::Builder,
    gateways: Gateways,
    options: SiteOptions,
    /// Whether the node's name was drawn: after the next start it is another one.
    drawn: bool,
    /// The task that clears what former nodes have left; it ends with the site.
    clearing: JoinSet<()>,
}

impl Site {
    /// Connects and serves everything: [`connect`](Self::connect), then [`serve`](Self::serve). To be able to cancel the start
    /// in order, call these two.
    ///
    /// # Errors
    ///
    /// Those of the two functions.
    pub async fn start(mut plan: Plan, options: SiteOptions) -> Result<Self, SiteError> {
        let mut site = Self::connect(&mut plan, options).await?;
        site.serve(plan).await?;
        Ok(site)
    }

    /// Opens what the objects need and connects the node; waits until the broker can be reached. Nothing is served yet.
    /// Cancelling leaves nothing behind.
    ///
    /// # Errors
    ///
    /// An object's files or the data directory cannot be opened, or the broker refuses the connection.
    pub async fn connect(plan: &mut Plan, options: SiteOptions) -> Result<Self, SiteError> {
        plan.open()?;
        let config = &plan.config;
        let root = options.root.clone().map_or_else(|| config.root(), Ok)?;
        let mut name = options.node.clone().map_or_else(|| config.node(), |name| Ok(Some(name)))?;
        let mut builder =
            Node::builder(options.address.clone()).root(root.clone()).patient().calls(config.calls.clone());
        builder = builder.admins(config.admins.clone());
        if let Some(path) = &options.data_dir {
            rantai_group_commit::make_private_folder(path)
                .map_err(|source| SiteError::DataDir { path: path.clone(), source })?;
            builder = builder.journal(path.join("once.redb"));
            let kept = || kept_name(path).map(|name| own_id(options.address.user(), name));
            name = Some(name.map_or_else(kept, Ok)?);
        }
        let drawn = name.is_none();
        builder = match name {
            Some(name) => builder.name(name),
            None => builder.name_prefix(&predecessors::name_prefix(&plan.names())),
        };
        let node = Arc::new(builder.connect().await?);
        let client = Client::builder(options.address.clone()).root(root).secondary();
        Ok(Self { node, client, gateways: Gateways::default(), options, drawn, clearing: JoinSet::new() })
    }

    /// Serves the ledger and the objects, then the gateways, and waits until all of them can be called.
    ///
    /// When cancelled, those that are served already stay so until [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    ///
    /// One of them cannot be served; then nothing is served, and the node has ended.
    pub async fn serve(&mut self, plan: Plan) -> Result<(), SiteError> {
        let served = self.serve_all(plan).await;
        if served.is_err() {
            self.node.drain(self.options.patience).await;
        }
        served
    }

    async fn serve_all(&mut self, plan: Plan) -> Result<(), SiteError> {
        // Opened before any name is claimed, as it may fail.
        let ledger = self.open_ledger(&plan).await?;
        let call_limits = plan.config.call_limits;
        let Plan { objects, output, .. } = plan;
        // Claims all names concurrently, as each claim may be contested for a second.
        let mut claims = JoinSet::new();
        if let Some(ledger) = ledger {
            let (node, report) = (self.node.clone(), self.options.report.clone());
            let limits = call_limits.apply(Limits { concurrent: LEDGER_CALLS, ..Limits::default() });
            let options = ServeOptions { limits, replace: plan.replace, ..ServeOptions::default() };
            claims.spawn(async move {
                node.serve_with(TASKS, Arc::new(ledger), options).await?;
                report(SiteEvent::Serving { object: TASKS.to_owned(), node: node.name().clone() });
                Ok::<(), ServeError>(())
            });
        }
        for Configured { name, object, mut options, started, .. } in objects {
            options.limits = call_limits.apply(options.limits);
            let (node, output, report) = (self.node.clone(), output.clone(), self.options.report.clone());
            claims.spawn(async move {
                node.serve_with(name.as_str(), object, options).await?;
                if let Some(line) = started {
                    output(&line);
                }
                report(SiteEvent::Serving { object: name.to_string(), node: node.name().clone() });
                Ok(())
            });
        }
        while let Some(claimed) = claims.join_next().await {
            let claimed = claimed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            if let Err(error) = claimed {
                claims.shutdown().await;
                return Err(error.into());
            }
        }
        #[cfg(feature = "gateway")]
        {
            let report = self.options.report.clone();
            let client = self.client.clone();
            self.gateways =
                Gateways::start(&plan.config, client, self.node.clone(), |event| report(event)).await?;
        }
        if self.drawn {
            self.clearing.spawn(predecessors::clear(self.client.clone(), self.node.name().clone()));
        }
        Ok(())
    }

    /// Opens the configured ledger and starts it; the ledger calls objects over a connection of its own.
    async fn open_ledger(&self, plan: &Plan) -> Result<Option<LedgerObject>, SiteError> {
        let Some(tasks) = &plan.config.tasks else { return Ok(None) };
        let file = plan.ledger_file(self.options.data_dir.as_deref());
        if file.is_none() {
            tracing::warn!("tasks are kept in memory only; --data-dir keeps them on disk");
        }
        let ledger = Ledger::open(file.as_deref(), tasks.limits())?.admins(plan.config.admins.clone());
        Ok(Some(ledger.start(self.client.clone()).await?))
    }

    /// Returns the node that serves the objects.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Waits until a connection that the site needs has ended permanently, and returns which one and the reason. Lost
    /// connections are reestablished in the meantime. May be cancelled, and called again.
    ///
    /// Shut the site down then: a process that went on without the connection would look alive and serve nothing.
    pub async fn ended(&mut self) -> SiteEnd {
        let mut status = self.node.status();
        tokio::select! {
            reason = self.gateways.ended() => SiteEnd::Gateways(reason),
            reason = ended(&mut status) => SiteEnd::Node { node: self.node.name().clone(), reason },
        }
    }

    /// Shuts down the gateways, then the node: no new calls are accepted, running ones have [`SiteOptions::patience`] to end,
    /// together with the requests of gateways, and the registry entries are removed. If the broker does not respond, this gives up 2 s after that time.
    pub async fn shutdown(self) {
        let Self { node, options, .. } = self;
        let began = Instant::now();
        #[cfg(feature = "gateway")]
        self.gateways.shutdown().await;
        // The gateways and the node share the time.
        let patience = options.patience.saturating_sub(began.elapsed()).max(options.patience.min(LEAVE));
        if timeout(patience + LEAVE, node.drain(patience)).await.is_err() {
            tracing::warn!("stopped before the registry was told");
        }
    }
}

/// Waits until a session has ended for good, and returns the reason.
async fn ended(status: &mut watch::Receiver<Status>) -> String {
    match status.wait_for(|status| matches!(status, Status::Ended(_))).await.as_deref() {
        Ok(Status::Ended(reason)) => reason.clone(),
        _ => "the session has ended".to_owned(),
    }
}
