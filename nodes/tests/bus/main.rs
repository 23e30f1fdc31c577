//! Objects, callers and the registry on a real broker.
//!
//! Without `RANTAI_TEST_BROKER` every test starts an embedded broker of its own. With it they share the broker of that
//! URL, each on a root of topics of its own; what needs to stop the broker is then left to the embedded runs.
//! `RANTAI_TEST_ROOT` is the root instead of `rantai`: whatever is a root has to do. With `RANTAI_TEST_USERS=1` embedded
//! brokers have users and access rules. `support::open` starts a broker without them, for what means nothing there:
//! `caller` that the broker leaves as it was sent (features.rs). session.rs and owners.rs have users of their own.
//! `RANTAI_TEST_TRANSPORT` is the transport by which embedded brokers listen: tcp, tls, ws, wss or unix.

#![allow(clippy::float_cmp, reason = "what goes through JSON comes back exactly")]

mod busy;
mod calls;
mod cancelling;
mod chain;
mod claims;
mod conform;
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
