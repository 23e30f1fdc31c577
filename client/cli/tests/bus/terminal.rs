//! Output that appears on terminals only.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::process::{Server, bus};

/// Creates a pseudoterminal; returns its two ends.
pub(crate) fn terminal() -> (File, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    let name = ptsname(&ours, Vec::new()).expect("its name");
    let theirs =
        open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).expect("the other end");
    (File::from(ours), theirs)
}

#[test]
fn missing_stop_is_prompted_for_on_a_terminal() {
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

#[test]
fn messages_are_prompted_for_while_upcalls_are_printed() {
    let bus = bus();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/upcall.toml");
    let mut server = bus.serve(&["--config", config]);
    server.wait_for("serving upcall");
    let (mut ours, theirs) = terminal();
    let mut command = bus.command(&["upcall", "--no-log"]);
    let out = Stdio::from(theirs.try_clone().expect("a second handle"));
    let mut client = command.stdin(Stdio::from(theirs)).stdout(out).spawn().expect("the binary runs");
    drop(command);
    let mut keyboard = ours.try_clone().expect("a second handle");
    let mut screen = String::new();
    // Reads the output after what was read before.
    let mut read_until = |text: &str| {
        let mut buffer = [0; 256];
        loop {
            if let Some(at) = screen.find(text) {
                screen.drain(..at + text.len());
                return;
            }
            let size = ours.read(&mut buffer).expect("still open");
            screen.push_str(&String::from_utf8_lossy(&buffer[..size]));
        }
    };
    let prompt = "Enter messages (separated by commas): ";
    read_until(prompt);
    bus.ok(&["call", "upcall.push", "selamat pagi"]);
    read_until("Received upcall from server: selamat pagi");
    read_until(prompt);
    keyboard.write_all(b"satu, dua\n").expect("typed");
    read_until("Received upcall from server: Upcall event: Processing satu");
    read_until("Received upcall from server: Upcall event: Processing dua");
    read_until(prompt);
    keyboard.write_all(b"Bye, tiga\n").expect("typed");
    read_until("Exiting...");
    assert_eq!(client.wait().expect("it ends").code(), Some(0));
}
