//! The object `broker` and `rantai admin`: permissions, output and effects.

use std::net::TcpStream;
use std::time::Duration;

use rantai_client::Client;
use rantai_client::session::{Filter, Publish, QoS};
use rantai_testing::keep_to_tcp;
use rmqtt_codec::v5::ConnectAck;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::false_broker::serve;
use super::process::{Bus, Done, Server, broker, finish, rantai};
use super::users::{TestUser, users};

const USERS: [TestUser<'_>; 3] =
    [("root", "roles = ['admin']"), ("ada", "roles = ['caller']"), ("pi", "roles = ['node']")];

/// All commands, with harmless arguments.
const COMMANDS: [&[&str]; 11] = [
    &["clients"],
    &["client", "nobody"],
    &["disconnect", "nobody"],
    &["sessions"],
    &["drop-session", "nobody"],
    &["subscriptions"],
    &["retained"],
    &["delete-retained", "nothing"],
    &["limits"],
    &["log-level"],
    &["reload"],
];

/// Starts a broker with users, and returns the bus of each.
fn with_users() -> (Server, impl Fn(&str) -> Bus, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("broker.toml");
    std::fs::write(&config, users(&USERS)).expect("written");
    let (server, url) = broker(&["--port", "0", "--config", config.to_str().expect("UTF-8")]);
    let bus = move |user: &str| Bus {
        broker: None,
        url: url.replace("://", &format!("://{user}:{user}@")),
        root: "rantai".to_owned(),
    };
    (server, bus, folder)
}

fn admin(bus: &Bus, arguments: &[&str]) -> Done {
    bus.run(&[&["admin"], arguments].concat())
}

fn json_of(bus: &Bus, arguments: &[&str]) -> Value {
    let done = admin(bus, &[arguments, &["--json"]].concat());
    assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
    serde_json::from_str(&done.stdout).expect("JSON")
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|item| item["client_id"].as_str()).collect()
}

async fn client_of(bus: &Bus, id: &str) -> Client {
    let address = bus.url.parse().expect("an address");
    let id = rantai_client::wire::name::ClientId::new(id).expect("a client id");
    Client::builder(address).client_id(id).connect().await.expect("a client")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admins_see_and_end_what_clients_have() {
    let (mut server, bus, _folder) = with_users();
    let root = bus("root");
    let client = client_of(&root, "root--3").await;
    let mut events = client.subscribe(vec![Filter::new("site/+/temp".to_owned())]).await.expect("subscribed");
    client
        .publish(Publish::new("site/attic/temp".to_owned(), b"21".to_vec()).qos(QoS::AtLeastOnce).retain())
        .await
        .expect("published");
    assert!(events.next().await.is_some());

    let clients = json_of(&root, &["clients"]);
    assert!(ids(&clients).contains(&"root--3"), "{clients}");
    let one = json_of(&root, &["client", "root--3"]);
    assert_eq!((&one["user"], &one["own"]), (&json!("root"), &json!(false)), "{one}");
    assert!(one["connection"]["address"].as_str().is_some_and(|at| at.starts_with("127.0.0.1:")), "{one}");
    assert_eq!(one["connection"]["protocol"], "5", "{one}");
    let table = admin(&root, &["sessions"]).stdout;
    assert!(table.starts_with("CLIENT ") && table.contains("root--3"), "{table}");
    assert!(table.contains("(the broker's process)"), "the node of the object: {table}");
    let first = admin(&root, &["clients", "--limit", "1"]);
    assert!(first.stdout.lines().count() == 2 && first.stderr.contains("--limit"), "{first:?}");

    let subscriptions = json_of(&root, &["subscriptions", "site/attic/temp"]);
    assert_eq!(ids(&subscriptions), ["root--3"]);
    let retained = json_of(&root, &["retained", "site/#"]);
    assert_eq!((&retained[0]["topic"], &retained[0]["bytes"]), (&json!("site/attic/temp"), &json!(2)));
    assert_eq!(json_of(&root, &["delete-retained", "site/attic/temp"])["deleted"], 1);
    assert_eq!(json_of(&root, &["retained", "site/#"]), json!([]));
    let limits = json_of(&root, &["limits"]);
    let connections = limits.as_array().expect("a list").iter().find(|limit| limit["key"] == "connections");
    assert!(connections.is_some_and(|limit| limit["live"] == true && limit["used"].as_u64() >= Some(2)));

    assert_eq!(admin(&root, &["disconnect", "root--3"]).code, 0);
    server.wait_for("an admin has ended a connection");
    // The client reconnects by itself.
    let mut dropped = admin(&root, &["drop-session", "root--3"]);
    for _ in 0..100 {
        if dropped.code == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        dropped = admin(&root, &["drop-session", "root--3"]);
    }
    assert_eq!(dropped.code, 0, "{dropped:?}");
    client.close().await;
    let gone = admin(&root, &["client", "root--3"]);
    assert!(gone.code == 1 && gone.stderr.contains("no session of a client \"root--3\""), "{gone:?}");
    let own = json_of(&root, &["sessions"]);
    let own = own.as_array().expect("a list").iter().find(|session| session["own"] == true);
    let own = own.and_then(|session| session["client_id"].as_str()).expect("the object's node");
    let refused = admin(&root, &["disconnect", own]);
    assert!(refused.code == 1 && refused.stderr.contains("the broker's own process"), "{refused:?}");
}

#[test]
fn only_admins_may_administer_and_ls_hides_the_object() {
    let (_server, bus, _folder) = with_users();
    let (root, ada) = (bus("root"), bus("ada"));
    for command in COMMANDS {
        let refused = admin(&ada, command);
        assert_eq!(refused.code, 4, "{command:?}: {refused:?}");
        let allowed = admin(&root, command);
        assert!(allowed.code == 0 || allowed.stderr.contains("\"nobody\""), "{command:?}: {allowed:?}");
    }
    assert_eq!(ada.run(&["call", "broker.limits"]).code, 4);
    assert!(root.ok(&["describe", "broker"]).contains("drop_session"));
    // No other node may claim its name.
    assert_eq!(ada.ok(&["ls", "--json"]).trim(), "[]");
    let all: Value = serde_json::from_str(&ada.ok(&["ls", "--all", "--json"])).expect("JSON");
    assert_eq!((&all[0]["name"], &all[0]["state"]), (&json!("broker"), &json!("served")), "{all}");
    assert!(ada.ok(&["ls", "broker"]).contains("served"));
    let stolen = root.run(&["pub", "--retain", "rantai/name/broker/root--1", "{}"]);
    assert!(stolen.code == 4 && stolen.stderr.contains("serve yours by another name"), "{stolen:?}");
    // Acts on the caller's own connection.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = client_of(&root, "root--me").await;
        for method in ["disconnect", "drop_session"] {
            let refused =
                client.object("broker").call::<()>(method, ["root--me"]).await.expect_err("its own");
            assert_eq!(refused.fault().expect("a fault").data["kind"], "own_connection", "{refused}");
        }
        client.close().await;
    });
}

