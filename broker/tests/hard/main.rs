//! Stress tests: hostile traffic, and clients that connect and disconnect.

#![allow(missing_docs, reason = "a test binary has no readers of documentation")]

mod budgets;
mod churn;
mod client;
mod descriptors;
mod hostile;
#[path = "../support/listen.rs"]
#[allow(dead_code, reason = "no broker starts again in these tests")]
mod listen;
mod process;
mod random;
mod texts;
mod tls_bytes;
mod tls_script;
mod traffic;
