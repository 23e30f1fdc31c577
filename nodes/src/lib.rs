//! The serving side of Rantai: [`Node`] serves objects, [`dispatch`] is what happens between a request and its
//! reply, [`chain`] passes requests on, [`services`] are the objects that come with it, `gateway` is HTTP in front of
//! them, [`config`] says which of them are to be served, and [`site`] serves them.

mod announce;
pub mod calls;
pub mod chain;
mod commit;
pub mod config;
mod connection;
mod contenders;
pub mod dispatch;
mod expiries;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod imaging;
mod journal;
pub mod kind;
mod links;
mod node;
pub mod services;
pub mod site;
pub mod tasks;

pub use commit::DiskError;
pub use dispatch::Limits;
pub use node::{Builder, Node, NodeError, ServeError, ServeOptions};

/// The program in the README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
