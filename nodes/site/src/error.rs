//! Errors of starting a site, and reasons why it has ended.

use std::net::SocketAddr;
use std::path::PathBuf;

use rantai_client::session::ConnectError;
use rantai_client::wire::name::{ClientId, NameError};

use rantai_nodes::{NodeError, ServeError};
use rantai_tasks::LedgerError;

/// Error of starting a site.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// The configuration has no object, ledger or gateway of this name.
    #[error("the configuration has no object {0:?}")]
    Unknown(String),
    /// An object cannot be a replica.
    #[error("{0} is served by one node alone")]
    Alone(String),
    /// A file or folder of an object cannot be opened.
    #[error("{object}: {reason}")]
    Open {
        /// Name of the object.
        object: String,
        /// The cause.
        reason: String,
    },
    /// The data directory cannot be created.
    #[error("cannot make {}", path.display())]
    DataDir {
        /// Path of the directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file of the node's name cannot be read or written.
    #[error("cannot keep the node's name in {}", file.display())]
    NodeName {
        /// Path of the file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file of the node's name contains no valid name.
    #[error("cannot use the node's name in {}", file.display())]
    WrongNodeName {
        /// Path of the file.
        file: PathBuf,
        /// The cause.
        source: NameError,
    },
    /// The configured name of the node or root of the topics is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The node cannot be started.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The ledger cannot be started.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// An object cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The gateways cannot connect to the broker.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A gateway cannot listen.
    #[error("cannot listen on {address}")]
    Listen {
        /// Section of the gateway in the configuration, such as `rest`.
        section: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// A gateway cannot be started for another reason.
    #[cfg(feature = "gateway")]
    #[error("cannot start the gateway of [{section}]")]
    Gateway {
        /// Section of the gateway in the configuration, such as `rest`.
        section: &'static str,
        /// The cause.
        source: rantai_gateway::GatewayError,
    },
    /// The Pyro gateway cannot be started for another reason.
    #[cfg(feature = "gateway")]
    #[error("cannot start the gateway of [pyro]")]
    Pyro(#[source] rantai_pyro::PyroGatewayError),
}

/// Reason why a site has ended: a connection that it needs has ended permanently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SiteEnd {
    /// Connection of its node, which serves the objects.
    #[error("node {node} has no connection any more: {reason}")]
    Node {
        /// Name of the node.
        node: ClientId,
        /// The cause, for people.
        reason: String,
    },
    /// Connection of its gateways.
    #[error("the gateways have no connection any more: {0}")]
    Gateways(String),
}
