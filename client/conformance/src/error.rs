//! Why an examination could not begin.

use rantai_client::ConnectError;
use rantai_client::session::{SubscribeError, Unsent};

/// Why an examination could not begin, or go on.
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
    /// Nobody serves the object.
    #[error(
        "nothing to examine: no node serves {object} on this root; it needs a retained entry {entry} with \"settled\":true, \
         and a retained state {state} with \"ready\" and the same epoch"
    )]
    NotServed {
        /// The object.
        object: String,
        /// Filter of its entries.
        entry: String,
        /// Topic of the state of its node.
        state: String,
    },
    /// Several nodes serve it.
    #[error("{object} is served by {nodes}; name the node to examine")]
    SeveralNodes {
        /// The object.
        object: String,
        /// The nodes, joined by commas.
        nodes: String,
    },
    /// The form of the entry is of level device alone.
    #[error(
        "the entry of {object} says \"form\":\"json-rpc\", which is of level device; examine it at that level"
    )]
    OnlyDevice {
        /// The object.
        object: String,
    },
    /// No case matches.
    #[error("no case of this role and level has {0:?} in its name")]
    NoCase(String),
    /// The caller under test cannot be started.
    #[error("cannot start {program}")]
    Program {
        /// The program.
        program: String,
        /// Error of the system.
        source: std::io::Error,
    },
}
