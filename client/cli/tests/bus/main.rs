//! `rantai` as its users run it, each part as a process of its own.
//!
//! Environment variables:
//!
//! - `RANTAI_TEST_BROKER`: URL of the broker to use, instead of our own.
//! - `RANTAI_TEST_ROOT`: root of topics instead of `rantai`; any valid root must work.
//! - `RANTAI_TEST_TRANSPORT`: transport of brokers without a configuration of the test: tcp, tls, ws, wss or unix.
//! - `RANTAI_TEST_USERS=1`: brokers have users and access rules (users.rs), except those of `rantai up` and `rantai
//!   demo`, whose own process may do everything, and brokers with a configuration of the test (passwords.rs, access.rs,
//!   up.rs).

#![allow(missing_docs, reason = "a test binary has no readers of documentation")]

mod access;
#[cfg(feature = "gateway")]
mod acting;
mod administration;
mod backups;
mod bench;
mod broker_gone;
mod cancelling;
mod certificates;
mod checks;
mod closed_stdout;
mod commands;
mod configurations;
mod connections;
mod demo;
mod doctor;
mod doctor_faults;
mod doctor_hostile;
mod doctor_liars;
mod doctor_strangers;
mod doctor_traces;
mod error_texts;
mod escapes;
mod fair;
mod false_broker;
mod files;
mod files_kept;
mod files_killed;
mod foreign;
mod forget;
mod full_disk;
#[cfg(feature = "gateway")]
mod gateway;
#[cfg(feature = "gateway")]
mod gateway_bodies;
#[cfg(feature = "gateway")]
mod gateway_pages;
#[cfg(feature = "gateway")]
mod gateway_soap;
mod hangup;
mod hardened;
mod help;
mod imaging;
mod insult;
mod journey;
mod library;
#[cfg(feature = "gateway")]
mod listening;
mod many_names;
mod names;
#[cfg(feature = "gateway")]
mod numbers;
mod passwords;
mod process;
mod reload_under_load;
mod restarts;
mod sites;
mod start_cut_short;
mod stopped;
mod streams;
mod task_graphs;
mod tasks;
mod telemetry;
mod terminal;
mod tls;
mod up;
mod upcall;
mod users;
mod waiting;
