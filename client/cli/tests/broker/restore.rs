//! `rantai restore` killed at any moment: the data directory is the earlier one or the restored one, and a repeat succeeds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rantai_testing::{Packet, Publish, Version};

use crate::process::Broker;
use crate::wire::{self, Socket};

/// Number of kills.
const KILLS: u32 = 24;
/// Retained messages of the backup, of 2 kB each: restoring them takes some tens of milliseconds.
const MESSAGES: u16 = 2_000;

fn rantai(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rantai"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).env_remove("RANTAI_DATA_DIR");
    command
}

fn succeeds(arguments: &[&str]) {
    let done = rantai(arguments).output().expect("the binary runs");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs a broker on `data` that gets `messages` retained messages.
fn fill(data: &Path, messages: u16) {
    let broker = Broker::start(Some(data));
    let mut socket = Socket::open(&broker.place, Version::V5).expect("a connection");
    socket.log_in(&wire::connect(Version::V5, "filler", true)).expect("accepted");
    for number in 1..=messages {
        let publish = Publish::new(&format!("r/{number}"), &[b'1'; 2_000]).qos(1).retain().id(number);
        assert!(socket.send(&publish.encode(Version::V5)));
        if number % 100 == 0 || number == messages {
            let unacknowledged = if number % 100 == 0 { 100 } else { number % 100 };
            for _ in 0..unacknowledged {
                assert!(matches!(socket.next(), Some(Packet::Puback(_))));
            }
        }
    }
    broker.kill();
}

/// Returns the only directory in `folder`.
fn only_directory(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
    let mut directories = entries.filter(|path| path.is_dir());
    let first = directories.next().expect("a directory");
    assert_eq!(directories.next(), None);
    first
}

#[test]
fn killed_restore_leaves_the_earlier_or_the_restored_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = |name: &str| dir.path().join(name);
    let (source, copies, data) = (place("source"), place("copies"), place("data"));
    fill(&source, MESSAGES);
    fill(&data, 10);
    succeeds(&["backup", "--data-dir", text(&source), "--to", text(&copies)]);
    let backup = only_directory(&copies);
    let database = |folder: &Path| fs::read(folder.join("broker.redb")).expect("a database");
    let (earlier, restored) = (database(&data), database(&backup));
    assert_ne!(earlier, restored);
    let arguments = ["restore", text(&backup), "--data-dir", text(&data), "--replace"];
    let began = Instant::now();
    let scratch = place("scratch");
    succeeds(&["restore", text(&backup), "--data-dir", text(&scratch)]);
    let whole = began.elapsed();

    let mut killed = 0;
    for round in 0..KILLS {
        let mut restoring = rantai(&arguments).stderr(Stdio::null()).spawn().expect("the binary runs");
        // The moments are spread over the time that a restore takes, on this machine and at present.
        thread::sleep(whole * round / KILLS + Duration::from_micros(100));
        restoring.kill().expect("it can be killed");
        killed += u32::from(!restoring.wait().expect("it ends").success());
        let now = database(&data);
        assert!(now == earlier || now == restored, "round {round}: neither of both is in place");
        succeeds(&["upgrade-check", "--data-dir", text(&data)]);
    }
    assert!(killed >= 3, "the restores ended before they were killed: {killed}");
    succeeds(&arguments);
    assert_eq!(database(&data), restored);
    assert!(!place("data.restoring").exists(), "the directory of a killed restore is removed by the next");
    // A directory with the name of an earlier one is an earlier one: each has the contents of one of both.
    for entry in fs::read_dir(dir.path()).expect("readable") {
        let path = entry.expect("readable").path();
        if text(&path).contains("data.before-") {
            let database = database(&path);
            assert!(database == earlier || database == restored, "{path:?}");
        }
    }
}
