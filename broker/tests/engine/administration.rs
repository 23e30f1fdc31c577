//! The administrative handle, and access to the administrative object.

use std::path::Path;

use rantai_broker::{Config, EndResult, Page, Reloaded, SessionInfo};
use rantai_testing::{Property, Will};

use crate::Own;
use crate::support::{self, Client, Connect, Publish, Version, keep_to_tcp};
use Version::{V3, V5};

fn whole(after: Option<String>) -> Page {
    Page { after, most: 1_000 }
}

async fn sessions(own: &Own) -> Vec<SessionInfo> {
    let administration = own.broker.administration().expect("our own engine");
    administration.sessions(whole(None)).await.expect("a list").items
}

#[tokio::test]
async fn clients_and_sessions_are_listed_with_their_properties() {
    let own = Own::start(|_| {}).await;
    let administration = own.broker.administration().expect("our own engine");
    let mut away = own.connect(Connect::new(V5).id("away").persistent()).await;
    away.subscribe("a/#", 1).await;
    away.subscribe("b", 2).await;
    away.disconnect().await;
    let will = Will::new("gone", "x");
    let mut here = own.connect(Connect::new(V3).id("here").will(will)).await;
    for _ in 0..3 {
        here.publish(Publish::new("a/1", "message").qos(1)).await;
    }
    let all = sessions(&own).await;
    let [first, second] = &all[..] else { panic!("{all:?}") };
    assert_eq!((first.client_id.as_str(), first.subscriptions, first.queued), ("away", 2, 3));
    assert!(first.connection.is_none() && first.away_since.is_some() && first.expiry_s.is_some());
    assert!(first.queued_bytes >= 3 * "message".len());
    let connection = second.connection.as_ref().expect("connected");
    assert_eq!((second.client_id.as_str(), connection.protocol), ("here", "3.1.1"));
    assert_eq!((second.will.as_deref(), second.away_since), (Some("gone"), None));
    let clients = administration.clients(whole(None)).await.expect("a list");
    assert_eq!((clients.items.len(), clients.next), (1, None));
    let one = administration.session("here".to_owned()).await.expect("an answer");
    assert_eq!(one.as_ref(), Some(second));
    assert_eq!(administration.session("nobody".to_owned()).await, Ok(None));
    // Page by page.
    let page = administration.sessions(Page { after: None, most: 1 }).await.expect("a page");
    assert_eq!(page.items, std::slice::from_ref(first));
    let rest = administration.sessions(whole(page.next)).await.expect("a page");
    assert_eq!(rest.items, std::slice::from_ref(second));
}

#[tokio::test]
async fn a_client_is_disconnected_and_its_session_stays() {
    let own = Own::start(|_| {}).await;
    let administration = own.broker.administration().expect("our own engine");
    let mut watcher = own.connect(Connect::new(V5).id("watcher")).await;
    watcher.subscribe("gone", 0).await;
    let will = Will::new("gone", "x");
    let mut client = own.connect(Connect::new(V5).id("client").persistent().will(will)).await;
    client.subscribe("t", 1).await;
    assert_eq!(administration.disconnect("client".to_owned()).await, Ok(EndResult::Ended));
    client.assert_refused(&[0x98]).await;
    assert_eq!(watcher.message().await.topic, "gone");
    assert_eq!(administration.disconnect("client".to_owned()).await, Ok(EndResult::None), "it is away");
    watcher.publish(Publish::new("t", "kept").qos(1)).await;
    let mut client = own.connect(Connect::new(V5).id("client").resume()).await;
    assert_eq!(client.message().await.text(), "kept");
}

#[tokio::test]
async fn a_dropped_session_leaves_neither_subscriptions_nor_messages() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let own = Own::start(|config| config.data_dir = Some(path)).await;
    let administration = own.broker.administration().expect("our own engine");
    let mut sender = own.connect(Connect::new(V5).id("sender")).await;
    for state in ["away", "here"] {
        let mut client = own.connect(Connect::new(V5).id("client").persistent()).await;
        client.subscribe("t", 1).await;
        if state == "away" {
            client.disconnect().await;
            sender.publish(Publish::new("t", "lost").qos(1)).await;
        } else {
            assert_eq!(administration.drop_session("client".to_owned()).await, Ok(EndResult::Ended));
            client.assert_refused(&[0x98]).await;
        }
        let dropped = administration.drop_session("client".to_owned()).await;
        let expected = if state == "away" { EndResult::Ended } else { EndResult::None };
        assert_eq!(dropped, Ok(expected), "{state}");
        assert_eq!(sender.publish(Publish::new("t", "x").qos(1)).await, 0x10, "its filters have ended");
        let client = own.connect(Connect::new(V5).id("client").resume()).await;
        assert!(client.connack.as_ref().is_some_and(|connack| !connack.session_present), "{state}");
        client.disconnect().await;
    }
    assert_eq!(sessions(&own).await.len(), 1, "the sender's");
}

