//! Objects, callers and the registry on a real broker.
//!
//! Environment variables:
//!
//! - `RANTAI_TEST_BROKER`: URL of a broker that all tests share, each with its own root of topics. Tests that stop the
//!   broker are then skipped. Without it, each test starts an embedded broker.
//! - `RANTAI_TEST_ROOT`: root of topics instead of `rantai`; any valid root must work.
//! - `RANTAI_TEST_USERS=1`: embedded brokers have users and access rules, except those of `support::open`, for tests
//!   that make no sense with them, such as a `caller` that the broker does not change (features.rs). session.rs and
//!   owners.rs have users of their own.
//! - `RANTAI_TEST_TRANSPORT`: transport of embedded brokers: tcp, tls, ws, wss or unix.

#![allow(clippy::float_cmp, reason = "what goes through JSON comes back exactly")]

mod adopt;
mod busy;
mod calls;
mod cancelling;
mod chain;
mod claims;
mod conform;
mod device;
mod doubles;
mod features;
mod files;
mod files_growing;
mod files_peers;
#[path = "../../../broker/tests/support/listen.rs"]
mod listen;
mod lost;
mod names;
mod nested;
mod no_room;
mod once;
mod owners;
mod presence;
mod registry;
mod restart;
mod session;
mod shares;
mod site;
mod streams;
mod streams_resumed;
mod support;
mod tasks;
mod unanswered;
mod unasked;
mod users;
