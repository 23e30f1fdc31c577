//! `rantai up` with restricted access, and with other clients that want its node's client id.

use std::process::Command;

use rantai_testing::{Connect, Packet, Socket, Version, disconnect, subscribe};
use rustix::process::Signal;
use serde_json::json;

use super::process::{Done, PATIENCE, Server, finish, rantai};

const USERS: &str = "\
[limits]
queue_messages = 5

[[users]]
name = 'ada'
password = '$6$c2FsdHNhbHRzYWx0$KFtdMFzRKoFFHA7hU8n6IDTu8RAVMuIDtz8OZ85XRhemt69leTJBL4yhphVn9iUWXK1uiUeOSdg+g3Hck4VVRw=='
";

struct Up {
    server: Server,
    address: String,
    _directory: tempfile::TempDir,
}

/// Starts `rantai up` with this broker configuration, and a node named `bandung-1`.
fn up(broker: &str, more: &[&str]) -> Up {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("broker.toml");
    std::fs::write(&config, broker).expect("written");
    let mut command = rantai();
    command.args(["up", "--port", "0", "--node", "bandung-1", "--broker-config"]).arg(&config).args(more);
    let mut server = Server::spawn(&mut command);
    let line = server.wait_for("listening on ");
    let address = line.split("listening on ").nth(1).expect("just found").trim().to_owned();
    server.wait_for("ready");
    Up { server, address, _directory: directory }
}

fn on(url: &str, arguments: &[&str]) -> Done {
    let mut command: Command = rantai();
    finish(command.args(arguments).env("RANTAI_BROKER", url))
}

/// Regression: it ended at once, because its own node was refused.
#[test]
fn up_serves_its_objects_where_only_users_are_let_in() {
    let mut up = up(USERS, &[]);
    let ada = format!("mqtt://ada:p%3Aw@{}", up.address);
    let sum = on(&ada, &["call", "calculator.add", "2", "3"]);
    assert_eq!((sum.code, sum.stdout.trim()), (0, "5"), "{sum:?}");
    let nobody = on(&format!("mqtt://{}", up.address), &["ls"]);
    assert_eq!(nobody.code, 4, "{nobody:?}");
    // The credentials of its own connections are not printed.
    let told = |line: &String| {
        line.replace("connect with a user name and password", "").contains("password") || line.contains("p:w")
    };
    assert!(!up.server.said().iter().any(told), "{:?}", up.server.said());
}

/// With a configuration whose listeners do not include plain MQTT, the objects reach the broker anyway.
#[test]
fn up_serves_its_objects_where_no_listener_speaks_mqtt_over_tcp() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("broker.toml");
    let listener = "[[listeners]]\nprotocol = 'ws'\naddress = '127.0.0.1:0'\nanonymous = true\n";
    std::fs::write(&config, format!("{listener}{USERS}")).expect("written");
    let mut server = Server::spawn(rantai().args(["up", "--broker-config"]).arg(&config));
    server.wait_for("ready");
    let said = server.said();
    let addresses: Vec<_> = said.iter().filter_map(|line| line.trim().split_once("listening on ")).collect();
    let [(_, web)] = addresses[..] else { panic!("its objects need no listener: {said:?}") };
    let sum = on(&format!("ws://ada:p%3Aw@{web}/mqtt"), &["call", "calculator.add", "2", "3"]);
    assert_eq!((sum.code, sum.stdout.trim()), (0, "5"), "{sum:?}");
}

/// Sessions were kept, and tasks were not: the objects had no data directory where only the broker's configuration had one.
#[test]
fn tasks_are_kept_in_the_data_directory_of_the_brokers_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let config = format!("data_dir = '{}'\n", data.display());
    let first = up(&config, &[]);
    let submitted =
        on(&format!("mqtt://{}", first.address), &["task", "submit", "echo.echo", "kept", "--delay", "1h"]);
    assert_eq!(submitted.code, 0, "{submitted:?}");
    let id = submitted.stdout.trim().to_owned();
    drop(first);
    assert!(data.join("tasks.redb").exists() && data.join("broker.redb").exists());
    let second = up(&config, &[]);
    let status = on(&format!("mqtt://{}", second.address), &["task", "status", &id]);
    assert_eq!(status.code, 0, "{status:?}");
}

