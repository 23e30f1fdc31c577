//! Backups of a broker under load, with kill -9 during and after a backup, and the contents of a restored broker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rantai_testing::{Packet, Place, Publish, Version, subscribe};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Broker, PATIENCE};
use crate::wire::{self, Socket};

const PUBLISHERS: usize = 3;
/// Number of topics with retained messages of each publisher.
const TOPICS: u64 = 50;

fn rantai(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rantai"));
    command.args(arguments).stdin(Stdio::null()).env_remove("RANTAI_DATA_DIR");
    command
}

fn run(arguments: &[&str]) -> Output {
    rantai(arguments).output().expect("the binary runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn stderr_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Requests a backup from the process that uses `data`; returns the path of the backup.
fn back_up(data: &Path) -> PathBuf {
    let done = run(&["backup", "--data-dir", text(data), "--json"]);
    assert!(done.status.success(), "{}", stderr_text(&done));
    let told: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    PathBuf::from(told["path"].as_str().expect("a path"))
}

fn restore(backup: &Path, to: &Path) {
    let done = run(&["restore", text(backup), "--data-dir", text(to)]);
    assert!(done.status.success(), "{}", stderr_text(&done));
}

/// Publishes a retained and a queued number repeatedly, until the broker is gone; `taken` is the last number of which
/// both were acknowledged.
fn publish(place: &Place, number: usize, taken: &AtomicU64) {
    let Some(mut socket) = Socket::open(place, Version::V5) else { return };
    if socket.log_in(&wire::connect(Version::V5, &format!("publisher-{number}"), true)).is_none() {
        return;
    }
    for value in 1.. {
        let topics = [(format!("r/{number}/{}", value % TOPICS), true), (format!("q/{number}"), false)];
        for (id, (topic, retain)) in (1..).zip(topics) {
            let message = Publish::new(&topic, &value.to_string()).qos(1).id(id);
            let message = if retain { message.retain() } else { message };
            if !socket.send(&message.encode(Version::V5)) {
                return;
            }
            match socket.next() {
                Some(Packet::Puback(ack)) => assert!(ack.code < 0x80, "{ack:?}"),
                Some(other) => panic!("unexpected {other:?}"),
                None => return,
            }
        }
        taken.store(value, Ordering::Release);
    }
}

/// Begins a session that all messages below q/ are queued for, and disconnects.
fn leave_a_session(place: &Place) {
    let mut socket = Socket::open(place, Version::V5).expect("it listens");
    socket.log_in(&wire::connect(Version::V5, "absent", false)).expect("let in");
    assert!(socket.send(&subscribe(Version::V5, 1, &[("q/#", 1)])));
    assert!(matches!(socket.next(), Some(Packet::Suback(_))));
}

fn number(message: &Publish) -> u64 {
    message.text().parse().expect("a number")
}

/// Checks that a restored broker has all acknowledged messages: of retained ones the last value or a later one, of
/// queued ones all, in order and without a gap.
fn has_all(data: &Path, acknowledged: &[u64]) {
    let broker = Broker::start(Some(data));
    let mut socket = Socket::open(&broker.place, Version::V5).expect("it listens");
    assert_eq!(
        socket.log_in(&wire::connect(Version::V5, "absent", false)),
        Some(true),
        "the session is there"
    );
    let mut queued = [0; PUBLISHERS];
    let missing = |queued: &[u64]| queued.iter().zip(acknowledged).any(|(got, least)| got < least);
    while missing(&queued) {
        let Some(Packet::Publish(message)) = socket.next() else { panic!("less is queued: {queued:?}") };
        let publisher: usize = message.topic[2..].parse().expect("a number");
        queued[publisher] += 1;
        assert_eq!(number(&message), queued[publisher], "{}", message.topic);
        assert!(socket.send(&rantai_testing::ack(4, Version::V5, message.id, 0)));
    }
    let mut reader = Socket::open(&broker.place, Version::V5).expect("it listens");
    reader.log_in(&wire::connect(Version::V5, "reader", true)).expect("let in");
    assert!(reader.send(&subscribe(Version::V5, 1, &[("r/#", 0)])));
    let topics: u64 = acknowledged.iter().map(|&last| last.min(TOPICS)).sum();
    let mut seen = 0;
    while seen < topics {
        let Some(packet) = reader.next() else { panic!("the broker is gone") };
        let Packet::Publish(message) = packet else { continue };
        let (publisher, place) = message.topic[2..].split_once('/').expect("two levels");
        let last = acknowledged[publisher.parse::<usize>().expect("a number")];
        let place: u64 = place.parse().expect("a number");
        let expected = (last.saturating_sub(TOPICS) + 1..=last).find(|value| value % TOPICS == place);
        assert!(
            number(&message) >= expected.unwrap_or(0),
            "{}: {message:?}, expected {expected:?}",
            message.topic
        );
        seen += u64::from(expected.is_some());
    }
}

#[test]
fn a_backup_under_load_has_all_that_was_acknowledged_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let broker = Broker::start(Some(&data));
    let place = broker.place.clone();
    leave_a_session(&place);
    let taken: [AtomicU64; PUBLISHERS] = Default::default();
    let now = || taken.each_ref().map(|taken| taken.load(Ordering::Acquire));
    thread::scope(|scope| {
        for (number, taken) in taken.iter().enumerate() {
            let place = &place;
            scope.spawn(move || publish(place, number, taken));
        }
        let mut backups = Vec::new();
        for round in 1..=3 {
            let deadline = Instant::now() + PATIENCE;
            while now().iter().any(|&taken| taken < 60 * round) {
                assert!(Instant::now() < deadline, "nothing is taken");
                thread::sleep(Duration::from_millis(5));
            }
            let acknowledged = now();
            backups.push((back_up(&data), acknowledged));
        }
        broker.kill();
        for (number, (backup, acknowledged)) in backups.iter().enumerate() {
            let to = dir.path().join(format!("restored-{number}"));
            restore(backup, &to);
            has_all(&to, acknowledged);
        }
    });
    // The directory itself has them, too.
    has_all(&data, &now());
}

#[test]
fn backup_of_a_killed_broker_is_incomplete_and_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut broker = Broker::start(Some(&data));
    let mut socket = Socket::open(&broker.place, Version::V5).expect("it listens");
    socket.log_in(&wire::connect(Version::V5, "filler", true)).expect("let in");
    for number in 0..4_000_u64 {
        let publish =
            Publish::new(&format!("r/0/{number}"), &[b'1'; 2_000]).qos(1).retain().id(1 + number as u16);
        assert!(socket.send(&publish.encode(Version::V5)));
        if number % 200 == 199 {
            for _ in 0..200 {
                assert!(matches!(socket.next(), Some(Packet::Puback(_))));
            }
        }
    }
    let backups = data.join("backups");
    let partial = || -> Option<PathBuf> {
        let names = fs::read_dir(&backups).ok()?;
        names.filter_map(Result::ok).map(|entry| entry.path()).find(|path| text(path).contains("/.partial-"))
    };
    let mut asked = rantai(&["backup", "--data-dir", text(&data)])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let deadline = Instant::now() + PATIENCE;
    let left = loop {
        if let Some(left) = partial() {
            break left;
        }
        assert!(Instant::now() < deadline, "no backup begins");
    };
    broker.signal(Signal::KILL);
    broker.wait();
    assert_eq!(asked.wait().expect("it ends").code(), Some(1));
    assert!(left.exists(), "it was in the middle");
    let to = dir.path().join("restored");
    let refused = run(&["restore", text(&left), "--data-dir", text(&to)]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr_text(&refused).contains("damaged or incomplete") && !to.exists(),
        "{}",
        stderr_text(&refused)
    );
    // The next process makes a backup, and removes the incomplete one.
    let broker = Broker::start(Some(&data));
    let backup = back_up(&data);
    assert!(partial().is_none());
    let refused = run(&["backup", "--data-dir", text(&data), "--to", text(dir.path())]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr_text(&refused));
    let refused = run(&["restore", text(&backup), "--data-dir", text(&data), "--replace"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr_text(&refused).contains("in use by another process"), "{}", stderr_text(&refused));
    broker.kill();
    // A backup of the directory while no process uses it, in the state that kill -9 has left.
    let copies = dir.path().join("copies");
    let done = run(&["backup", "--data-dir", text(&data), "--to", text(&copies)]);
    assert!(done.status.success(), "{}", stderr_text(&done));
    let checked = run(&["upgrade-check", "--data-dir", text(&data)]);
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "broker.redb: format 2, read as it is\n");
    let done = run(&["restore", text(&backup), "--data-dir", text(&data), "--replace"]);
    assert!(done.status.success(), "{}", stderr_text(&done));
    let broker = Broker::start(Some(&data));
    let mut socket = Socket::open(&broker.place, Version::V5).expect("it listens");
    socket.log_in(&wire::connect(Version::V5, "reader", true)).expect("let in");
    assert!(socket.send(&subscribe(Version::V5, 1, &[("r/#", 0)])));
    let mut retained = 0;
    while retained < 4_000 {
        retained += usize::from(matches!(socket.next().expect("the broker is there"), Packet::Publish(_)));
    }
}

