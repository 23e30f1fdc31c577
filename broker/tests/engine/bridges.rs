//! Bridges of other brokers: protocol level 0x83 (3.1) or 0x84 (3.1.1), as mosquitto's use by default.

use crate::Own;
use crate::access::with_rules;
use crate::support::{Client, Connack, Connect, Packet, Publish, Version, Will};
use Version::{V3, V5};

const STATE: &str = "$SYS/broker/connection/workshop.bridge/state";

async fn bridge(own: &Own, name: &str, level: u8) -> Client {
    let will = Will::new(STATE, "0").qos(1).retain();
    let connect = Connect::new(V3).will(will);
    let mut client = own.open(V3).await;
    client.send(&connect.encode_with(name, level, connect.flags())).await;
    let accepted = Packet::Connack(Connack { session_present: false, code: 0, properties: Vec::new() });
    assert_eq!(client.next().await, accepted);
    client
}

#[tokio::test]
async fn a_bridge_gets_no_own_messages_and_the_retain_flag_as_published() {
    let own = Own::start(|_| {}).await;
    for (name, level) in [("MQIsdp", 0x83), ("MQTT", 0x84)] {
        let mut bridge = bridge(&own, name, level).await;
        bridge.subscribe("shared/#", 1).await;
        bridge.publish(Publish::new("shared/a", "its own").qos(1)).await;
        let mut other = own.client(V5).await;
        other.publish(Publish::new("shared/b", "another's").qos(1).retain()).await;
        let message = bridge.message().await;
        assert_eq!((message.text(), message.retain), ("another's", true), "level {level:#x}");
        assert_eq!(other.publish(Publish::new("shared/b", "").qos(1).retain()).await, 0);
        assert!(bridge.message().await.retain, "what clears it as well");
        bridge.assert_silent_after(&mut other).await;
    }
}

/// A shared subscription must not have No Local, which the broker sets for bridges: it would be a protocol error.
#[tokio::test]
async fn a_bridge_may_be_a_member_of_a_group() {
    let own = Own::start(|_| {}).await;
    let mut bridge = bridge(&own, "MQTT", 0x84).await;
    bridge.subscribe("$share/g/work", 1).await;
    own.client(V5).await.publish(Publish::new("work", "x").qos(1)).await;
    assert_eq!(bridge.message().await.text(), "x");
}

#[tokio::test]
async fn the_state_of_a_bridge_may_be_published_and_nothing_else_below_sys() {
    let own = Own::start(|c| c.limits.retained = 1).await;
    let mut watcher = own.client(V5).await;
    watcher.subscribe(STATE, 1).await;
    let mut bridge = bridge(&own, "MQTT", 0x84).await;
    assert_eq!(bridge.publish(Publish::new(STATE, "1").qos(1).retain()).await, 0);
    assert_eq!(watcher.message().await.text(), "1");
    bridge.cut().await;
    assert_eq!(watcher.message().await.text(), "0");
    let mut client = own.client(V5).await;
    for topic in ["$SYS/broker/uptime", "$SYS/broker/connection/a/b/state", "$SYS/broker/connection/state"] {
        assert_eq!(client.publish(Publish::new(topic, "x").qos(1)).await, 0x87, "{topic}");
    }
    // The message is retained like that of other clients: within the limit.
    let another = STATE.replace("workshop", "another");
    assert_eq!(client.publish(Publish::new(&another, "1").qos(1).retain()).await, 0x97);
}

/// Once, mosquitto's bridges were refused because of their will if there were rules.
#[tokio::test]
async fn a_bridge_with_a_user_may_publish_only_its_own_state() {
    let own = Own::start(with_rules("user bob\ntopic read $SYS/#\n")).await;
    let mut watcher = own.connect(Connect::new(V5).user("bob").password("bob")).await;
    watcher.subscribe("$SYS/broker/connection/+/state", 1).await;
    for version in [V3, V5] {
        let connect = |id| Connect::new(version).user("ada").password("ada").id(id);
        let (_, refused) = own.try_connect(connect("another").will(Will::new(STATE, "0"))).await;
        assert_eq!(refused, if version == V5 { 0x87 } else { 5 });
        let will = Will::new(STATE, "0").qos(1).retain();
        let mut bridge = own.connect(connect("workshop.bridge").will(will)).await;
        assert_eq!(bridge.publish(Publish::new(STATE, "1").qos(1).retain()).await, 0);
        assert_eq!(watcher.message().await.text(), "1");
        bridge.cut().await;
        assert_eq!(watcher.message().await.text(), "0");
    }
}

/// Once, the message was stored although the disk was to accept nothing new.
#[tokio::test]
async fn the_state_of_a_bridge_is_refused_on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::start(|c| {
        c.data_dir = Some(dir.path().to_owned());
        c.limits.free_space_bytes = Some(u64::MAX);
    })
    .await;
    let mut client = own.client(V5).await;
    assert_eq!(client.publish(Publish::new(STATE, "1").qos(1).retain()).await, 0x97);
    let mut late = own.client(V5).await;
    late.subscribe(STATE, 1).await;
    late.assert_silent().await;
}

/// It passes on what strangers publish at its other end, and connects from this machine, as an admin may.
#[tokio::test]
async fn nobody_administers_through_a_bridge() {
    let own = Own::start(|config| config.administrative_object = Some("broker".to_owned())).await;
    for (name, level) in [("MQIsdp", 0x83), ("MQTT", 0x84)] {
        let mut bridge = bridge(&own, name, level).await;
        let mut near = own.connect(Connect::new(V5).id("near")).await;
        near.subscribe("rantai/#", 0).await;
        bridge.publish(Publish::new("rantai/call/broker/drop_session", "[\"near\"]").qos(1)).await;
        near.assert_silent_after(&mut bridge).await;
        bridge.publish(Publish::new("rantai/call/brokers/add", "[1]").qos(1)).await;
        assert_eq!(
            near.message().await.topic,
            "rantai/call/brokers/add",
            "level {level:#x}: others are not concerned"
        );
        bridge.disconnect().await;
    }
}
