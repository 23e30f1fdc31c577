//! The normative statements of MQTT 3.1.1 and 5 that bind a server, tested from outside.
//!
//! Each test lists the statements it proves in its doc comment, after the version they are numbered
//! in; `docs/conformance.md` lists every statement, and `table` keeps the two in agreement. With
//! `RANTAI_TEST_BROKER=host:port` the suite runs against any other broker.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod connect;
mod flow;
mod keepalive;
mod malformed;
mod properties;
mod publish;
mod qos;
mod retained;
mod sessions;
mod shared;
mod subscribe;
mod table;
mod topics;
mod utf8;
mod will;
