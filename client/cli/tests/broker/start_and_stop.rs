//! Start and end of the process.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use rantai_testing::{Packet, Version, keep_to_addresses};
use rustix::process::Signal;

use crate::process::Broker;
use crate::wire::{self, Socket};

#[test]
fn sigterm_and_ctrl_c_disconnect_clients_and_end_the_broker() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut broker = Broker::start(Some(dir.path()));
        let mut five = Socket::open(&broker.place, Version::V5).expect("it listens");
        five.log_in(&wire::connect(Version::V5, "five", false)).expect("let in");
        let mut three = Socket::open(&broker.place, Version::V3).expect("it listens");
        three.log_in(&wire::connect(Version::V3, "three", true)).expect("let in");
        // A client that neither reads nor closes its connection.
        let mut deaf = Socket::open(&broker.place, Version::V5).expect("it listens");
        deaf.log_in(&wire::connect(Version::V5, "deaf", true)).expect("let in");
        broker.signal(signal);
        assert!(matches!(five.next(), Some(Packet::Disconnect { code: 0x8B, .. })));
        assert!(five.next().is_none() && three.next().is_none(), "closed");
        let (status, took) = broker.wait();
        assert_eq!(status.code(), Some(0));
        // Takes less than two seconds on an idle machine.
        assert!(took < Duration::from_secs(10), "{took:?}");
        drop(deaf);
    }
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rantai"))
        .args(["broker", "--port", &port.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(1));
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("in use"), "{said}");
}

#[test]
fn accepted_and_refused_connections_log_one_line_each() {
    let _tcp = keep_to_addresses();
    let mut broker = Broker::start(None);
    let mut socket = Socket::open(&broker.place, Version::V5).expect("it listens");
    socket.log_in(&wire::connect(Version::V5, "somebody", true)).expect("let in");
    let line = broker.wait_for("somebody");
    assert!(line.contains("connected") && line.contains("127.0.0.1:"), "{line}");
    let mut wrong = Socket::open(&broker.place, Version::V5).expect("it listens");
    assert!(wrong.send(b"GET / HTTP/1.1\r\n\r\n"));
    assert!(wrong.next().is_none());
    let line = broker.wait_for("refused");
    assert!(line.contains("127.0.0.1:") && line.contains("CONNECT"), "{line}");
}
