//! Users and rules of `rantai broker`: reloaded by SIGHUP and by `rantai admin reload`, and evaluated by `rantai acl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use tempfile::TempDir;

use super::process::{Broker, command};

const CONFIG: &str = "\
acl_file = 'acl.conf'
[[users]]
name = 'root'
password = '$6$c2FsdHNhbHRzYWx0$249ZHFxwkpEaAPfNZFSf5UpOjuoJJpLXi1M4+w6vgMD/mKfTMMdCofU9tkt+8UHFTA5eq0vJt+ZRPmD0e7hg0g=='
roles = ['admin']
[[users]]
name = 'ada'
password = '$6$c2FsdHNhbHRzYWx0$0+eDSyYocoTziWaOmNcyEcEGd81DA5eX+6t84Uw1u9F3C6uVlYrzRi67vhRpGB8FSuuxQnwpYWkw7wDsE/tl3A=='
";

/// Creates a folder with a configuration and its ACL file.
fn configured() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("broker.toml");
    fs::write(&config, CONFIG).expect("a file");
    fs::write(folder.path().join("acl.conf"), "user ada\ntopic write door/#\ntopic write $SYS/#\n")
        .expect("a file");
    (folder, config)
}

fn rantai(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rantai"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RANTAI_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn start(config: &Path) -> Broker {
    let mut command = command(None);
    command.arg("--config").arg(config);
    Broker::spawn(command)
}

#[test]
fn rules_change_at_sighup_and_by_an_admin_and_a_wrong_file_changes_nothing() {
    let (folder, config) = configured();
    let mut broker = start(&config);
    let url = |user: &str| format!("mqtt://{user}:{user}@{}", broker.place.address());
    let (ada, root) = (url("ada"), url("root"));
    let publish = |topic: &str| rantai(&["pub", topic, "x", "--broker", &ada]);
    assert!(publish("door/1").status.success());
    let refused = publish("window/1");
    assert_eq!(refused.status.code(), Some(4));
    let why = text(&refused.stderr);
    assert!(why.contains("no rule of user ada allows writing window/1; roles: caller"), "{why}");
    fs::write(folder.path().join("acl.conf"), "user ada\ntopic write window/#\n").expect("a file");
    broker.signal(Signal::HUP);
    broker.wait_for("read users and rules again");
    assert!(publish("window/1").status.success());
    assert_eq!(publish("door/1").status.code(), Some(4));
    let reload = |user: &str| rantai(&["admin", "reload", "--broker", user]);
    assert_eq!(reload(&ada).status.code(), Some(4));
    fs::write(folder.path().join("acl.conf"), "user ada\ntopc x\n").expect("a file");
    let wrong = reload(&root);
    assert_eq!(wrong.status.code(), Some(1));
    let why = text(&wrong.stderr);
    assert!(why.contains("broker.toml:1:12: acl.conf:2: cannot read"), "{why}");
    assert!(publish("window/1").status.success(), "as before");
    fs::write(folder.path().join("acl.conf"), "user ada\ntopic write door/#\n").expect("a file");
    let done = reload(&root);
    assert!(done.status.success());
    let changed = "read users and rules again: 2 users (0 new, 0 removed), 0 connections and 0 subscriptions ended\n\
                   contents of acl_file: changed\n";
    assert_eq!(text(&done.stdout), changed);
    assert!(publish("door/1").status.success());
    fs::write(&config, "listen = ['127.0.0.1:1883']\n").expect("a file");
    let refused = reload(&root);
    assert_eq!(refused.status.code(), Some(1));
    let why = text(&refused.stderr);
    assert!(why.contains("broker.toml has no users, which this broker has"), "{why}");
    broker.signal(Signal::HUP);
    broker.wait_for("users and rules stay as they are: ");
    assert_eq!(publish("window/1").status.code(), Some(4), "the rules of before");
}

#[test]
fn acl_test_evaluates_rules_without_a_broker() {
    let (_folder, config) = configured();
    let config = config.to_str().expect("UTF-8");
    let test = |arguments: &[&str]| {
        let done = rantai(&[&["acl", "test"], arguments, &["--config", config]].concat());
        (done.status.code(), text(&done.stdout) + &text(&done.stderr))
    };
    for (arguments, code, expected) in [
        (&["ada", "write", "door/1"][..], 0, "allowed: `allow write door/#` (acl.conf:2)"),
        (&["ada", "write", "$SYS/broker/uptime"], 1, "the broker's own"),
        (&["ada", "write", "$SYS/broker/connection/ada/state"], 0, "whether its bridge is connected"),
        (&["ada", "write", "$SYS/broker/connection/ada--1/state"], 0, "acl.conf:3"),
        (&["ada", "read", "door/1"], 1, "refused: no rule of user ada allows reading door/1; roles: caller"),
        (&["ada", "write", "rantai/call/calculator/add"], 0, "(role caller, call = \"*\")"),
        (&["ada", "subscribe", "rantai/reply/+/ada--1", "--client-id", "ada--1"], 0, "role caller"),
        (&["ada", "subscribe", "#"], 0, "looked at for each message"),
        (&["-", "write", "rantai/call/calculator/add", "--client-id", "ada"], 1, "belongs to user ada"),
        (&["-", "write", "rantai/call/calculator/add"], 0, "role caller"),
        (&["eve", "write", "x"], 2, "no user \"eve\""),
        (&["root", "write", "door/+"], 2, "\"door/+\" is no topic"),
        (&["root", "subscribe", "$share/+/door"], 2, "is no filter"),
        (&["root", "subscribe", "$share/group/door/+"], 0, "role admin"),
        (&["ada", "own", "x"], 2, "possible values: read, write, subscribe"),
    ] {
        let (got, said) = test(arguments);
        assert!(got == Some(code) && said.contains(expected), "{arguments:?}: {got:?} {said}");
    }
    for broker in ["mosquitto", "rmqtt"] {
        let done = rantai(&["acl", "export", "--for", broker, "--config", config]);
        assert!(done.status.success());
        assert!(text(&done.stdout).contains("door/#"), "{broker}");
        assert!(text(&done.stderr).contains("left out: "), "{broker}");
    }
}

#[test]
fn broker_without_users_listens_beyond_this_machine_only_with_open() {
    let refused = rantai(&["broker", "--host", "0.0.0.0", "--port", "0"]);
    assert_eq!(refused.status.code(), Some(2));
    let why = text(&refused.stderr);
    assert!(why.contains("rantai init site") && why.contains("--open"), "{why}");
    let mut open = command(None);
    open.args(["--host", "0.0.0.0", "--open"]);
    Broker::spawn(open);
}
