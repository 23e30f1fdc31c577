//! The serving side of Rantai: [`Node`] serves objects, [`dispatch`] handles a request up to its reply, [`chain`] forwards
//! requests, and [`kind`] builds objects from the entries of a configuration.
//!
//! Without the feature `journal`, methods marked `once` are refused; with it, their calls are recorded in a database.

mod announcer;
mod bus;
pub mod chain;
mod claim;
mod connection;
mod contenders;
pub mod dispatch;
mod doubles;
mod expiries;
#[cfg(feature = "journal")]
mod journal;
mod keeper;
pub mod kind;
mod links;
mod liveness;
mod node;
mod replicas;
mod serving;
#[cfg(test)]
mod simulation;
mod stamps;

pub use dispatch::Limits;
#[cfg(feature = "journal")]
pub use journal::LAYOUT as JOURNAL_LAYOUT;
pub use node::{Builder, Node, NodeError};
#[cfg(feature = "journal")]
pub use rantai_commit::DiskError;
pub use serving::{ServeError, ServeOptions};

/// The program in docs/streams.md, as a test.
#[cfg(doctest)]
#[doc = include_str!("../../docs/streams.md")]
struct Streams;
