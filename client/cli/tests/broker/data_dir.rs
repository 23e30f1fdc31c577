//! Data directories that are damaged or in use.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use rantai_testing::{Packet, Publish, Version};

use crate::process::{Broker, command};
use crate::wire::{self, Socket};

/// Creates a data directory with a session and a retained message.
fn used() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(Some(dir.path()));
    let mut socket = Socket::open(&broker.place, Version::V5).expect("it listens");
    socket.log_in(&wire::connect(Version::V5, "kept", false)).expect("let in");
    let publish = Publish::new("r/1", "kept").qos(1).retain().id(1);
    assert!(socket.send(&publish.encode(Version::V5)));
    assert!(matches!(socket.next(), Some(Packet::Puback(_))));
    broker.kill();
    dir
}

fn session_is_there(dir: &Path) -> bool {
    let broker = Broker::start(Some(dir));
    let mut socket = Socket::open(&broker.place, Version::V5).expect("it listens");
    socket.log_in(&wire::connect(Version::V5, "kept", false)).expect("let in")
}

type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn a_damaged_file_is_reported_and_moved_aside() {
    let truncate = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 3);
    let empty = |bytes: &mut Vec<u8>| bytes.clear();
    let text = |bytes: &mut Vec<u8>| *bytes = b"this is not a database\n".repeat(400);
    let damages: [(&str, Damage<'_>); 3] = [("truncated", &truncate), ("empty", &empty), ("text", &text)];
    let dir = used();
    let path = dir.path().join("broker.redb");
    let whole = fs::read(&path).expect("the database is there");
    for (what, damage) in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&path, &bytes).expect("written");
        let mut broker = Broker::start(Some(dir.path()));
        let line = broker.wait_for("damaged");
        assert!(line.contains("broker.redb.damaged-"), "{what}: the line says where it is: {line}");
        broker.kill();
        let aside: Vec<_> = fs::read_dir(dir.path())
            .expect("readable")
            .filter_map(Result::ok)
            .filter(|e| e.file_name().to_string_lossy().contains("damaged-"))
            .collect();
        assert_eq!(aside.len(), 1, "{what}");
        // Opening the file may mark it as opened, but removes nothing.
        assert_eq!(aside[0].metadata().expect("there").len(), bytes.len() as u64, "{what}");
        fs::remove_file(aside[0].path()).expect("removed");
    }
    fs::write(&path, &whole).expect("written");
    assert!(session_is_there(dir.path()), "the undamaged file is used");
}

#[test]
fn a_directory_in_use_is_an_error_and_stays_as_it_is() {
    let dir = used();
    let _first = Broker::start(Some(dir.path()));
    let mut second = command(Some(dir.path())).stderr(Stdio::piped()).spawn().expect("runs");
    let mut said = String::new();
    second.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(second.wait().expect("ends").code(), Some(1));
    assert!(said.contains("in use by another broker"), "{said}");
    assert!(dir.path().join("broker.redb").exists());
}
