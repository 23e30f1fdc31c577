//! Limit of open files: raised as far as the system allows, with a warning if that is too low.

use std::process::{Command, Stdio};

use rantai_testing::Version;
use rustix::process::Signal;

use crate::process::Broker;
use crate::wire::{self, Socket};

/// Creates a command for the broker below a shell that sets limits.
fn limited(limits: &str, options: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{limits}; exec \"$0\" broker --port 0 \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_rantai")]).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn a_soft_limit_is_raised_to_the_hard_one() {
    let broker = Broker::spawn(limited("ulimit -Sn 64", &[]));
    let connected: Vec<Socket> = (0..100)
        .map(|number| {
            let mut socket = Socket::open(&broker.place, Version::V5).expect("it listens");
            socket.log_in(&wire::connect(Version::V5, &format!("client{number}"), true)).expect("let in");
            socket
        })
        .collect();
    assert_eq!(connected.len(), 100);
}

#[test]
fn hard_limit_below_the_configured_connections_is_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("broker.toml");
    std::fs::write(&file, "[limits]\nconnections = 5000\n").expect("room on the disk");
    let mut broker = Broker::spawn(limited("ulimit -n 200", &["--config", file.to_str().expect("UTF-8")]));
    let line = broker.wait_for("open files");
    for text in
        ["WARN", "136 of 5000 connections", "limit of 200 open files", "to 5064", "`connections` to 136"]
    {
        assert!(line.contains(text), "{text}: {line}");
    }
}

/// Regression: every start with the defaults warned about 100,000 connections that nobody had asked for.
#[test]
fn hard_limit_below_the_default_connections_is_not_warned_of() {
    let mut broker = Broker::spawn(limited("ulimit -n 200", &[]));
    let mut socket = Socket::open(&broker.place, Version::V5).expect("it listens");
    socket.log_in(&wire::connect(Version::V5, "client", true)).expect("let in");
    let log = broker.log();
    assert!(!log.iter().any(|line| line.contains("open files")), "{log:?}");
}

/// Regression: the log got twenty lines per second about it.
#[test]
fn lack_of_descriptors_is_logged_once_and_the_broker_recovers() {
    let mut broker = Broker::spawn(limited("ulimit -n 64", &[]));
    let mut honest = Socket::open(&broker.place, Version::V5).expect("it listens");
    honest.log_in(&wire::connect(Version::V5, "honest", true)).expect("let in");
    // The system accepts the connections; the broker cannot.
    let silent: Vec<Socket> =
        (0..100).map(|_| Socket::open(&broker.place, Version::V5).expect("it listens")).collect();
    let line = broker.wait_for("cannot accept");
    assert!(line.contains("WARN") && line.contains("times=1"), "{line}");
    let mut late = Socket::open(&broker.place, Version::V5).expect("it listens");
    drop(silent);
    late.log_in(&wire::connect(Version::V5, "late", true)).expect("let in");
    broker.signal(Signal::TERM);
    broker.wait();
    let told = broker.log().iter().filter(|line| line.contains("cannot accept")).count();
    assert_eq!(told, 1);
}
