//! State that a broker with a `data_dir` restores after a regular stop. The CLI's tests cover kills.

use std::path::Path;

use crate::Own;
use crate::support::{Connect, Property, Publish, Version, Will};
use Version::{V3, V5};

async fn start(dir: &Path) -> Own {
    Own::start(|c| c.data_dir = Some(dir.to_owned())).await
}

#[tokio::test]
async fn sessions_queues_and_retained_messages_are_restored() {
    let dir = tempfile::tempdir().unwrap();
    let v5 = Connect::new(V5).id("five").persistent();
    let v3 = Connect::new(V3).id("three").persistent();
    let own = start(dir.path()).await;
    for connect in [&v5, &v3] {
        let mut client = own.connect(connect.clone()).await;
        client.subscribe("q/#", 2).await;
        client.disconnect().await;
    }
    let mut publisher = own.client(V5).await;
    for qos in [2, 1] {
        let message = Publish::new("q/x", &format!("qos {qos}")).qos(qos).property(Property::user("k", "v"));
        assert_eq!(publisher.publish(message).await, 0);
    }
    publisher.publish(Publish::new("r/kept", "kept").qos(1).retain()).await;
    publisher.publish(Publish::new("r/gone", "gone").qos(1).retain()).await;
    publisher.publish(Publish::new("r/gone", "").qos(1).retain()).await;
    own.broker.shutdown().await;

    let own = start(dir.path()).await;
    let mut clients = Vec::new();
    for connect in [v5, v3] {
        let version = connect.version;
        let mut client = own.open(version).await;
        let ack = client.present(connect.resume()).await;
        assert!(ack.session_present);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let got = client.message().await;
            assert_eq!(got.text(), format!("qos {}", got.qos));
            assert_eq!(got.properties.len(), usize::from(version == V5));
            seen.push(got.qos);
        }
        // Messages of different QoS have no order among them (MQTT 5, 4.6).
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        clients.push(client);
    }
    // The subscriptions were restored, too.
    let mut publisher = own.client(V5).await;
    assert_eq!(publisher.publish(Publish::new("q/y", "new").qos(1)).await, 0);
    for client in &mut clients {
        assert_eq!(client.message().await.text(), "new");
    }
    let mut reader = own.client(V5).await;
    reader.subscribe("r/#", 1).await;
    let kept = reader.message().await;
    assert_eq!((kept.text(), kept.retain), ("kept", true));
    reader.assert_silent().await;
}

#[tokio::test]
async fn nothing_of_an_ended_session_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let connect = Connect::new(V5).id("five").persistent();
    let own = start(dir.path()).await;
    let mut client = own.connect(connect.clone()).await;
    client.subscribe("q/#", 1).await;
    client.disconnect().await;
    // A clean start ends the session, and begins one that ends with its connection.
    own.connect(Connect::new(V5).id("five")).await.disconnect().await;
    own.broker.shutdown().await;
    let own = start(dir.path()).await;
    let mut client = own.open(V5).await;
    assert!(!client.present(connect.resume()).await.session_present);
}

#[tokio::test]
async fn a_will_is_kept_with_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let own = start(dir.path()).await;
    let mut heir = own.connect(Connect::new(V5).id("heir").persistent()).await;
    heir.subscribe("will", 1).await;
    heir.disconnect().await;
    let will = Will::new("will", "gone").qos(1);
    let testator = own.connect(Connect::new(V5).id("testator").persistent().will(will)).await;
    own.broker.shutdown().await;
    drop(testator);
    let own = start(dir.path()).await;
    let mut heir = own.connect(Connect::new(V5).id("heir").persistent().resume()).await;
    assert_eq!(heir.message().await.text(), "gone");
}
