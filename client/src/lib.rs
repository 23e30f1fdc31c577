//! The calling side of Rantai, and the wire contract that callers and nodes share.
//!
//! [`Client`] calls objects by name; [`wire`] defines the types of PROTOCOL.md; [`session`] maintains the connection to the
//! broker; [`registry`] contains which node serves which object; [`object`] defines the trait of served objects, and
//! [`interface`] generates an object, with its typed proxy and schemas, from a trait.

extern crate self as rantai_client;

#[doc(hidden)]
pub mod __private;
pub mod client;
pub mod environment;
mod error;
mod events;
pub mod files;
pub mod object;
mod pending;
mod presence;
mod printable;
mod proxy;
pub mod registry;
pub mod session;
pub mod shares;
#[cfg(test)]
mod simulation;
mod subscription;
pub mod wire;

pub use client::Client;
pub use environment::Environment;
pub use error::{CallError, error_chain};
pub use events::{Events, Received};
pub use printable::{hex, printable, printable_lines, steers};
pub use proxy::{Answers, Content, Items, Opened, Proxy, Request, Response};
pub use rantai_client_macros::interface;
#[doc(hidden)]
pub use rantai_client_macros::interface_of_rantai;
/// Crate for the JSON Schemas of parameters and results.
pub use schemars;
pub use session::ConnectError;
pub use subscription::Subscription;
