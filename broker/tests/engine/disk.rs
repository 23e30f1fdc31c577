//! Disk with less free space than the reserve: operations without storage continue, and the others are refused with a
//! reason.

use std::path::Path;
use std::time::Duration;

use crate::Own;
use crate::support::{Connack, Connect, Packet, Property, Publish, Version, Will, pingreq};
use Version::{V3, V5};

const QUOTA_EXCEEDED: u8 = 0x97;

/// Starts a broker whose reserve is larger than any disk.
async fn start_low(dir: &Path) -> Own {
    Own::start(|c| {
        c.data_dir = Some(dir.to_owned());
        c.limits.free_space_bytes = Some(u64::MAX);
        c.sys_interval = Duration::from_millis(100);
    })
    .await
}

fn names_the_disk(properties: &[Property]) -> bool {
    properties.iter().any(|p| matches!(p, Property::ReasonString(text) if text.contains("disk")))
}

/// Creates a stored session that is subscribed to `q/#` and has a queued message.
async fn absent(dir: &Path) -> Connect {
    let own = Own::start(|c| c.data_dir = Some(dir.to_owned())).await;
    let connect = Connect::new(V5).id("absent").persistent();
    let mut client = own.connect(connect.clone()).await;
    client.subscribe("q/#", 1).await;
    client.disconnect().await;
    let mut publisher = own.client(V5).await;
    assert_eq!(publisher.publish(Publish::new("q/x", "kept").qos(1)).await, 0);
    assert_eq!(
        publisher.publish(Publish::new("r/old", "kept").qos(1).retain()).await,
        0x10,
        "nobody listens"
    );
    own.broker.shutdown().await;
    connect
}

#[tokio::test]
async fn operations_that_need_the_disk_are_refused_and_others_continue() {
    let dir = tempfile::tempdir().unwrap();
    let _ = absent(dir.path()).await;
    let own = start_low(dir.path()).await;
    for version in [V5, V3] {
        let mut reader = own.client(version).await;
        reader.subscribe("live/#", 2).await;
        let mut publisher = own.client(version).await;
        for qos in [0, 1, 2] {
            assert_eq!(publisher.publish(Publish::new("live/x", &qos.to_string()).qos(qos)).await, 0);
            assert_eq!(reader.message().await.text(), qos.to_string());
        }
        publisher.send(&pingreq()).await;
        assert_eq!(publisher.reply().await, Packet::Pingresp);
        // The message is not retained, but is delivered to subscribers.
        publisher.publish(Publish::new("live/r", "r").retain()).await;
        assert_eq!(reader.message().await.text(), "r");
        let mut late = own.client(version).await;
        late.subscribe("live/#", 1).await;
        late.assert_silent().await;
    }
    let mut publisher = own.client(V5).await;
    for (topic, retain) in [("q/y", false), ("live/kept", true)] {
        for qos in [1, 2] {
            let mut publish = Publish::new(topic, "x").qos(qos).id(publisher.fresh_id());
            publish.retain = retain;
            publisher.send(&publish.encode(V5)).await;
            let (Packet::Puback(ack) | Packet::Pubrec(ack)) = publisher.reply().await else {
                panic!("not acknowledged")
            };
            assert_eq!(
                (ack.code, names_the_disk(&ack.properties)),
                (QUOTA_EXCEEDED, true),
                "{topic} at {qos}"
            );
        }
    }
    assert_eq!(publisher.publish(Publish::new("q/y", "x")).await, 0, "QoS 0 waits for nobody");
    // Deleting a retained message is always allowed.
    assert_eq!(publisher.publish(Publish::new("r/old", "").qos(1).retain()).await, 0x10);
    let mut three = own.client(V3).await;
    three.send(&Publish::new("q/y", "x").qos(1).id(1).encode(V3)).await;
    three.assert_ended().await;
    assert!(own.broker.counts().refused_store >= 5);
}

#[tokio::test]
async fn on_a_full_disk_no_persistent_session_begins_and_existing_ones_are_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let connect = absent(dir.path()).await;
    let own = start_low(dir.path()).await;
    let Connack { code, properties, .. } =
        own.open(V5).await.present(Connect::new(V5).id("new").persistent()).await;
    assert_eq!((code, names_the_disk(&properties)), (QUOTA_EXCEEDED, true));
    let (_, code) = own.try_connect(Connect::new(V3).id("three").persistent()).await;
    assert_eq!(code, 3, "server unavailable");

    let mut client = own.open(V5).await;
    assert!(client.present(connect.clone().resume()).await.session_present);
    assert_eq!(client.message().await.text(), "kept");
    // An existing subscription may be requested again.
    let codes = client.subscribe_all(&[("q/#", 1), ("other", 1), ("q/#", 0)], &[]).await;
    assert_eq!(codes, [1, QUOTA_EXCEEDED, QUOTA_EXCEEDED]);
    assert_eq!(client.unsubscribe(&["q/#"]).await, [0]);
    client.disconnect().await;
    own.broker.shutdown().await;

    // Deleted messages were also deleted from disk.
    let own = Own::start(|c| c.data_dir = Some(dir.path().to_owned())).await;
    let mut client = own.open(V5).await;
    assert!(client.present(connect.resume()).await.session_present);
    assert_eq!(own.client(V5).await.publish(Publish::new("q/x", "x").qos(1)).await, 0x10);
    client.subscribe("other", 1).await;
    client.assert_silent().await;
}

#[tokio::test]
async fn wills_are_delivered_and_queued_but_not_retained() {
    let dir = tempfile::tempdir().unwrap();
    let connect = absent(dir.path()).await;
    let own = start_low(dir.path()).await;
    let mut reader = own.client(V5).await;
    reader.subscribe("q/#", 1).await;
    let will = Will::new("q/will", "gone").qos(1).retain();
    own.connect(Connect::new(V5).will(will)).await.cut().await;
    assert_eq!(reader.message().await.text(), "gone");
    let mut late = own.client(V5).await;
    late.subscribe("q/#", 1).await;
    late.assert_silent().await;
    own.broker.shutdown().await;

    let own = Own::start(|c| c.data_dir = Some(dir.path().to_owned())).await;
    let mut client = own.open(V5).await;
    assert!(client.present(connect.resume()).await.session_present);
    assert_eq!(client.message().await.text(), "kept");
    assert_eq!(client.message().await.text(), "gone");
}

#[tokio::test]
async fn sys_reports_the_state_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let own = start_low(dir.path()).await;
    let mut reader = own.client(V5).await;
    reader.subscribe("$SYS/broker/disk/+", 0).await;
    let mut seen = std::collections::BTreeMap::new();
    while seen.len() < 5 {
        let got = reader.message().await;
        seen.insert(got.topic.clone(), got.text().to_owned());
    }
    assert_eq!(seen["$SYS/broker/disk/state"], "low");
    assert_eq!(seen["$SYS/broker/disk/floor"], u64::MAX.to_string());
    assert_eq!((&*seen["$SYS/broker/disk/salvaged"], &*seen["$SYS/broker/disk/lost"]), ("0", "0"));
    assert!(seen["$SYS/broker/disk/free"].parse::<u64>().is_ok());
}