#[test]
fn without_users_only_this_machine_may_administer() {
    let _tcp = keep_to_tcp("by WebSocket nobody administers");
    let mut command = rantai();
    let mut server = Server::spawn(command.args(["broker", "--port", "0"]));
    let line = server.wait_for("listening on ");
    let address = line.split("listening on ").nth(1).expect("just found").trim().to_owned();
    let bus = |root: &str| Bus { broker: None, url: format!("mqtt://{address}"), root: root.to_owned() };
    let near = bus("rantai");
    for command in COMMANDS {
        let done = admin(&near, command);
        let expected =
            done.code == 0 || done.stderr.contains("\"nobody\"") || done.stderr.contains("--config");
        assert!(expected, "{command:?}: {done:?}");
    }
    let reload = admin(&near, &["reload"]);
    assert!(reload.code == 1 && reload.stderr.contains("start it with --config"), "{reload:?}");
    // On the root of another bus, which has no object `broker`.
    let absent = admin(&bus("other"), &["limits"]);
    assert!(absent.code == 5 && absent.stderr.contains("bus_roots"), "{absent:?}");
    // The object is removed from the registry when the broker stops, and clients are notified.
    drop(TcpStream::connect(&address).expect("it listens"));
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), 0);
}

#[tokio::test]
async fn deleting_by_a_wide_filter_requires_the_wide_option() {
    let (_server, bus, _folder) = with_users();
    let root = bus("root");
    let client = client_of(&root, "root--writer").await;
    for number in 0..1_200 {
        let topic = format!("site/{number}");
        client.publish(Publish::new(topic, b"x".to_vec()).retain()).await.expect("published");
    }
    client
        .publish(Publish::new("last".to_owned(), b"x".to_vec()).qos(QoS::AtLeastOnce).retain())
        .await
        .expect("kept");
    for wide in ["#", "+/1", "rantai/#", "rantai/name/#"] {
        let refused = admin(&root, &["delete-retained", wide]);
        assert!(refused.code == 1 && refused.stderr.contains("--wide"), "{wide}: {refused:?}");
    }
    let wrong = admin(&root, &["delete-retained", "a/#/b"]);
    assert_eq!(wrong.code, 7, "{wrong:?}");
    assert!(json_of(&root, &["retained", "--limit", "5000"]).as_array().map(Vec::len) > Some(1_200));
    let deleted = admin(&root, &["delete-retained", "site/#"]);
    assert_eq!((deleted.code, deleted.stdout.trim()), (0, "deleted 1200 retained messages"), "{deleted:?}");
    assert_eq!(json_of(&root, &["retained", "last"])[0]["topic"], "last");
    let all = admin(&root, &["delete-retained", "--wide", "#"]);
    assert_eq!(all.code, 0, "{all:?}");
    assert_eq!(json_of(&root, &["retained", "last"]), json!([]));
    assert!(root.ok(&["ls", "broker"]).contains("served"), "a node puts its entry right");
}

