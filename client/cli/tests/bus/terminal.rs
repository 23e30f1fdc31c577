//! What only a terminal shows.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::process::{Server, bus};

/// The two ends of a terminal.
fn terminal() -> (File, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    let name = ptsname(&ours, Vec::new()).expect("its name");
    let theirs = open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("the other end");
    (File::from(ours), theirs)
}

#[test]
fn the_stop_is_asked_for() {
    let bus = bus();
    let mut nodes: Vec<Server> = ["bandung", "lembang", "subang"]
        .iter()
        .map(|city| bus.serve(&[&format!("example.chainTopology.{city}")]))
        .collect();
    for node in &mut nodes {
        node.wait_for("started");
    }
    let (mut ours, theirs) = terminal();
    let mut command = bus.command(&["chain", "example.chainTopology.bandung"]);
    let out = Stdio::from(theirs.try_clone().expect("a second handle"));
    let mut client = command.stdin(Stdio::from(theirs)).stdout(out).spawn().expect("the binary runs");
    drop(command);
    let mut screen = Vec::new();
    let mut read_until = |text: &str| {
        let mut buffer = [0; 256];
        while !String::from_utf8_lossy(&screen).contains(text) {
            let size = ours.read(&mut buffer).expect("still open");
            screen.extend_from_slice(&buffer[..size]);
        }
    };
    read_until("Kota Awal ? ");
    let mut keyboard = ours.try_clone().expect("a second handle");
    keyboard.write_all(b"subang\n").expect("typed");
    let mut read_until = |text: &str| {
        let mut buffer = [0; 256];
        while !String::from_utf8_lossy(&screen).contains(text) {
            let size = ours.read(&mut buffer).expect("still open");
            screen.extend_from_slice(&buffer[..size]);
        }
    };
    read_until("selesai pada subang");
    assert_eq!(client.wait().expect("it ends").code(), Some(0));
}
