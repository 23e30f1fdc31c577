//! `rantai broker` as a process: start, end, and state after kill -9.

#![allow(missing_docs, reason = "a test binary has no readers of documentation")]

mod access;
mod backup;
mod crash;
mod data_dir;
mod descriptors;
mod operations;
mod peer;
mod process;
mod queue_full;
mod restore;
mod start_and_stop;
mod wire;