#[tokio::test]
async fn texts_of_clients_cannot_break_table_rows() {
    let (_server, bus, _folder) = with_users();
    let root = bus("root");
    let client = client_of(&root, "root--writer").await;
    let evil = "site/\u{1b}[2J\nroot  on disk\u{202e}";
    client
        .publish(Publish::new(evil.to_owned(), b"x".to_vec()).qos(QoS::AtLeastOnce).retain())
        .await
        .expect("published");
    let table = admin(&root, &["retained", "site/#"]).stdout;
    assert_eq!(table.lines().count(), 2, "{table:?}");
    assert!(!table.contains('\u{1b}') && !table.contains('\u{202e}'), "{table:?}");
    assert_eq!(json_of(&root, &["retained", "site/#"])[0]["topic"], evil, "as it is, for programs");
}

#[test]
fn levels_of_the_log_change_while_it_runs() {
    let (mut server, bus, _folder) = with_users();
    let root = bus("root");
    assert_eq!(admin(&root, &["log-level"]).stdout.trim(), "info");
    let wrong = admin(&root, &["log-level", "rantai_brokr=debug"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("did you mean rantai_broker?"), "{wrong:?}");
    let set = json_of(&root, &["log-level", "rantai_broker=trace,warn"]);
    assert_eq!(set["at_start"], "info");
    server.wait_for("an admin sets the levels of the log");
    assert_eq!(admin(&root, &["log-level"]).stdout.trim(), "rantai_broker=trace,warn (info at the start)");
    admin(&root, &["log-level", "warn"]);
    // A line below the present level is not logged.
    admin(&root, &["disconnect", "nobody"]);
    admin(&root, &["reload"]);
    assert!(!server.said().iter().any(|line| line.contains("has the configuration read again")));
    assert_eq!(json_of(&root, &["log-level", "info"])["levels"], "info");
    admin(&root, &["reload"]);
    server.wait_for("has the configuration read again");
}

#[test]
fn reload_reports_each_changed_key() {
    let (_server, bus, folder) = with_users();
    let root = bus("root");
    let text = users(&USERS) + "[limits]\nsubscriptions = 77\nmemory_bytes = 1000000000\n";
    std::fs::write(folder.path().join("broker.toml"), text).expect("written");
    let reload = json_of(&root, &["reload"]);
    assert_eq!(reload["changed"][0]["text"], "limits.subscriptions: default -> 77", "{reload}");
    assert_eq!(reload["needs_restart"][0]["key"], "limits.memory_bytes", "{reload}");
    let limits = json_of(&root, &["limits"]);
    let limit = limits.as_array().expect("a list").iter().find(|limit| limit["key"] == "subscriptions");
    assert_eq!(limit.expect("listed")["value"], "77");
    let again = admin(&root, &["reload"]).stdout;
    assert!(again.contains("needs a restart: limits.memory_bytes: default -> 1000000000"), "{again}");
    std::fs::write(folder.path().join("broker.toml"), "acl_fil = 1\n").expect("written");
    let wrong = admin(&root, &["reload"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("broker.toml:1:1"), "{wrong:?}");
}

/// Cause: an acknowledgement of the command counted as a reload, and other brokers acknowledge whatever is published.
#[test]
fn a_broker_of_another_make_has_not_reloaded() {
    let url = serve(|peer| {
        peer.greet(ConnectAck::default())?;
        loop {
            let packet = peer.next()?;
            peer.acknowledge(packet)?;
        }
    });
    let bus = Bus { broker: None, url, root: super::process::root("rantai") };
    let done = bus.run(&["admin", "reload", "--json"]);
    assert!(done.code == 1 && done.stderr.contains("did not say that it has read anything"), "{done:?}");
}

/// The next process clears the registry entries that a killed process has left.
#[test]
fn after_a_kill_the_object_is_served_by_the_new_process_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let start = || {
        let (server, url) = broker(&["--port", "0", "--data-dir", &data]);
        (server, Bus { broker: None, url, root: super::process::root("rantai") })
    };
    let nodes = |bus: &Bus| {
        let listed: Value = serde_json::from_str(&bus.ok(&["ls", "broker", "--json"])).expect("JSON");
        let nodes = listed.as_array().expect("a list").iter().map(|entry| entry["node"].to_string());
        nodes.collect::<Vec<_>>()
    };
    let (server, bus) = start();
    let first = nodes(&bus);
    server.kill();
    let (_server, bus) = start();
    let second = nodes(&bus);
    assert_eq!((first.len(), second.len()), (1, 1), "{first:?} {second:?}");
    assert_ne!(first, second);
    let _ = finish(&mut bus.command(&["ls"]));
}
