//! Load generators, shared by `rantai bench` and all benchmarks.
//!
//! | Module | Contents |
//! |---|---|
//! | [`pace`] | Start times of calls: closed loop, or open loop on time |
//! | [`closed`] | Closed loop of a fixed number of callers on one thread |
//! | [`latencies`] | Histogram of latencies, of fixed size |
//! | [`spread`] | Median, minimum and maximum of several rounds |
//! | [`report`] | Formatting of numbers, and replacement of a section in a page |
//! | [`machine`] | Description of the machine |
//! | [`packet`] [`connection`] | MQTT 5 packets written by hand over blocking sockets, for minimal cost |
//! | [`calls`] [`echo`] [`ends`] [`fan`] | Loads that use this client |
//! | [`failure`] | Reason why a measurement has no result |
//!
//! The packets are not those of `rantai-testing`: that crate parses strictly and allocates for each packet, while a load
//! generator must cost less than the broker that it measures.

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
