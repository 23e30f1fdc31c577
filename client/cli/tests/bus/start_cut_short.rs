//! Regression: a node that was told to end while it claimed names left the entries of objects that it served already,
//! because its start was aborted without cleanup. One that waited for a disk, a pipe or a broker ignored SIGTERM.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::{PATIENCE, Server, bus, own, rantai};

#[test]
fn a_node_that_ends_while_it_starts_leaves_nothing_behind() {
    let bus = bus();
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("nodes.toml");
    // The shared name is served at once, the other one may be contested for a second.
    let objects = "[[echo]]\nname = 'shared'\nreplica = true\n[[echo]]\nname = 'alone'\n";
    std::fs::write(&config, objects).expect("written");
    let mut node = bus.serve(&["--config", config.to_str().expect("UTF-8")]);
    node.wait_for("serving shared");
    node.signal(Signal::TERM);
    assert_eq!(node.exit_code(), 0);
    assert_eq!(bus.ok(&["ls", "--json"]).trim(), "[]");
}

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo is part of every system").success());
}

/// Waits until the process has a handler for SIGTERM.
fn until_it_catches(server: &Server, signal: Signal) {
    let deadline = Instant::now() + PATIENCE;
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
        let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
        caught & (1 << (signal.as_raw() - 1)) != 0
    };
    while !caught() {
        assert!(Instant::now() < deadline, "it never catches {signal:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Cases that block before anything is served: a configuration pipe without a writer, and a locked file.
#[test]
fn blocked_start_ends_at_a_signal() {
    let directory = tempfile::tempdir().expect("a directory");
    let (config, data) = (directory.path().join("nodes.toml"), directory.path().join("data"));
    fs::create_dir(&data).expect("made");
    pipe(&config);
    pipe(&data.join("broker.lock"));
    let (config, data) = (config.to_str().expect("UTF-8"), data.to_str().expect("UTF-8"));
    let held_up = [
        (vec!["serve", "--config", config], Signal::TERM),
        (vec!["up", "--port", "0", "--config", config], Signal::INT),
        (vec!["up", "--port", "0", "--data-dir", data], Signal::TERM),
        (vec!["broker", "--port", "0", "--data-dir", data], Signal::INT),
    ];
    let servers: Vec<Server> = held_up
        .map(|(arguments, signal)| {
            let server = Server::spawn(rantai().args(arguments));
            until_it_catches(&server, signal);
            server.signal(signal);
            server
        })
        .into();
    for mut server in servers {
        assert_eq!(server.exit_code(), 0, "{:?}", server.said());
    }
}

#[test]
fn node_shuts_down_while_its_broker_does_not_answer() {
    let bus = own();
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("nodes.toml");
    fs::write(&config, "[[echo]]\nname = 'echo'\n").expect("written");
    let mut node = bus.serve(&["--config", config.to_str().expect("UTF-8")]);
    node.wait_for("serving echo");
    let broker = bus.broker.as_ref().expect("ours");
    broker.signal(Signal::STOP);
    node.signal(Signal::TERM);
    assert_eq!(node.exit_code(), 0);
    broker.signal(Signal::CONT);
}