#[tokio::test]
async fn subscriptions_are_found_by_topic_and_by_filter() {
    let own = Own::start(|_| {}).await;
    let administration = own.broker.administration().expect("our own engine");
    let mut one = own.connect(Connect::new(V5).id("one")).await;
    one.subscribe("site/+/temp", 1).await;
    one.subscribe("site/#", 0).await;
    let mut other = own.connect(Connect::new(V5).id("other")).await;
    other.subscribe("$share/g/site/attic/temp", 2).await;
    other.subscribe("other", 0).await;
    let of = async |filter: &str| {
        let mut found = Vec::new();
        let mut after = None;
        // One item per page, so that each page begins after the previous item.
        loop {
            let page = Page { after, most: 1 };
            let listed = administration.subscriptions(filter.to_owned(), page).await.expect("a page");
            found.extend(
                listed.items.into_iter().map(|of| format!("{} {} {}", of.client_id, of.qos, of.filter)),
            );
            after = listed.next;
            if after.is_none() {
                return found;
            }
        }
    };
    let attic = ["one 0 site/#", "one 1 site/+/temp", "other 2 $share/g/site/attic/temp"];
    assert_eq!(of("site/attic/temp").await, attic);
    assert_eq!(of("site/#").await, attic);
    assert_eq!(of("other").await, ["other 0 other"]);
    assert_eq!(of("#").await.len(), 4);
    assert_eq!(of("nobody/#").await, [""; 0]);
}

#[tokio::test]
async fn deleted_retained_messages_are_announced_to_subscribers() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let own = Own::start(|config| config.data_dir = Some(path)).await;
    let administration = own.broker.administration().expect("our own engine");
    let mut client = own.connect(Connect::new(V5)).await;
    for number in 0..300 {
        client.publish(Publish::new(&format!("site/{number:03}"), "four").qos(1).retain()).await;
    }
    client.publish(Publish::new("other", "x").qos(1).retain()).await;
    let (mut topics, mut after) = (Vec::new(), None);
    loop {
        let page = Page { after, most: 70 };
        let listed = administration.retained("site/#".to_owned(), page).await.expect("a page");
        assert!(listed.items.iter().all(|message| message.bytes == 4 && message.qos == 1));
        topics.extend(listed.items.into_iter().map(|message| message.topic));
        after = listed.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(topics, (0..300).map(|number| format!("site/{number:03}")).collect::<Vec<_>>());
    let mut watcher = own.connect(Connect::new(V5)).await;
    watcher.subscribe_all(&[("site/000", 1 | 2 << 4)], &[]).await;
    let deleted = administration.delete_retained("site/#".to_owned(), 100).await.expect("deleted");
    assert_eq!((deleted.count, deleted.more), (100, true));
    let told = watcher.message().await;
    assert_eq!((told.topic.as_str(), told.text()), ("site/000", ""));
    let deleted = administration.delete_retained("#".to_owned(), 1_000).await.expect("deleted");
    assert_eq!((deleted.count, deleted.more), (201, false));
    assert_eq!(administration.delete_retained("#".to_owned(), 1_000).await.expect("deleted").count, 0);
    let own_values = administration.delete_retained("$SYS/#".to_owned(), 1_000).await.expect("deleted");
    assert_eq!(own_values.count, 0, "the broker's own stay");
}

const OBJECT: &str = "broker";

fn administrative(config: &mut Config) {
    config.administrative_object = Some(OBJECT.to_owned());
}

/// Publishes a request at QoS 1, and returns the reason code.
async fn request(client: &mut Client, topic: &str) -> u8 {
    client.publish(Publish::new(topic, "[]").qos(1)).await
}

