//! Conformance tests of implementations of PROTOCOL.md, on any broker and in any language.
//!
//! The cases are `docs/protocol/cases/*.json`: messages to send, messages to expect, and time limits.
//! [`cases`](cases()) returns them, [`Examination`] runs them against a node, a caller or a link of a chain, and each
//! [`Verdict`] names the sentence of PROTOCOL.md that was violated. Both `rantai conform` and the tests of the
//! libraries use this crate.

mod caller;
mod cases;
mod check;
mod contract;
mod description;
mod error;
mod examination;
mod placeholders;
mod registry;
mod steps;
mod verdict;
mod wire;

pub use caller::Calling;
pub use cases::{Case, Level, Role, cases};
pub use contract::{Place, places};
pub use error::ExamineError;
pub use examination::Examination;
pub use verdict::{Problem, Verdict};
