//! Transfers that are resumed after the programs on both ends, and the broker, were killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::files::{bytes, folders, part_in, sha256, text};
use super::process::{PATIENCE, Server, broker, own, port_of};

/// Returns the size of a large file: 64 MiB if requested, and less in an ordinary run.
fn large() -> usize {
    std::env::var("RANTAI_LARGE_FILE").ok().and_then(|size| size.parse().ok()).unwrap_or(24 << 20)
}

/// Waits until a part has this size.
fn until_part(part: &Path, size: u64) {
    let deadline = Instant::now() + PATIENCE;
    while fs::metadata(part).map_or(0, |about| about.len()) < size {
        assert!(Instant::now() < deadline, "{} does not grow", part.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until there is a part in a folder.
fn until_there(folder: &Path) -> PathBuf {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(part) = part_in(folder) {
            return part;
        }
        assert!(Instant::now() < deadline, "nothing arrives");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn fetch_is_resumed_after_receiver_node_and_broker_were_killed() {
    let mut bus = own();
    let folders = folders(4_096, None);
    let size = large();
    fs::write(folders.shared("book"), bytes(size)).expect("written");
    let node = folders.serve(&bus);
    let target = folders.mine("book");
    let arguments = ["get", "books", "book", "-o", text(&target), "--timeout", "20"];

    // Kills the receiver: the part is kept, and the next receiver resumes it.
    let receiver = Server::spawn(&mut bus.command(&arguments));
    let part = until_there(&folders.mine(""));
    until_part(&part, size as u64 / 8);
    receiver.kill();
    assert!(!target.exists(), "nothing looks whole");
    let kept = fs::metadata(&part).expect("there").len();
    let left = size as u64 - kept;

    // Kills the node, and then the broker, while the receiver keeps running.
    let mut receiver = Server::spawn(bus.command(&arguments).arg("--json"));
    until_part(&part, kept + left / 8);
    node.kill();
    let _node = folders.serve(&bus);
    until_part(&part, kept + left / 4);
    bus.broker.take().expect("ours").kill();
    let (again, url) = broker(&["--port", &port_of(&bus.url)]);
    assert_eq!(url, bus.url);
    bus.broker = Some(again);
    assert_eq!(receiver.exit_code(), 0, "{:?}", receiver.said());
    let told = receiver.wait_for("resumed");
    let resumed = serde_json::from_str::<Value>(&told).expect("JSON")["resumed"].as_u64().expect("a number");
    assert!(resumed > 0 && resumed.is_multiple_of(4_096) && resumed <= kept, "{told}");
    assert_eq!(sha256(&target), sha256(&folders.shared("book")));
    assert!(!part.exists());
}

#[test]
fn upload_is_resumed_after_sender_node_and_broker_were_killed() {
    let mut bus = own();
    let folders = folders(4_096, Some(1 << 30));
    let size = large();
    fs::write(folders.mine("book"), bytes(size)).expect("written");
    let node = folders.serve(&bus);
    let (source, target) = (folders.mine("book"), folders.shared("book"));
    let arguments = ["put", "books", text(&source), "--timeout", "20", "--json"];
    let sender = Server::spawn(&mut bus.command(&arguments));
    let part = until_there(&folders.shared(""));
    until_part(&part, size as u64 / 8);
    sender.kill();
    assert!(!target.exists(), "nothing looks whole");
    let listed = bus.ok(&["files", "books"]);
    assert_eq!(listed, "", "a part is not shared");

    let mut sender = Server::spawn(&mut bus.command(&arguments));
    let kept = fs::metadata(&part).expect("there").len();
    let left = size as u64 - kept;
    until_part(&part, kept + left / 8);
    node.kill();
    let _node = folders.serve(&bus);
    until_part(&part, kept + left / 4);
    bus.broker.take().expect("ours").kill();
    let (again, _) = broker(&["--port", &port_of(&bus.url)]);
    bus.broker = Some(again);
    assert_eq!(sender.exit_code(), 0, "{:?}", sender.said());
    let told = sender.wait_for("resumed");
    assert!(!told.contains("\"resumed\":0"), "{told}");
    assert_eq!(sha256(&target), sha256(&source));
    assert!(!part.exists());
}
