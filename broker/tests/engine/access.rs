//! Users and rules, and clients that try to circumvent them.

use rantai_access::{AclFile, Table, UserRecord};
use rantai_broker::Config;
use rantai_testing::{Packet, subscribe_with};

use crate::Own;
use crate::support::{Client, Connect, Property, Publish, Version, Will, user};
use Version::{V3, V5};

const ACL: &str = "\
topic read open/#
topic write open/#

user ada
topic readwrite sensors/#
topic deny sensors/vault/#
topic read $share/workers/jobs/#
topic read jobs/#

user bob
topic write sensors/#
topic write jobs/#
topic read jobs/#

pattern readwrite home/%u/#
pattern read reply/%c
";

/// Configures anonymous clients, the users ada and bob, and these rules.
pub(crate) fn with_rules(acl: &str) -> impl FnOnce(&mut Config) + use<> {
    let mut table = Table::builder().file(AclFile::parse("acl.conf", acl).expect("an ACL file"));
    for user in ["ada", "bob"] {
        table = table.user(UserRecord::new(user).expect("a name"));
    }
    let table = table.build().expect("a table");
    move |config| {
        config.anonymous = true;
        config.users = ["ada", "bob"].map(|name| user(name, name)).into();
        config.access = Some(table.into());
    }
}

fn of(user: &str, version: Version) -> Connect {
    Connect::new(version).user(user).password(user)
}

/// Publishes, and returns the code and the Reason String of the PUBACK.
async fn publish_with_reason(client: &mut Client, publish: Publish) -> (u8, String) {
    let mut publish = publish.qos(1);
    publish.id = client.fresh_id();
    client.send(&publish.encode(client.version())).await;
    match client.reply().await {
        Packet::Puback(ack) => (ack.code, reason_string(&ack.properties)),
        other => panic!("PUBACK is awaited and {other:?} comes"),
    }
}

fn reason_string(properties: &[Property]) -> String {
    let text = properties.iter().find_map(|property| match property {
        Property::ReasonString(text) => Some(text.clone()),
        _ => None,
    });
    text.unwrap_or_default()
}

#[tokio::test]
async fn a_message_without_a_rule_is_refused_with_the_reason() {
    let own = Own::start(with_rules(ACL)).await;
    let mut ada = own.connect(of("ada", V5)).await;
    ada.subscribe("sensors/attic", 1).await;
    let mut bob = own.connect(of("bob", V5)).await;
    assert_eq!(bob.publish(Publish::new("sensors/attic", "21").qos(1)).await, 0);
    assert_eq!(ada.message().await.text(), "21");
    let (code, text) = publish_with_reason(&mut ada, Publish::new("sensors/vault/door", "open")).await;
    assert_eq!(code, 0x87);
    assert!(text.contains("deny readwrite sensors/vault/#") && text.contains("acl.conf:6"), "{text}");
    let (code, text) = publish_with_reason(&mut bob, Publish::new("home/ada/door", "open")).await;
    assert_eq!(code, 0x87);
    assert!(text.contains("no rule of user bob allows writing home/ada/door"), "{text}");
    let (_, text) =
        publish_with_reason(&mut bob, Publish::new(&"x/".repeat(60), "").property(Property::user("a", "b")))
            .await;
    assert!(text.contains("no rule of user bob"), "{text}");
    // The same at QoS 2, and without an answer at QoS 0.
    assert_eq!(bob.publish(Publish::new("home/ada/door", "open").qos(2)).await, 0x87);
    bob.publish(Publish::new("home/ada/door", "open")).await;
    let mut at_home = own.connect(of("ada", V5)).await;
    at_home.subscribe("home/ada/#", 1).await;
    at_home.assert_silent().await;
    let counts = own.broker.counts();
    assert_eq!(counts.refused_access, 5);
}

/// 3.1.1 cannot report that a message is refused: it is acknowledged and dropped [MQTT-3.3.5-2].
#[tokio::test]
async fn a_refused_message_of_a_311_client_is_acknowledged_and_dropped() {
    let own = Own::start(with_rules(ACL)).await;
    let mut ada = own.connect(of("ada", V3)).await;
    ada.subscribe("home/ada/#", 1).await;
    let mut bob = own.connect(of("bob", V3)).await;
    for qos in [1, 2] {
        assert_eq!(bob.publish(Publish::new("home/ada/door", "open").qos(qos)).await, 0);
    }
    assert_eq!(bob.publish(Publish::new("home/bob/door", "open").qos(1)).await, 0);
    ada.assert_silent().await;
    assert_eq!(own.broker.counts().refused_access, 2);
    assert_eq!(bob.subscribe_all(&[("home/ada/#", 1), ("home/bob/#", 1)], &[]).await, [0x80, 1]);
}

