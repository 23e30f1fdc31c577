//! Options of serving an object, and errors of serving.

use rantai_client::session::{SubscribeError, Unsent};
use rantai_client::wire::entry::{EntryError, Mode};
use rantai_client::wire::name::NameError;

use crate::dispatch::Limits;

/// Options of serving an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeOptions {
    /// Whether the name is exclusive, or shared with other replicas.
    pub mode: Mode,
    /// Whether a node that holds an exclusive name is asked to give it up, by the first claim; later ones, after a
    /// reconnect, wait for the end of the holder.
    pub replace: bool,
    /// Limits on the object's calls.
    pub limits: Limits,
}

/// Error of serving an object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The name is not a valid object name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Another node holds the name (-32013), or this node serves it already.
    #[error("{object} is served by node {holder}")]
    Taken {
        /// Name of the object.
        object: String,
        /// Node that holds the name.
        holder: String,
    },
    /// The broker refused a subscription that serving needs.
    #[error(transparent)]
    Refused(SubscribeError),
    /// The registry entry could not be published.
    #[error("cannot register {object}")]
    Unregistered {
        /// Name of the object.
        object: String,
        /// Error of publishing.
        source: Unsent,
    },
    /// The registry entry is too large.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The node has ended.
    #[error("the node has ended")]
    Ended,
}