/// Objects on the broker's own thread behave in the same way.
#[test]
fn objects_of_an_inline_up_are_served_and_end_with_it() {
    let mut server = Server::spawn(rantai().args(["up", "--inline", "--port", "0"]));
    let line = server.wait_for("listening on ");
    let url = format!("mqtt://{}", line.split("listening on ").nth(1).expect("just found").trim());
    server.wait_for("ready");
    let sum = on(&url, &["call", "calculator.add", "2", "3"]);
    assert_eq!((sum.code, sum.stdout.trim()), (0, "5"), "{sum:?}");
    let waited = on(&url, &["call", "echo.delay", "100", "x"]);
    assert_eq!(waited.code, 0, "{waited:?}");
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), 0, "{:?}", server.said());
}

/// Regression: a client that connected with the node's client id ended the node, and `up` served nothing from then on.
#[tokio::test]
async fn nobody_takes_the_client_id_of_the_node_of_up() {
    for broker in ["", USERS] {
        let mut up = up(broker, &[]);
        let url = match broker {
            "" => format!("mqtt://{}", up.address),
            _ => format!("mqtt://ada:p%3Aw@{}", up.address),
        };
        for _ in 0..3 {
            let thief = rantai().args(["serve", "echo", "--node", "bandung-1", "--broker", &url]).output();
            let thief = thief.expect("it runs");
            let said = String::from_utf8_lossy(&thief.stderr).into_owned();
            assert_eq!(thief.status.code(), Some(4), "{said}");
            assert!(said.contains("client id"), "{said}");
        }
        let client = rantai_client::Client::connect(&url).await.expect("a client");
        let sum: serde_json::Value = client.object("calculator").call("add", (2, 3)).await.expect("served");
        assert_eq!(sum, json!(5));
        assert!(up.server.is_running());
    }
}

/// Regression: beside a persistent session with a full queue, the node's own registry entries were refused, and `up`
/// ended at once.
#[test]
fn up_starts_beside_a_session_whose_queue_is_full() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let data = data.to_str().expect("UTF-8");
    for start in 0..2 {
        let up = up("[limits]\nqueue_messages = 5\n", &["--data-dir", data]);
        let url = format!("mqtt://{}", up.address);
        if start == 0 {
            forgotten(&up.address);
        }
        for _ in 0..10 {
            let sum = on(&url, &["call", "calculator.add", "2", "3"]);
            assert_eq!((sum.code, sum.stdout.trim()), (0, "5"), "{sum:?}");
        }
    }
}

/// Regression: the registry's entries outlive a broker that is killed, while the wills of its connections are not
/// published: with another node name at each start, `up` found its own names taken.
#[test]
fn up_starts_again_after_it_was_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("UTF-8");
    let start = || {
        let mut server = Server::spawn(rantai().args(["up", "--port", "0", "--data-dir", data]));
        let line = server.wait_for("listening on ");
        let address = line.split("listening on ").nth(1).expect("just found").trim().to_owned();
        server.wait_for("ready");
        (server, format!("mqtt://{address}"))
    };
    let (server, _) = start();
    server.kill();
    let (mut server, url) = start();
    let sum = on(&url, &["call", "calculator.add", "2", "3"]);
    assert_eq!((sum.code, sum.stdout.trim()), (0, "5"), "{sum:?}");
    let ls = on(&url, &["ls"]);
    assert!(!ls.stdout.contains("lost"), "{}", ls.stdout);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.exit_code(), 0);
    // An invalid name stops the start, with advice.
    std::fs::write(directory.path().join("node-name"), "a/b").expect("written");
    let refused = finish(rantai().args(["up", "--port", "0", "--data-dir", data]));
    assert!(refused.code == 1 && refused.stderr.contains("--node"), "{refused:?}");
}

/// Creates a persistent session of MQTT 3.1.1 with a subscription to everything, and disconnects its client.
fn forgotten(address: &str) {
    let version = Version::V3;
    let mut socket = Socket::open(address.parse().expect("an address"), version).expect("it listens");
    let connect = Connect::new(version).id("forgotten").resume();
    let filters = subscribe(version, 1, &[("#", 1)]);
    socket.send(&[connect.encode(), filters].concat()).expect("sent");
    // Retained messages may arrive before SUBACK.
    let granted = loop {
        match socket.receive(PATIENCE).expect("not cut off").expect("SUBACK in time") {
            Packet::Suback(suback) => break suback.codes,
            Packet::Connack(_) | Packet::Publish(_) => {}
            other => panic!("unexpected packet {other:?}"),
        }
    };
    assert_eq!(granted, [1]);
    socket.send(&disconnect(version, 0, &[])).expect("DISCONNECT");
}