#[tokio::test]
async fn without_users_only_local_programs_may_administer_and_no_client_may_impersonate_the_object() {
    let _tcp = keep_to_tcp("by WebSocket nobody administers");
    let own = Own::start(administrative).await;
    let mut near = own.connect(Connect::new(V5).id("near")).await;
    for topic in ["call/broker/clients", "call/broker", "at/n/broker/clients", "all/broker/clients"] {
        assert_eq!(
            request(&mut near, &format!("rantai/{topic}")).await,
            0x10,
            "{topic}: let through, to nobody"
        );
    }
    for topic in ["name/broker/near", "event/broker/x"] {
        assert_eq!(request(&mut near, &format!("rantai/{topic}")).await, 0x87, "{topic}");
    }
    // Topics of other objects are not affected.
    for topic in ["call/brokers/x", "call/broker2/x", "name/other/near", "node/near"] {
        assert_eq!(request(&mut near, &format!("rantai/{topic}")).await, 0x10, "{topic}");
    }
    let group = "$share/broker/rantai/call/broker/#";
    assert_eq!(near.subscribe_all(&[(group, 1)], &[]).await, [0x87]);
    assert_eq!(near.subscribe_all(&[("$share/broker/rantai/call/other/#", 1)], &[]).await, [1]);
    for topic in ["rantai/call/broker/drop_session", "rantai/name/broker/x"] {
        let will = Will::new(topic, "[\"x\"]");
        assert_eq!(own.try_connect(Connect::new(V5).id("will").will(will)).await.1, 0x87, "{topic}");
    }
    // Objects in the broker's own process act on behalf of others, so they have no access.
    let credentials = own.broker.local_credentials().expect("our own engine");
    let local = Connect::new(V5).id("local").user(&credentials.user).password(&credentials.password);
    let mut local = own.connect(local).await;
    assert_eq!(request(&mut local, "rantai/call/broker/clients").await, 0x87);
    assert_eq!(local.subscribe_all(&[(group, 1)], &[]).await, [1]);
    assert_eq!(request(&mut local, "rantai/name/broker/local").await, 0x10);
    near.publish(Publish::new("rantai/call/broker/clients", "[]").qos(1)).await;
    assert_eq!(local.message().await.topic, "rantai/call/broker/clients");
}

#[tokio::test]
async fn without_the_setting_the_name_is_not_reserved() {
    let own = Own::start(|_| {}).await;
    let mut client = own.connect(Connect::new(V5)).await;
    for topic in ["rantai/call/broker/clients", "rantai/name/broker/x"] {
        assert_eq!(request(&mut client, topic).await, 0x10, "{topic}");
    }
}

/// Returns a configuration with the user `root`, who has the role admin, and other users who may use all topics of the
/// bus.
fn with_rules(folder: &Path) -> Config {
    let user = |name: &str| {
        let record = support::user(name, name).password.expect("it has one");
        format!("[[users]]\nname = '{name}'\npassword = '{record}'\n")
    };
    let acl = "user ada\ntopic readwrite rantai/#\nuser gate\ntopic readwrite rantai/#\nuser ops\n\
               topic readwrite rantai/#\ntopic write $CONTROL/rantai/admin\nuser hook\n\
               topic readwrite rantai/#\ntopic write $CONTROL/rantai/reload\n";
    std::fs::write(folder.join("acl.conf"), acl).expect("written");
    let others = [user("ada"), user("gate") + "acts_for = ['*']\n", user("ops"), user("hook")].concat();
    let text =
        format!("anonymous = true\nacl_file = 'acl.conf'\n{}roles = ['admin']\n{others}", user("root"));
    std::fs::write(folder.join("broker.toml"), text).expect("written");
    Config::load(folder.join("broker.toml")).expect("a configuration")
}

fn of(user: &str) -> Connect {
    Connect::new(V5).user(user).password(user)
}

