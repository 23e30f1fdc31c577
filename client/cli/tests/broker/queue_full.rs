//! A disconnected session fills its queue: the log names it once, also after a restart, and `rantai up` starts in spite
//! of it.

use std::fs;

use rantai_testing::{Ack, Packet, Publish, Version, subscribe};
use rustix::process::Signal;

use crate::process::{Broker, command};
use crate::wire::{self, Socket};

const PUBLISHES: u16 = 30;

fn publish_all(broker: &Broker) {
    for version in [Version::V3, Version::V5] {
        let mut publisher = Socket::open(&broker.place, version).expect("it listens");
        publisher.log_in(&wire::connect(version, "publisher", true)).expect("let in");
        for id in 1..=PUBLISHES {
            assert!(publisher.send(&Publish::new("t", "x").qos(1).id(id).encode(version)));
            let puback = Packet::Puback(Ack { id, code: 0, properties: Vec::new() });
            assert_eq!(publisher.next(), Some(puback));
        }
    }
}

fn lines_about_the_queue(broker: &mut Broker) -> Vec<String> {
    broker.signal(Signal::TERM);
    broker.wait();
    broker.wait_for("stopping");
    broker.log().iter().filter(|line| line.contains("queue full")).cloned().collect()
}

#[test]
fn the_log_names_the_session_whose_queue_is_full_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("broker.toml");
    fs::write(&config, "[limits]\nqueue_messages = 5\n").expect("written");
    let data = dir.path().join("data");
    let start = || {
        let mut command = command(Some(&data));
        command.arg("--config").arg(&config);
        Broker::spawn(command)
    };
    let mut broker = start();
    let mut forgotten = Socket::open(&broker.place, Version::V5).expect("it listens");
    forgotten.log_in(&wire::connect(Version::V5, "forgotten", false)).expect("let in");
    forgotten.send(&subscribe(Version::V5, 1, &[("t", 1)]));
    assert!(matches!(forgotten.next(), Some(Packet::Suback(_))));
    drop(forgotten);
    // The broker has noticed the end of the connection, too.
    let mut again = Socket::open(&broker.place, Version::V5).expect("it listens");
    again.log_in(&wire::connect(Version::V5, "forgotten", false)).expect("let in");
    drop(again);
    publish_all(&broker);
    let lines = lines_about_the_queue(&mut broker);
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["forgotten", "messages=5", "bytes=", "user="] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    let mut broker = start();
    publish_all(&broker);
    assert_eq!(lines_about_the_queue(&mut broker).len(), 1, "and once after a restart");
}
