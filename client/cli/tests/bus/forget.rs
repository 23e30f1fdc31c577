//! `rantai forget`: the messages of a node that is gone can be removed by admins and by the node's own user only.

use super::process::{Bus, Server, bus, rantai};
use super::users::{TestUser, users};

const USERS: [TestUser<'_>; 3] =
    [("ada", "roles = ['node']"), ("pi", "roles = ['node']"), ("root", "roles = ['admin']")];

/// Starts a broker with these users; returns a function for the bus of each.
fn broker() -> (Server, impl Fn(&str) -> Bus, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("broker.toml");
    std::fs::write(&config, users(&USERS)).expect("written");
    let mut broker = Server::spawn(rantai().args(["broker", "--port", "0", "--config"]).arg(&config));
    let line = broker.wait_for("listening on ");
    let address = line.split("listening on ").nth(1).expect("just found").trim().to_owned();
    let bus = move |user: &str| Bus {
        broker: None,
        url: format!("mqtt://{user}:{user}@{address}"),
        root: "rantai".to_owned(),
    };
    (broker, bus, folder)
}

#[test]
fn forget_is_allowed_for_the_nodes_user_and_admins_only() {
    let (_broker, bus, _folder) = broker();
    let (ada, pi, root) = (bus("ada"), bus("pi"), bus("root"));
    for owner in [&pi, &root] {
        let mut node = pi.serve(&["echo", "calculator", "--node", "pi--lamp"]);
        node.wait_for("serving echo");
        node.wait_for("serving calculator");
        let refused = owner.run(&["forget", "pi--lamp"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("node pi--lamp is there: it answers as"), "{refused:?}");
        node.kill();
        let denied = ada.run(&["forget", "pi--lamp"]);
        assert_eq!(denied.code, 4, "{denied:?}");
        assert!(ada.ok(&["ls", "--all"]).contains("pi--lamp"));
        let cleared = owner.ok(&["forget", "pi--lamp"]);
        let topics: Vec<&str> = cleared.lines().collect();
        assert_eq!(
            topics,
            ["rantai/name/calculator/pi--lamp", "rantai/name/echo/pi--lamp", "rantai/node/pi--lamp"]
        );
        assert!(!ada.ok(&["ls", "--all"]).contains("pi--lamp"));
        assert_eq!(owner.run(&["forget", "pi--lamp"]).code, 5);
    }
}

#[test]
fn forget_keeps_retained_events_of_objects_on_other_nodes() {
    let bus = bus();
    let state = |state: &str| format!(r#"{{"v":1,"state":"{state}","epoch":"1"}}"#);
    let entry =
        |node: &str| format!(r#"{{"v":1,"object":"lamp","node":"{node}","epoch":"1","settled":true}}"#);
    let root = &bus.root;
    let kept = [
        (format!("{root}/node/one"), state("lost")),
        (format!("{root}/node/two"), state("lost")),
        (format!("{root}/name/lamp/one"), entry("one")),
        (format!("{root}/name/lamp/two"), entry("two")),
        (format!("{root}/event/lamp/level"), "7".to_owned()),
    ];
    for (topic, payload) in &kept {
        bus.ok(&["pub", topic, payload, "--retain"]);
    }
    let forgotten = bus.ok(&["forget", "one"]);
    assert_eq!(forgotten, format!("{root}/name/lamp/one\n{root}/node/one\n"));
    let forgotten = bus.ok(&["forget", "two"]);
    assert_eq!(forgotten, format!("{root}/name/lamp/two\n{root}/event/lamp/level\n{root}/node/two\n"));
    let nothing = bus.run(&["forget", "no/node"]);
    assert_eq!(nothing.code, 2, "{nothing:?}");
}
