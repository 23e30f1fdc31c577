//! Reload of users and rules while clients are connected.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rantai_broker::{Config, Limits, ReloadError};
use rantai_testing::Packet;

use crate::Own;
use crate::support::{self, Client, Connect, Property, Publish, Version, Will, keep_to_tcp};
use Version::{V3, V5};

const RELOAD: &str = "$CONTROL/rantai/reload";
const ACL: &str = "user ada\ntopic readwrite a/#\ntopic readwrite b/#\n";

/// Returns a `[[users]]` table; the password is the name. The record is the same in every call, because another record
/// is another password, and ends the connections of its user.
fn user(name: &str) -> String {
    static TABLES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut tables = TABLES.lock().expect("no test panics with it");
    let table = tables.entry(name.to_owned()).or_insert_with(|| {
        let record = support::user(name, name).password.expect("it has one");
        format!("[[users]]\nname = '{name}'\npassword = '{record}'\n")
    });
    table.clone()
}

/// Returns a configuration with the admin `root`, the user `ada`, and these other users.
fn users(others: &[&str]) -> String {
    let others: String = others.iter().map(|name| user(name)).collect();
    let (root, ada) = (user("root"), user("ada"));
    format!("anonymous = true\nacl_file = 'acl.conf'\n{root}roles = ['admin']\n{ada}{others}")
}

/// Same as [`users`], with `hardened`, which admits no client without a user.
fn hardened(others: &[&str]) -> String {
    users(others).replacen("anonymous = true", "hardened = true", 1)
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a folder"));
        files.write("broker.toml", &users(&["bob"]));
        files.write("acl.conf", &format!("{ACL}user bob\ntopic readwrite a/#\n"));
        files
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("a file");
        // The file contains password records, which `hardened` requires to be unreadable for others.
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("set");
    }

    async fn start(&self) -> Own {
        self.start_with(|_| ()).await
    }

    async fn start_with(&self, change: impl FnOnce(&mut Limits)) -> Own {
        let mut config = Config::load(self.path()).expect("a configuration");
        config.listen = Config::on_free_port().listen;
        change(&mut config.limits);
        Own::start(move |other| *other = config).await
    }

    fn path(&self) -> impl AsRef<Path> {
        self.0.path().join("broker.toml")
    }
}

fn of(user: &str) -> Connect {
    Connect::new(V5).user(user).password(user)
}

async fn command(client: &mut Client) -> (u8, String) {
    let mut publish = Publish::new(RELOAD, "").qos(1);
    publish.id = client.fresh_id();
    client.send(&publish.encode(client.version())).await;
    let Packet::Puback(ack) = client.reply().await else { panic!("a PUBACK") };
    let text = ack.properties.iter().find_map(|property| match property {
        Property::ReasonString(text) => Some(text.clone()),
        _ => None,
    });
    (ack.code, text.unwrap_or_default())
}

#[tokio::test]
async fn a_client_that_loses_a_subscription_is_disconnected_and_keeps_its_session() {
    let files = Files::new();
    let own = files.start().await;
    let mut ada = own.connect(of("ada").id("ada").persistent()).await;
    ada.subscribe("a/#", 1).await;
    ada.subscribe("b/#", 1).await;
    let mut untouched = own.connect(of("ada").id("ada--2")).await;
    untouched.subscribe("b/1", 1).await;
    let mut all = own.connect(of("ada").id("ada--all")).await;
    all.subscribe("#", 1).await;
    let mut old = own.connect(Connect::new(V3).user("ada").password("ada").id("ada--3")).await;
    old.subscribe("a/1", 1).await;
    files.write("acl.conf", "user ada\ntopic readwrite b/#\nuser bob\ntopic readwrite a/#\n");
    let mut root = own.connect(of("root")).await;
    let told =
        "read users and rules again: 3 users (0 new, 0 removed), 2 connections and 2 subscriptions ended";
    assert_eq!(command(&mut root).await, (0, told.to_owned()));
    ada.assert_refused(&[0x87]).await;
    old.assert_ended().await;
    let mut bob = own.connect(of("bob")).await;
    bob.publish(Publish::new("a/1", "x").qos(1)).await;
    let mut ada = own.connect(of("ada").id("ada").resume()).await;
    assert!(ada.connack.as_ref().is_some_and(|connack| connack.session_present));
    ada.assert_silent().await;
    assert_eq!(untouched.publish(Publish::new("a/1", "x").qos(1)).await, 0x87, "a decision that was kept");
    assert_eq!(untouched.publish(Publish::new("b/1", "x").qos(1)).await, 0);
    for client in [&mut ada, &mut untouched, &mut all] {
        assert_eq!(client.message().await.topic, "b/1");
        client.assert_silent().await;
    }
    assert_eq!(own.broker.counts().reloads, 1);
}