#[tokio::test]
async fn filters_are_refused_with_a_reason_or_checked_for_each_message() {
    let own = Own::start(with_rules(ACL)).await;
    let mut bob = own.connect(of("bob", V5)).await;
    bob.publish(Publish::new("home/bob/kept", "mine").qos(1).retain()).await;
    let mut ada = own.connect(of("ada", V5).id("ada--1")).await;
    ada.publish(Publish::new("home/ada/kept", "hers").qos(1).retain()).await;
    let id = ada.fresh_id();
    ada.send(&subscribe_with(V5, id, &[("home/bob/#", 0), ("sensors/attic", 0)], &[])).await;
    let Packet::Suback(suback) = ada.reply().await else { panic!("a SUBACK") };
    assert_eq!(suback.codes, [0x87, 0]);
    let text = reason_string(&suback.properties);
    assert!(text.contains("no rule of user ada allows subscribing to home/bob/#"), "{text}");
    // A filter of all topics is wider than the rights: only allowed messages are delivered, retained or not.
    ada.subscribe("#", 1).await;
    let retained = ada.message().await;
    assert_eq!((retained.topic.as_str(), retained.text()), ("home/ada/kept", "hers"));
    for (topic, is_hers) in [("home/bob/x", false), ("sensors/vault/x", false), ("sensors/x", true)] {
        bob.publish(Publish::new(topic, topic).qos(1)).await;
        if is_hers {
            assert_eq!(ada.message().await.topic, topic);
        }
    }
    ada.assert_silent().await;
    assert!(own.broker.counts().withheld_access >= 2);
    // A client id that looks like a wildcard, or like several levels, gives no access to other topics.
    for id in ["+", "a/b", "#"] {
        let mut odd = own.connect(Connect::new(V5).id(id)).await;
        assert_eq!(odd.subscribe_all(&[(&format!("reply/{id}"), 0)], &[]).await[0], 0x87, "{id}");
    }
}

#[tokio::test]
async fn a_reserved_group_is_joined_only_by_its_own_rule() {
    let own = Own::start(with_rules(ACL)).await;
    let mut bob = own.connect(of("bob", V5)).await;
    assert_eq!(bob.subscribe_all(&[("$share/workers/jobs/#", 1)], &[]).await, [0x87]);
    assert_eq!(bob.subscribe_all(&[("$share/mine/#", 1)], &[]).await, [0x87], "wider than what it may read");
    assert_eq!(bob.subscribe_all(&[("$share/mine/jobs/#", 1)], &[]).await, [1], "a group of its own");
    let mut ada = own.connect(of("ada", V5)).await;
    ada.subscribe("$share/workers/jobs/#", 1).await;
    for number in 0..6 {
        bob.publish(Publish::new("jobs/1", &number.to_string()).qos(1)).await;
        assert_eq!(ada.message().await.text(), number.to_string(), "none goes elsewhere");
    }
}

#[tokio::test]
async fn a_will_or_a_response_topic_of_another_is_refused() {
    let own = Own::start(with_rules(ACL)).await;
    for (version, refused) in [(V3, 5), (V5, 0x87)] {
        let will = Will::new("home/ada/door", "open");
        assert_eq!(own.try_connect(of("bob", version).will(will)).await.1, refused);
        assert_eq!(own.try_connect(of("bob", version).will(Will::new("home/bob/door", "x"))).await.1, 0);
    }
    let mut bob = own.connect(of("bob", V5).id("bob--1")).await;
    let asks = |topic: &str| Publish::new("jobs/1", "x").property(Property::ResponseTopic(topic.into()));
    assert_eq!(publish_with_reason(&mut bob, asks("reply/bob--1")).await.0, 0x10);
    let (code, text) = publish_with_reason(&mut bob, asks("reply/ada--1")).await;
    assert_eq!(code, 0x87);
    assert!(text.contains("ask for the reply on a topic that you may read"), "{text}");
    let will = Will::new("jobs/1", "x").property(Property::ResponseTopic("reply/ada--1".into()));
    assert_eq!(own.try_connect(of("bob", V5).will(will)).await.1, 0x87);
}

#[tokio::test]
async fn sessions_of_other_users_can_neither_be_ended_nor_resumed() {
    let own = Own::start(with_rules(ACL)).await;
    let mut ada = own.connect(of("ada", V5).id("ada--1").persistent()).await;
    for (version, refused) in [(V3, 2), (V5, 0x85)] {
        for connect in [of("bob", version), Connect::new(version)] {
            for id in ["ada", "ada--1", "ada--new"] {
                assert_eq!(own.try_connect(connect.clone().id(id)).await.1, refused, "{id}");
            }
        }
    }
    ada.assert_silent().await;
    // For client ids that no user owns, the owner of the session decides.
    let mut free = own.connect(of("ada", V5).id("mqttx").persistent()).await;
    free.subscribe("home/ada/#", 1).await;
    for connect in [of("bob", V5), Connect::new(V5)] {
        assert_eq!(own.try_connect(connect.id("mqttx").resume()).await.1, 0x85, "connected");
    }
    free.assert_silent().await;
    free.cut().await;
    assert_eq!(own.try_connect(of("bob", V5).id("mqttx").resume()).await.1, 0x85, "stored");
    let back = own.connect(of("ada", V5).id("mqttx").resume()).await;
    assert!(back.connack.as_ref().is_some_and(|connack| connack.session_present));
    // The session of a client without a user is ended, not resumed, by a user.
    let mut nobody = own.connect(Connect::new(V5).id("drawn").persistent()).await;
    nobody.subscribe("open/#", 1).await;
    assert_eq!(own.try_connect(of("bob", V5).id("drawn")).await.1, 0x85, "connected");
    nobody.cut().await;
    let mut bob = own.connect(of("bob", V5).id("drawn").resume()).await;
    assert!(bob.connack.as_ref().is_some_and(|connack| !connack.session_present));
    own.connect(Connect::new(V5)).await.publish(Publish::new("open/1", "x").qos(1)).await;
    bob.assert_silent().await;
    assert!(own.broker.counts().refused_client_ids >= 9);
}