/// The address of a unix socket has room for 107 bytes: there was no backup of such a directory, whether in use or not.
#[test]
fn a_directory_with_a_long_path_is_backed_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("long".repeat(40)).join("data");
    let broker = Broker::start(Some(&data));
    let backup = back_up(&data);
    broker.kill();
    assert!(backup.starts_with(fs::canonicalize(&data).expect("there")));
    back_up(&data);
}

/// As a restore of a mount point leaves it that is killed between two of its files.
#[test]
fn a_broker_finishes_a_restore_that_was_killed_before_it_opens_anything() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let retain = |broker: &Broker, value: &str| {
        let mut socket = Socket::open(&broker.place, Version::V5).expect("it listens");
        socket.log_in(&wire::connect(Version::V5, "publisher", true)).expect("let in");
        assert!(socket.send(&Publish::new("r/0/0", value).qos(1).retain().id(1).encode(Version::V5)));
        assert!(matches!(socket.next(), Some(Packet::Puback(_))));
    };
    let broker = Broker::start(Some(&data));
    retain(&broker, "1");
    let backup = back_up(&data);
    retain(&broker, "2");
    broker.kill();
    let restored = data.join(".restored-20260101T000000Z");
    fs::create_dir(&restored).expect("made");
    fs::copy(backup.join("broker.redb"), restored.join("broker.redb")).expect("copied");
    let checked = run(&["upgrade-check", "--data-dir", text(&data)]);
    assert!(stderr_text(&checked).contains("a restore was interrupted"), "{}", stderr_text(&checked));
    let broker = Broker::start(Some(&data));
    let mut reader = Socket::open(&broker.place, Version::V5).expect("it listens");
    reader.log_in(&wire::connect(Version::V5, "reader", true)).expect("let in");
    assert!(reader.send(&subscribe(Version::V5, 1, &[("r/#", 0)])));
    let message = loop {
        if let Packet::Publish(message) = reader.next().expect("the broker is there") {
            break message;
        }
    };
    assert_eq!(number(&message), 1, "the restored state");
    assert!(!restored.exists() && data.join("before-20260101T000000Z/broker.redb").exists());
}

#[test]
fn backup_socket_is_private_and_accepts_valid_requests_only() {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(Some(dir.path()));
    let socket = dir.path().join("backup.sock");
    assert_eq!(fs::metadata(&socket).expect("there").permissions().mode() & 0o777, 0o600);
    for request in [&b"restore\n"[..], b"backup ../x\n", b"\0\0\0\0\0\0\0"] {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        stream.write_all(request).expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{request:?}");
    }
    assert!(!dir.path().join("backups").exists());
    // Silent clients hold places for a while; the broker does not wait for them.
    let silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&socket).expect("it listens")).collect();
    let mut client = Socket::open(&broker.place, Version::V5).expect("it listens");
    client.log_in(&wire::connect(Version::V5, "client", true)).expect("let in");
    drop(silent);
    let deadline = Instant::now() + PATIENCE;
    while !run(&["backup", "--data-dir", text(dir.path())]).status.success() {
        assert!(Instant::now() < deadline, "their places are free again");
    }
}
