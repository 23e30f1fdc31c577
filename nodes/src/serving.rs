//! How an object is served, and errors of serving.

use rantai_client::session::{SubscribeError, Unsent};
use rantai_client::wire::entry::{EntryError, Mode};
use rantai_client::wire::name::NameError;

use crate::dispatch::Limits;

/// How an object is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeOptions {
    /// Whether the name is exclusive or shared with other replicas.
    pub mode: Mode,
    /// Whether a node that holds an exclusive name is asked to give it up.
    pub replace: bool,
    /// Limits of the object.
    pub limits: Limits,
}

/// An error of serving an object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Not an object name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Another node holds it (-32013), or this one serves it already.
    #[error("{object} is served by node {holder}")]
    Taken {
        /// The name of the object.
        object: String,
        /// The node that holds it.
        holder: String,
    },
    /// The broker does not allow the subscriptions it needs.
    #[error(transparent)]
    Refused(SubscribeError),
    /// The broker does not allow the entry.
    #[error("cannot register {object}")]
    Unregistered {
        /// The name of the object.
        object: String,
        /// The error of publishing.
        source: Unsent,
    },
    /// The entry is too large.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The node has ended.
    #[error("the node has ended")]
    Ended,
}
