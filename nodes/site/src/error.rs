//! Errors of a site: why it does not start, and why it has ended.

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
    /// A name that the configuration does not have.
    #[error("the configuration has no object {0:?}")]
    Unknown(String),
    /// An object that cannot be a replica.
    #[error("{0} is served by one node alone")]
    Alone(String),
    /// A file or folder of an object cannot be opened.
    #[error("{object}: {reason}")]
    Open {
        /// The object's name.
        object: String,
        /// The cause.
        reason: String,
    },
    /// The data directory cannot be made.
    #[error("cannot make {}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file of the node's name cannot be read or written.
    #[error("cannot keep the node's name in {}", file.display())]
    NodeName {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file of the node's name holds something else.
    #[error("cannot use the node's name in {}", file.display())]
    WrongNodeName {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: NameError,
    },
    /// The configured name of the node or root of the topics is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The node does not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The ledger does not start.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// An object cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The gateways have no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A gateway cannot listen.
    #[error("cannot listen on {address}")]
    Listen {
        /// Its section of the configuration, as in `rest`.
        section: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// A gateway does not start for any other reason.
    #[cfg(feature = "gateway")]
    #[error("cannot start the gateway of [{section}]")]
    Gateway {
        /// Its section of the configuration, as in `rest`.
        section: &'static str,
        /// The cause.
        source: rantai_gateway::GatewayError,
    },
}

/// Reason why a site has ended: a connection that it needs has ended permanently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SiteEnd {
    /// Connection of its node, which serves the objects.
    #[error("node {node} has no connection any more: {reason}")]
    Node {
        /// The node's name.
        node: ClientId,
        /// The cause, for people.
        reason: String,
    },
    /// Connection of its gateways.
    #[error("the gateways have no connection any more: {0}")]
    Gateways(String),
}
