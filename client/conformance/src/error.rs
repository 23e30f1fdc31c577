//! Errors of starting an examination.

use rantai_client::ConnectError;
use rantai_client::session::{SubscribeError, Unsent};

/// Error of starting or continuing an examination.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExamineError {
    /// The broker cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker refused a subscription.
    #[error("cannot examine; log in as a user who may call, such as an admin")]
    Subscribe(#[from] SubscribeError),
    /// The broker refused an entry or state of the examiner's own node.
    #[error("cannot serve an object to examine its callers; log in as a user who may serve it")]
    Publish(#[source] Unsent),
    /// No node serves the object.
    #[error(
        "nothing to examine: no node serves {object} on this root; it needs a retained entry {entry} with \"settled\":true, \
         and a retained state {state} with \"ready\" and the same epoch"
    )]
    NotServed {
        /// Name of the object.
        object: String,
        /// Filter of its entries.
        entry: String,
        /// Topic of the state of its node.
        state: String,
    },
    /// Several nodes serve the object.
    #[error("{object} is served by {nodes}; name the node to examine")]
    SeveralNodes {
        /// Name of the object.
        object: String,
        /// Names of the nodes, joined by commas.
        nodes: String,
    },
    /// The entry names a form that only level device allows.
    #[error(
        "the entry of {object} says \"form\":\"json-rpc\", which is of level device; examine it at that level"
    )]
    OnlyDevice {
        /// Name of the object.
        object: String,
    },
    /// No case matches.
    #[error("no case of this role and level has {0:?} in its name")]
    NoCase(String),
    /// The caller under test cannot be started.
    #[error("cannot start {program}")]
    Program {
        /// Path of the program.
        program: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
}