/// Once, connections that had logged in with the earlier password were kept.
#[tokio::test]
async fn a_changed_password_ends_the_connections_of_its_user() {
    let files = Files::new();
    let own = files.start().await;
    let mut ada = own.connect(of("ada").id("ada").persistent()).await;
    ada.subscribe("a/#", 1).await;
    let mut old = own.connect(Connect::new(V3).user("ada").password("ada").id("ada--3")).await;
    let mut bob = own.connect(of("bob").id("bob")).await;
    let reload = async || {
        let reloaded = own.broker.reloader().expect("our own engine").reload().await;
        reloaded.expect("a configuration").connections
    };
    assert_eq!(reload().await, 0, "the same records");
    let record = support::user("ada", "new").password.expect("it has one");
    let changed = format!("[[users]]\nname = 'ada'\npassword = '{record}'\n");
    let changed = users(&["bob"]).replace(&user("ada"), &changed);
    files.write("broker.toml", &changed);
    assert_eq!(reload().await, 2);
    ada.assert_refused(&[0x87]).await;
    old.assert_ended().await;
    assert_eq!(bob.publish(Publish::new("a/1", "x").qos(1)).await, 0, "another user");
    assert_eq!(own.try_connect(of("ada").id("ada").resume()).await.1, 0x86, "the earlier password");
    let mut ada = own.connect(of("ada").password("new").id("ada").resume()).await;
    assert!(ada.connack.as_ref().is_some_and(|connack| connack.session_present), "the session stays");
    assert_eq!(ada.message().await.topic, "a/1");
    assert_eq!(reload().await, 0, "what has logged in with the new one stays");
}

#[tokio::test]
async fn a_removed_user_is_disconnected_and_an_added_one_may_log_in() {
    let files = Files::new();
    let own = files.start().await;
    let mut bob = own.connect(of("bob")).await;
    let mut taken = own.connect(Connect::new(V5).id("eve--1")).await;
    files.write("broker.toml", &users(&["eve"]));
    let reloaded = own.broker.reloader().expect("our own engine").reload().await.expect("a configuration");
    assert_eq!((reloaded.connections, reloaded.needs_restart), (2, vec![]));
    let changed: Vec<String> = reloaded.changed.iter().map(ToString::to_string).collect();
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert!(
        changed[0] == "users[bob]: removed" && changed[1].starts_with("users[eve]: added, "),
        "{changed:?}"
    );
    assert!(changed[1].contains("password = …"), "{changed:?}");
    bob.assert_refused(&[0x87]).await;
    taken.assert_refused(&[0x87]).await;
    assert_eq!(own.try_connect(of("bob")).await.1, 0x86);
    own.connect(of("eve").id("eve--1")).await;
}

#[tokio::test]
async fn an_invalid_file_changes_nothing_and_its_error_has_the_position() {
    let files = Files::new();
    let own = files.start().await;
    let mut root = own.connect(of("root")).await;
    let mut bob = own.connect(of("bob")).await;
    bob.subscribe("a/#", 1).await;
    files.write("acl.conf", "topc read a/#\n");
    let (code, text) = command(&mut root).await;
    assert_eq!(code, 0x83);
    assert!(text.contains("broker.toml:2:12") && text.contains("acl.conf:1"), "{text}");
    assert_eq!(bob.publish(Publish::new("a/1", "x").qos(1)).await, 0);
    assert_eq!(bob.message().await.topic, "a/1");
    // Settings that only a start applies are reported separately.
    files.write("acl.conf", ACL);
    files.write("broker.toml", &format!("sys_interval_s = 5\n{}", users(&["bob"])));
    let reloaded = own.broker.reloader().expect("our own engine").reload().await.expect("a configuration");
    let later: Vec<String> = reloaded.needs_restart.iter().map(ToString::to_string).collect();
    assert_eq!(later, ["sys_interval_s: default -> 5"]);
    bob.assert_refused(&[0x87]).await;
}

#[tokio::test]
async fn only_admins_may_request_a_reload() {
    let _tcp = keep_to_tcp("a broker with certificates has those read again, also without a file");
    let files = Files::new();
    let own = files.start().await;
    for connect in [of("bob"), Connect::new(V5)] {
        let mut client = own.connect(connect).await;
        let (code, text) = command(&mut client).await;
        assert_eq!(code, 0x87, "{text}");
    }
    assert_eq!(own.broker.counts().reloads, 0);
    let open = Own::start(|_| {}).await;
    let (code, text) = command(&mut open.client(V5).await).await;
    assert_eq!(code, 0x87);
    assert!(text.contains("SIGHUP"), "{text}");
    let error = open.broker.reloader().expect("our own engine").reload().await.expect_err("no file");
    assert!(matches!(error, ReloadError::NoFile));
}