#[tokio::test]
async fn with_rules_only_admins_may_administer_on_their_own_connections() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = with_rules(folder.path());
    let own = Own::start(|other| {
        let listen = std::mem::take(&mut other.listen);
        *other = Config { listen, ..config };
        administrative(other);
    })
    .await;
    let topic = "rantai/call/broker/clients";
    for (user, expected) in [("root", 0x10), ("ops", 0x10), ("ada", 0x87), ("hook", 0x87), ("gate", 0x87)] {
        let mut client = own.connect(of(user)).await;
        assert_eq!(request(&mut client, topic).await, expected, "{user}");
    }
    let mut nobody = own.connect(Connect::new(V5).id("nobody")).await;
    assert_eq!(request(&mut nobody, topic).await, 0x87);
    // Not on behalf of another user either, even an admin: a gateway takes requests from anyone that reaches it.
    let mut gate = own.connect(of("gate")).await;
    let for_root = [("caller", "root"), ("acting", "1")]
        .into_iter()
        .fold(Publish::new(topic, "[]").qos(1), |publish, (key, value)| {
            publish.property(Property::User(key.to_owned(), value.to_owned()))
        });
    assert_eq!(gate.publish(for_root).await, 0x87);
    // A node that serves another object must not pass an admin's request on to this object.
    let mut server = own.connect(of("ada").id("ada--server")).await;
    server.subscribe("$share/trap/rantai/call/trap/#", 1).await;
    let mut root = own.connect(of("root").id("root--1")).await;
    let reply = Property::ResponseTopic("rantai/reply/trap/root--1".to_owned());
    let correlation = Property::CorrelationData(b"1".to_vec());
    let request = Publish::new("rantai/call/trap/x", "[]").qos(1);
    root.publish(request.property(reply.clone()).property(correlation.clone())).await;
    assert_eq!(server.message().await.topic, "rantai/call/trap/x");
    let passed_on = Publish::new("rantai/call/broker/drop_session", "[\"x\"]").qos(1);
    assert_eq!(server.publish(passed_on.property(reply).property(correlation)).await, 0x87);
    let administration = own.broker.administration().expect("our own engine");
    for (user, expected) in [(Some("root"), true), (Some("ops"), true), (Some("ada"), false), (None, false)] {
        assert_eq!(administration.may_administer(user), expected, "{user:?}");
    }
}

/// Replaces the file and reloads it.
async fn reload(own: &Own, folder: &Path, text: &str) -> Reloaded {
    std::fs::write(folder.join("broker.toml"), text).expect("written");
    own.broker.reloader().expect("our own engine").reload().await.expect("a configuration")
}

fn displayed(changes: &[rantai_broker::Change]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn limits_are_replaced_and_clients_keep_the_announced_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = "[limits]\nsubscriptions = 2\n";
    std::fs::write(folder.path().join("broker.toml"), first).expect("written");
    let config = Config::load(folder.path().join("broker.toml")).expect("a configuration");
    let own = Own::start(|other| {
        let (listen, listeners) = (std::mem::take(&mut other.listen), std::mem::take(&mut other.listeners));
        *other = Config { listen, listeners, ..config };
    })
    .await;
    let mut earlier = own.connect(Connect::new(V5).id("earlier")).await;
    let large = vec![b'x'; 4_000];
    let lower = "threads = 2\n[limits]\nsubscriptions = 1\npacket_bytes = 1024\nconnections = 2\nmemory_bytes = 1000000000\n";
    let reloaded = reload(&own, folder.path(), lower).await;
    assert_eq!(
        displayed(&reloaded.changed),
        [
            "limits.connections: default -> 2",
            "limits.packet_bytes: default -> 1024",
            "limits.subscriptions: 2 -> 1",
        ]
    );
    let restart = ["limits.memory_bytes: default -> 1000000000", "threads: default -> 2"];
    assert_eq!(displayed(&reloaded.needs_restart), restart);
    assert_eq!(earlier.subscribe_all(&[("a", 1), ("b", 1)], &[]).await, [1, 0x97], "by the new limits");
    assert_eq!(earlier.publish(Publish::new("a", &large).qos(1)).await, 0, "a packet as it was told");
    assert_eq!(earlier.message().await.payload, large);
    let mut later = own.connect(Connect::new(V5).id("later")).await;
    let connack = later.connack.clone().expect("let in");
    assert!(connack.properties.contains(&Property::MaximumPacketSize(1024)), "{connack:?}");
    assert_eq!(own.try_connect(Connect::new(V5).id("third")).await.1, 0x89, "one too many");
    later.send(&Publish::new("a", &large).qos(1).id(9).encode(V5)).await;
    later.assert_refused(&[0x95]).await;
    // Applied changes are not reported again; those that need a restart are. Then the change is reverted.
    let reloaded = reload(&own, folder.path(), lower).await;
    assert_eq!((displayed(&reloaded.changed), displayed(&reloaded.needs_restart).len()), (vec![], 2));
    let reloaded = reload(&own, folder.path(), first).await;
    assert_eq!((reloaded.changed.len(), reloaded.needs_restart.len()), (3, 0));
    assert_eq!(earlier.subscribe_all(&[("b", 1)], &[]).await, [1]);
    assert_eq!(earlier.publish(Publish::new("b", "x").qos(1)).await, 0, "it was connected all the time");
}
