//! The hard days of a broker: hostile traffic, and clients that come and go.

#![allow(missing_docs, reason = "a test binary has no readers of documentation")]

mod budgets;
mod churn;
mod client;
mod descriptors;
mod hostile;
mod process;
mod random;
mod texts;
mod tls_bytes;
mod tls_script;
mod traffic;