/// A file that was emptied, or replaced by that of another broker, would admit everyone. Once, only clients of other
/// machines were protected from that, not those of the broker's own machine.
#[tokio::test]
async fn the_last_users_cannot_be_removed_unless_the_broker_is_open() {
    let _tcp = keep_to_tcp("its listener is in the clear, at every address of this machine");
    let files = Files::new();
    let start = async |host: &str, open: bool| {
        files.write("broker.toml", &users(&["bob"]));
        let mut config = Config::load(files.path()).expect("a configuration");
        config.listen = vec![format!("{host}:0").parse().expect("an address")];
        config.open = open;
        Own::start(move |other| *other = config).await
    };
    for host in ["127.0.0.1", "0.0.0.0"] {
        let own = start(host, false).await;
        let reloader = own.broker.reloader().expect("our own engine");
        let mut bob = own.connect(of("bob")).await;
        for file in ["", "sys_interval_s = 5\n", "open = true\n", "acl_file = 'acl.conf'\n"] {
            files.write("broker.toml", file);
            let error = reloader.reload().await.expect_err("open to everybody");
            assert!(matches!(error, ReloadError::Unprotected { lost: "users", .. }), "{file}: {error}");
            assert!(error.to_string().contains("broker.toml has no users"), "{error}");
        }
        assert_eq!(bob.publish(Publish::new("b/1", "x").qos(1)).await, 0x87, "the rules of before");
        assert_eq!(own.try_connect(of("bob").password("wrong")).await.1, 0x86);
        assert_eq!(own.broker.counts().reloads, 0);
    }
    let own = start("0.0.0.0", true).await;
    files.write("broker.toml", "");
    own.broker.reloader().expect("our own engine").reload().await.expect("it is meant");
    own.connect(of("bob").password("any")).await;
}

#[tokio::test]
async fn rules_and_hardened_cannot_be_removed_by_a_reload() {
    let files = Files::new();
    for (before, after, told) in [
        ("acl_file = 'acl.conf'\n".to_owned(), String::new(), "access rules"),
        (hardened(&["bob"]), users(&["bob"]), "`hardened`"),
    ] {
        // Protection that was added by a reload cannot be removed either.
        files.write("broker.toml", "");
        let own = files.start().await;
        let reloader = own.broker.reloader().expect("our own engine");
        files.write("broker.toml", &before);
        reloader.reload().await.expect("more than before");
        files.write("broker.toml", &after);
        let error = reloader.reload().await.expect_err("less than before");
        assert!(matches!(error, ReloadError::Unprotected { lost, .. } if lost == told), "{error}");
        files.write("broker.toml", &before);
        reloader.reload().await.expect("as before");
    }
}

/// Keys of the new file must also be consistent with those that only a restart would change.
#[tokio::test]
async fn hardened_is_refused_with_a_reachable_listener_without_tls() {
    let _tcp = keep_to_tcp("its listener is in the clear, at every address of this machine");
    let files = Files::new();
    files.write("broker.toml", &users(&["bob"]));
    let mut config = Config::load(files.path()).expect("a configuration");
    config.listen = vec!["0.0.0.0:0".parse().expect("an address")];
    let own = Own::start(move |other| *other = config).await;
    let reloader = own.broker.reloader().expect("our own engine");
    files.write("broker.toml", &hardened(&["bob"]));
    let error = reloader.reload().await.expect_err("passwords in the clear");
    assert!(matches!(error, ReloadError::Clear { .. }) && error.to_string().contains("0.0.0.0"), "{error}");
    own.connect(of("bob").id("elsewhere")).await;
}

