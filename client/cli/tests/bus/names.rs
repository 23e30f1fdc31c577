//! All commands below a root, and for objects, that are named like topic levels.
//!
//! Regression: topics were cut by text, at the first `/at/` or `/reply/`: such objects were registered and never
//! answered, or lost their callbacks.

#[cfg(feature = "gateway")]
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde_json::Value;

#[cfg(feature = "gateway")]
use super::gateway::{ask, connect, receive, send};
use super::process::{Server, buses_below};

const UPCALL: &str = include_str!("../../../../config/upcall.toml");

/// Returns a configuration of objects of all kinds, each named like a topic level.
fn config(folder: &Path) -> String {
    let link = |name: &str, next: &str| {
        format!(
            "[[chain]]\nprefix = ''\nname = '{name}'\nnext = '{next}'\npassing = '{name}'\nclosing = '{name}.'\n"
        )
    };
    let readings = "name = 'all'\ntopic = 'x/all'\ntext = '{value}'\nline = '{value}'\nmin = 1\nmax = 2\n";
    let text = [
        "[tasks]\n[[calculator]]\nname = 'name'\n[[echo]]\nname = 'node'\n",
        &link("at", "reply"),
        &link("reply", "at"),
        &format!("[[sensor]]\nname = 'event'\nperiod_ms = 20\n[[sensor.readings]]\n{readings}"),
        "[[files]]\nname = 'all'\nfolder = 'shared'\nquota_bytes = 100\n",
        &UPCALL.replace("name = \"upcall\"", "name = \"call\""),
        if cfg!(feature = "gateway") { "[rest]\nlisten = '127.0.0.1:0'\n" } else { "" },
    ];
    std::fs::create_dir(folder.join("shared")).expect("made");
    std::fs::write(folder.join("shared/call"), "read").expect("written");
    let file = folder.join("nodes.toml");
    std::fs::write(&file, text.concat()).expect("written");
    file.display().to_string()
}

#[test]
fn every_command_works_below_a_root_and_for_objects_named_like_levels() {
    let folder = tempfile::tempdir().expect("a directory");
    let bus = &buses_below(["home/at/reply/name".to_owned()])[0];
    let mut node = bus.serve(&["--config", &config(folder.path()), "--node", "reply"]);
    let objects = ["tasks", "name", "node", "at", "reply", "event", "all", "call"];
    for object in objects {
        node.wait_for(&format!("serving {object} on"));
    }
    let listed: Value = serde_json::from_str(&bus.ok(&["ls", "--json"])).expect("JSON");
    let listed = listed.as_array().expect("a list");
    assert!(listed.len() == objects.len() && listed.iter().all(|entry| entry["state"] == "served"));
    assert!(bus.ok(&["describe", "at"]).contains("process"));
    assert_eq!(bus.ok(&["call", "name.add", "2", "3"]), "5\n");
    assert_eq!(bus.ok(&["call", "node.echo", "x", "--at", "reply"]), "x\n");
    assert_eq!(bus.ok(&["call", "node.echo", "x", "--all", "--timeout", "3"]), "reply: x\n");
    let trip = bus.run(&["chain", "at", "reply", "--trace"]);
    assert!(
        trip.code == 0 && trip.stdout == "at\nreply.\n" && trip.stderr.contains("at -> reply"),
        "{trip:?}"
    );
    let watched = bus.ok(&["watch", "event", "all", "--count", "1", "--json"]);
    assert!(watched.contains("\"event\":\"all\""), "{watched}");
    let mut tasks = Server::spawn(&mut bus.command(&["watch", "tasks", "state", "--count", "1"]));
    tasks.wait_for("watching tasks");
    bus.ok(&["task", "submit", "node.echo", "x"]);
    assert_eq!(tasks.exit_code(), 0, "reserved names have events too");
    let upcall = bus.ok(&["upcall", "--object", "call", "--no-log", "satu, bye"]);
    assert!(upcall.starts_with("Received upcall from server: Upcall event: Processing satu\n"), "{upcall}");
    assert_eq!(bus.ok(&["files", "all"]).lines().count(), 1);
    let received = folder.path().join("received").display().to_string();
    bus.ok(&["get", "all", "call", "-o", &received]);
    assert_eq!(std::fs::read_to_string(&received).expect("received"), "read");
    bus.ok(&["put", "all", &received, "--to", "event"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("shared/event")).expect("sent"), "read");
    assert_eq!(bus.ok(&["task", "submit", "node.echo", "x", "--wait"]), "x\n");
    assert_eq!(bus.ok(&["task", "submit", "node.delay", "700", "x", "--wait"]), "x\n");
    through_http(&mut node);
}

#[cfg(feature = "gateway")]
fn through_http(node: &mut Server) {
    let line = node.wait_for("REST on http://");
    let rest = line.split("http://").nth(1).expect("an address");
    let sum = ask(rest, "GET", "/objects/name/add?a=1&b=2", &[], b"");
    assert_eq!((sum.status, sum.json()), (200, Value::from(3)));
    let mut stream = connect(rest);
    send(&mut stream, rest, "GET", "/events/event?event=all", &[], b"");
    let mut events = BufReader::new(stream);
    assert_eq!(receive(&mut events).status, 200);
    let measured = events.lines().map(|line| line.expect("a line")).find(|line| line.starts_with("data: "));
    assert!(measured.is_some_and(|line| line.contains("\"value\"")));
}

#[cfg(not(feature = "gateway"))]
fn through_http(_: &mut Server) {}
