//! Load for measurements, written once for `rantai bench` and every benchmark.
//!
//! | Module | What |
//! |---|---|
//! | [`pace`] | When calls begin: closed loop, or open loop on time |
//! | [`closed`] | A closed loop of so many callers on one thread |
//! | [`latencies`] | Times of calls in a histogram of fixed size |
//! | [`spread`] | Median, lowest and highest of rounds |
//! | [`report`] | Its numbers, and its place in a page |
//! | [`machine`] | What it is measured on |
//! | [`packet`] [`connection`] | MQTT 5 packets by hand over blocking sockets, as cheap as they can be |
//! | [`calls`] [`echo`] [`ends`] [`fan`] | Loads of that client |
//! | [`failure`] | Why there is no number |
//!
//! The packets are not those of `rantai-testing`: that crate reads strictly and allocates for each packet, while a load
//! has to cost less than the broker it measures.

pub mod calls;
pub mod closed;
pub mod connection;
pub mod echo;
pub mod ends;
pub mod failure;
pub mod fan;
pub mod latencies;
pub mod machine;
pub mod pace;
pub mod packet;
pub mod report;
pub mod spread;