#[tokio::test]
async fn hardened_is_refused_with_reachable_metrics() {
    let files = Files::new();
    let http = "http.listen = '0.0.0.0:0'\n";
    files.write("broker.toml", &format!("{http}{}", users(&["bob"])));
    let mut config = Config::load(files.path()).expect("a configuration");
    config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let own = Own::start(move |other| *other = config).await;
    files.write("broker.toml", &format!("{http}{}", hardened(&["bob"])));
    let error = own.broker.reloader().expect("our own engine").reload().await.expect_err("open metrics");
    assert!(
        matches!(error, ReloadError::ClearHttp { .. }) && error.to_string().contains("0.0.0.0"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unverified_name_is_no_user_after_users_are_added() {
    let files = Files::new();
    files.write("broker.toml", "");
    let own = files.start().await;
    let mut claims = own.connect(Connect::new(V5).user("ada").id("x").persistent()).await;
    claims.subscribe("a/#", 1).await;
    let mut nobody = own.connect(Connect::new(V5).id("y")).await;
    nobody.publish(Publish::new("a/1", "x").qos(1)).await;
    claims.message().await;
    files.write("broker.toml", &users(&["bob"]));
    own.broker.reloader().expect("our own engine").reload().await.expect("a configuration");
    claims.assert_refused(&[0x87]).await;
    assert_eq!(nobody.publish(Publish::new("a/1", "x").qos(1)).await, 0x87);
    let ada = own.connect(of("ada").id("x").resume()).await;
    assert!(ada.connack.as_ref().is_some_and(|connack| !connack.session_present), "not ada's");
}

#[tokio::test]
async fn queued_messages_are_dropped_when_the_right_to_read_them_ends() {
    let files = Files::new();
    let own = files.start().await;
    let mut ada = own.connect(of("ada").id("ada").persistent()).await;
    ada.subscribe("#", 1).await;
    ada.cut().await;
    let mut bob = own.connect(of("bob")).await;
    let mut old = own.connect(of("ada").id("ada--2")).await;
    for client in [&mut bob, &mut old] {
        client.publish(Publish::new("a/1", "x").qos(1)).await;
    }
    old.publish(Publish::new("b/1", "x").qos(1)).await;
    files.write("acl.conf", "user ada\ntopic readwrite b/#\nuser bob\ntopic readwrite a/#\n");
    let reloaded = own.broker.reloader().expect("our own engine").reload().await.expect("a configuration");
    assert_eq!((reloaded.subscriptions, reloaded.connections), (0, 0));
    let mut ada = own.connect(of("ada").id("ada").resume()).await;
    assert!(ada.connack.as_ref().is_some_and(|connack| connack.session_present));
    assert_eq!(ada.message().await.topic, "b/1");
    ada.assert_silent().await;
    assert_eq!(own.broker.counts().withheld_access, 2);
}

#[tokio::test]
async fn a_will_is_discarded_when_its_client_may_no_longer_read_its_replies() {
    let files = Files::new();
    let own = files.start().await;
    let will = Will::new("b/will", "x").property(Property::ResponseTopic("a/reply".into()));
    let ada = own.connect(of("ada").will(will)).await;
    let mut other = own.connect(of("ada").id("ada--2")).await;
    other.subscribe("b/will", 1).await;
    files.write("acl.conf", "user ada\ntopic readwrite b/#\n");
    own.broker.reloader().expect("our own engine").reload().await.expect("a configuration");
    ada.cut().await;
    other.assert_silent().await;
    assert_eq!(own.broker.counts().refused_access, 1);
}

#[tokio::test]
async fn the_will_of_an_anonymous_client_is_discarded_when_logins_become_required() {
    let files = Files::new();
    files.write("acl.conf", &format!("topic write a/#\n{ACL}"));
    let own = files.start().await;
    let mut ada = own.connect(of("ada")).await;
    ada.subscribe("a/will", 1).await;
    let mut nobody = own.connect(Connect::new(V5).will(Will::new("a/will", "x"))).await;
    files.write("broker.toml", &users(&[]).replace("anonymous = true", "anonymous = false"));
    own.broker.reloader().expect("our own engine").reload().await.expect("a configuration");
    nobody.assert_refused(&[0x87]).await;
    ada.assert_silent().await;
}

/// A CONNECT waits for the packets on the earlier connection of its client, which here waits for a full queue.
#[tokio::test]
async fn a_user_removed_before_its_connack_is_refused() {
    let files = Files::new();
    let own = files
        .start_with(|limits| {
            limits.queue_messages = 1;
            limits.in_flight = 1;
            limits.publish_wait = Duration::from_hours(1);
            limits.slow_reader = Duration::from_hours(1);
        })
        .await;
    let mut slow = own.connect(of("ada").persistent()).await;
    slow.subscribe("a/#", 1).await;
    let mut old = own.connect(of("bob").id("bob")).await;
    for id in 1..=10 {
        old.send(&Publish::new("a/1", "more than it takes").qos(1).id(id).encode(V5)).await;
    }
    let mut new = own.open(V5).await;
    new.send(&of("bob").id("bob").encode()).await;
    while own.broker.counts().remembered_passwords == 0 {
        tokio::task::yield_now().await;
    }
    files.write("broker.toml", &users(&[]));
    own.broker.reloader().expect("our own engine").reload().await.expect("a configuration");
    let Packet::Connack(connack) = new.next().await else { panic!("a CONNACK") };
    assert_eq!(connack.code, 0x86);
}

#[tokio::test]
async fn users_limited_to_their_own_client_ids_are_assigned_none() {
    let files = Files::new();
    files.write("broker.toml", &hardened(&["bob"]));
    let own = files.start().await;
    for version in [V3, V5] {
        let refused = if version == V5 { 0x85 } else { 2 };
        let nameless = Connect::new(version).user("ada").password("ada").id("");
        assert_eq!(own.try_connect(nameless).await.1, refused);
        own.connect(Connect::new(version).user("ada").password("ada").id("ada--1")).await;
        assert_ne!(own.try_connect(Connect::new(version).id("")).await.1, 0, "nobody is let in");
    }
}