#[tokio::test]
async fn stored_sessions_keep_their_owner_and_only_allowed_subscriptions_at_a_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = |acl: &str| {
        let path = folder.path().to_owned();
        let rules = with_rules(acl);
        Own::start(move |config| {
            rules(config);
            config.data_dir = Some(path);
        })
    };
    let own = start(ACL).await;
    let mut ada = own.connect(of("ada", V5).id("mqttx").persistent()).await;
    ada.subscribe("sensors/attic", 1).await;
    ada.subscribe("home/ada/#", 1).await;
    ada.cut().await;
    let mut wide = own.connect(of("ada", V5).id("wide").persistent()).await;
    wide.subscribe("#", 1).await;
    wide.cut().await;
    let mut other = own.connect(of("ada", V5)).await;
    for topic in ["sensors/attic", "home/ada/0"] {
        other.publish(Publish::new(topic, "x").qos(1)).await;
    }
    own.broker.shutdown().await;
    let own = start(&ACL.replace("topic readwrite sensors/#", "topic write sensors/#")).await;
    let mut wide = own.connect(of("ada", V5).id("wide").resume()).await;
    assert_eq!(wide.message().await.topic, "home/ada/0", "what was queued by a wide filter is looked at");
    wide.assert_silent().await;
    wide.disconnect().await;
    assert_eq!(own.try_connect(of("bob", V5).id("mqttx").resume()).await.1, 0x85, "it is still ada's");
    let mut bob = own.connect(of("bob", V5)).await;
    assert_eq!(bob.publish(Publish::new("sensors/attic", "x").qos(1)).await, 0x10, "no subscriber is left");
    let mut ada = own.connect(of("ada", V5).id("mqttx").resume()).await;
    assert!(ada.connack.as_ref().is_some_and(|connack| connack.session_present));
    ada.publish(Publish::new("home/ada/1", "x").qos(1)).await;
    assert_eq!([ada.message().await.topic, ada.message().await.topic], ["home/ada/0", "home/ada/1"]);
    ada.assert_silent().await;
}

/// Without users in the configuration, names are not verified. Rules do not apply to such names as users.
#[tokio::test]
async fn an_unverified_name_is_no_user() {
    let own = Own::start(|config| {
        with_rules(ACL)(config);
        config.users.clear();
    })
    .await;
    let mut named = own.connect(Connect::new(V5).user("ada").id("x")).await;
    assert_eq!(named.publish(Publish::new("home/ada/1", "x").qos(1)).await, 0x87);
    assert_eq!(named.publish(Publish::new("open/1", "x").qos(1)).await, 0x10);
    assert_eq!(own.try_connect(Connect::new(V5).user("ada").id("ada--1")).await.1, 0x85);
    assert_eq!(own.try_connect(Connect::new(V5).user("$local").id("y")).await.1, 0x86);
}

#[tokio::test]
async fn a_reachable_listener_needs_users_or_the_setting_open() {
    let start = |change: fn(&mut Config)| {
        let mut config =
            Config { listen: vec!["0.0.0.0:0".parse().expect("an address")], ..Config::default() };
        change(&mut config);
        rantai_broker::Broker::start(config)
    };
    let error = start(|_| {}).await.expect_err("open to everybody");
    assert!(error.to_string().contains("there are no users"), "{error}");
    start(|config| config.open = true).await.expect("it is meant");
    start(|config| with_rules(ACL)(config)).await.expect("it has users");
}

/// Configuration that the paho suites need for `subscribe_failure`: their clients do not log in, and may read and
/// write everything else.
#[tokio::test]
async fn one_topic_may_be_denied_to_all_clients() {
    let own = Own::start(|config| {
        with_rules("topic readwrite #\ntopic deny test/nosubscribe\n")(config);
        config.users.clear();
    })
    .await;
    for (version, refused) in [(V3, 0x80), (V5, 0x87)] {
        let mut client = own.client(version).await;
        let filters = [("test/nosubscribe", 2), ("TopicA", 2), ("#", 2), ("$share/s/TopicA", 1)];
        assert_eq!(client.subscribe_all(&filters, &[]).await, [refused, 2, 2, 1]);
        client.unsubscribe(&["#", "$share/s/TopicA"]).await;
        client.publish(Publish::new("TopicA", "x").qos(2)).await;
        assert_eq!(client.message().await.text(), "x");
    }
}
