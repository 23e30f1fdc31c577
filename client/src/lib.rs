//! The calling side of Rantai, and the wire contract that callers and nodes share.
//!
//! So far the contract, [`wire`], which is PROTOCOL.md in types, and the [`registry`] as a caller sees it.

pub mod registry;
pub mod wire;
