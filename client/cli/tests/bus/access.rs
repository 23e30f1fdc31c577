//! A bus with users and rules: permitted users can do everything that works without users, and others cannot.

use super::process::{Bus, Server, rantai};
use super::users::{TestUser, users};

const USERS: [TestUser<'_>; 4] = [
    ("ada", "roles = ['caller']"),
    ("pi", "roles = ['node']"),
    ("eye", "roles = ['observer']"),
    ("root", "roles = ['admin']"),
];

/// Starts `rantai up` with rules; returns a function for the bus of each user.
fn up() -> (Server, impl Fn(&str) -> Bus, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("broker.toml");
    std::fs::write(&config, users(&USERS)).expect("written");
    let mut command = rantai();
    command.args(["up", "--port", "0", "--node", "home", "--broker-config"]).arg(&config);
    let mut up = Server::spawn(&mut command);
    let line = up.wait_for("listening on ");
    let address = line.split("listening on ").nth(1).expect("just found").trim().to_owned();
    up.wait_for("ready");
    let bus = move |user: &str| Bus {
        broker: None,
        url: format!("mqtt://{user}:{user}@{address}"),
        root: "rantai".to_owned(),
    };
    (up, bus, folder)
}

#[test]
fn callers_call_nodes_serve_and_observers_watch() {
    let (_up, bus, _folder) = up();
    let (ada, pi, eye) = (bus("ada"), bus("pi"), bus("eye"));
    assert_eq!(ada.ok(&["call", "calculator.add", "2", "3"]), "5\n");
    assert!(ada.ok(&["describe", "calculator"]).contains("add"));
    assert!(ada.ok(&["ls"]).contains("calculator"));
    let cities = ada.ok(&["chain", "example.chainTopology.bandung", "hello"]);
    assert!(cities.contains("selesai pada bandung"), "{cities}");
    ada.ok(&["task", "submit", "calculator.add", "1", "2", "--wait"]);
    // A node of another process, and a chain across both nodes.
    let mut node = pi.serve(&["sister", "--config", "telemetry"]);
    node.wait_for("serving sister");
    let temp = eye.ok(&["watch", "sister", "temp", "--count", "1"]);
    assert!(temp.contains("temp"), "{temp}");
    // Callers receive what is for their own client id, and are told that they receive nothing else.
    for watching in [&["watch", "sister", "temp"][..], &["watch", "sister"], &["task", "watch"]] {
        let refused = ada.run(watching);
        assert_eq!(refused.code, 4, "{watching:?}: {refused:?}");
        assert!(refused.stderr.contains("no rule of user ada allows"), "{watching:?}: {refused:?}");
    }
    let mut ring = ["A", "B", "C"].map(|name| {
        let mut node = pi.serve(&[&format!("example.chainTopology.{name}"), "--config", "circular"]);
        node.wait_for("serving example.chainTopology");
        node
    });
    let trip = ada.run(&["chain", "example.chainTopology.A", "hello"]);
    assert_eq!(trip.code, 0, "{trip:?} {:?}", ring[0].said());
    // A user that may only call cannot serve, and one that may only watch cannot call.
    let mut refused = ada.serve(&["echo"]);
    assert_ne!(refused.exit_code(), 0);
    let told = refused.said().join("\n");
    assert!(told.contains("no rule of user ada allows"), "{told}");
    let refused = eye.run(&["call", "calculator.add", "2", "3"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("no rule of user eye allows writing"), "{refused:?}");
    assert_eq!(ada.run(&["pub", "elsewhere", "x"]).code, 4);
    assert_eq!(bus("root").run(&["pub", "elsewhere", "x"]).code, 0);
}
