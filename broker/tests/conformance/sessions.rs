//! Sessions: which state outlives a connection, for how long, and what is retransmitted.

use std::time::Duration;

use crate::support::{
    Client, Connect, Packet, Property, Publish, Target, Version, ack, disconnect, lapse, target, unique,
    unique_topic,
};
use Version::{V3, V5};

async fn session_present(target: &Target, connect: Connect) -> bool {
    let (client, connack) = target.try_connect(connect).await;
    assert_eq!(connack.code, 0);
    client.disconnect().await;
    connack.session_present
}

/// MQTT 5: [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.4-4] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
/// [MQTT-3.1.2-23] [MQTT-3.1.3-2]
/// MQTT 3.1.1: [MQTT-3.1.2-4] [MQTT-3.1.2-6] [MQTT-3.1.4-3] [MQTT-3.2.2-1] [MQTT-3.2.2-2]
/// [MQTT-3.2.2-3] [MQTT-4.1.0-1] [MQTT-3.1.3-2]
#[tokio::test]
async fn session_present_tells_whether_there_is_one() {
    let target = target().await;
    for version in Version::BOTH {
        let id = unique();
        let persistent = Connect::new(version).id(&id).persistent();
        let clean = Connect::new(version).id(&id);
        assert!(!session_present(&target, persistent.clone()).await, "a new session");
        assert!(session_present(&target, persistent.clone()).await, "its own");
        assert!(session_present(&target, persistent.clone()).await, "and again");
        assert!(!session_present(&target, clean.clone()).await, "discarded");
        assert!(!session_present(&target, persistent.clone()).await, "not brought back");
        let other = Connect::new(version).persistent();
        assert!(!session_present(&target, other).await, "somebody else's");
    }
}

/// MQTT 5: [MQTT-3.1.2-4] [MQTT-3.1.4-4]
/// MQTT 3.1.1: [MQTT-3.1.2-6] [MQTT-3.1.4-3]
#[tokio::test]
async fn a_clean_start_discards_subscriptions_and_messages() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("old");
        let id = unique();
        let persistent = Connect::new(version).id(&id).persistent();
        let mut client = target.connect(persistent).await;
        client.subscribe(&topic, 1).await;
        client.disconnect().await;
        let mut publisher = target.client(version).await;
        publisher.publish(Publish::new(&topic, "waiting").qos(1)).await;
        let mut client = target.connect(Connect::new(version).id(&id)).await;
        publisher.publish(Publish::new(&topic, "now").qos(1)).await;
        client.assert_silent_after(&mut publisher).await;
    }
}

/// MQTT 5: [MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-4.5.0-1]
/// MQTT 3.1.1: [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-4.1.0-1] [MQTT-4.5.0-1]
#[tokio::test]
async fn messages_wait_for_a_session_in_order() {
    let target = target().await;
    for version in Version::BOTH {
        for cut in [false, true] {
            let topic = unique_topic("waiting");
            let connect = Connect::new(version).persistent();
            let mut client = target.connect(connect.clone()).await;
            client.subscribe(&topic, 2).await;
            if cut {
                client.cut().await;
            } else {
                client.disconnect().await;
            }
            let mut publisher = target.client(version).await;
            for number in 0..20 {
                let publish = Publish::new(&topic, &number.to_string());
                let code = publisher.publish(publish.qos(1 + number % 2)).await;
                assert_eq!(code, 0, "a session that is away has a subscription too");
            }
            let (mut client, connack) = target.try_connect(connect).await;
            assert!(connack.session_present);
            for number in 0..20 {
                let message = client.message().await;
                assert_eq!(message.text(), number.to_string());
                assert!(!message.dup, "it was never sent before");
            }
            publisher.publish(Publish::new(&topic, "live").qos(1)).await;
            assert_eq!(client.message().await.text(), "live");
        }
    }
}

/// MQTT 5: [MQTT-3.1.2-23] [MQTT-4.1.0-2]
#[tokio::test]
async fn a_session_without_an_expiry_interval_ends_with_its_connection() {
    let target = target().await;
    let id = unique();
    for connect in [
        Connect::new(V5).id(&id).resume(),
        Connect::new(V5).id(&id).resume().property(Property::SessionExpiry(0)),
    ] {
        assert!(!session_present(&target, connect.clone()).await);
        assert!(!session_present(&target, connect).await);
    }
}

/// MQTT 5: [MQTT-4.1.0-2] [MQTT-4.1.0-1] [MQTT-3.1.2-23]
#[tokio::test]
async fn a_session_ends_when_its_interval_has_passed_since_the_disconnection() {
    let target = target().await;
    let topic = unique_topic("expired");
    let short = Connect::new(V5).resume().property(Property::SessionExpiry(1));
    let long = Connect::new(V5).resume().property(Property::SessionExpiry(u32::MAX));
    let mut here = target.connect(Connect::new(V5).property(Property::SessionExpiry(1))).await;
    here.subscribe(&topic, 1).await;
    for connect in [&short, &long] {
        target.connect(connect.clone()).await.disconnect().await;
    }
    lapse(Duration::from_millis(2_500)).await;
    assert!(!session_present(&target, short).await);
    assert!(session_present(&target, long).await);
    // The interval starts at the disconnection, so a connected session does not expire.
    here.publish(Publish::new(&topic, "x").qos(1)).await;
    assert_eq!(here.message().await.text(), "x");
}

/// MQTT 5: [MQTT-3.1.2-23] [MQTT-4.1.0-2]
#[tokio::test]
async fn disconnect_may_change_the_interval() {
    let target = target().await;
    for (seconds, stays) in [(1_000, true), (0, false)] {
        let connect = Connect::new(V5).persistent();
        let mut client = target.connect(connect.clone()).await;
        let change = [Property::SessionExpiry(seconds)];
        client.send(&disconnect(V5, 0, &change)).await;
        client.assert_ended().await;
        assert_eq!(session_present(&target, connect).await, stays);
    }
}

/// MQTT 5: [MQTT-4.13.1-1]
#[tokio::test]
async fn disconnect_may_not_prolong_a_session_that_ends_with_its_connection() {
    let target = target().await;
    let mut client = target.client(V5).await;
    client.send(&disconnect(V5, 0, &[Property::SessionExpiry(10)])).await;
    client.assert_refused(&[0x82]).await;
}

/// Returns a connection to a session with queued messages, and the messages in flight on it.
async fn in_flight(target: &Target, connect: &Connect, qos: u8) -> (Client, Vec<Publish>) {
    let topic = unique_topic("flight");
    let mut client = target.connect(connect.clone()).await;
    client.subscribe(&topic, qos).await;
    let mut publisher = target.client(connect.version).await;
    let mut deliveries = Vec::new();
    for number in 0..4 {
        publisher.publish(Publish::new(&topic, &number.to_string()).qos(qos)).await;
        deliveries.push(client.delivery().await);
    }
    (client, deliveries)
}

/// MQTT 5: [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3]
/// MQTT 3.1.1: [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-2.3.1-4]
/// [MQTT-4.6.0-6]
#[tokio::test]
async fn unacknowledged_messages_are_sent_again_with_their_identifiers_in_order() {
    let target = target().await;
    for version in Version::BOTH {
        for qos in 1..=2 {
            let connect = Connect::new(version).persistent();
            let (client, before) = in_flight(&target, &connect, qos).await;
            client.cut().await;
            let mut client = target.connect(connect.clone()).await;
            for old in &before {
                let again = client.message().await;
                let expected = old.clone().dup();
                assert_eq!((again.id, again.payload, again.dup), (expected.id, expected.payload, true));
            }
            client.assert_silent().await;
            // Messages that are acknowledged now do not arrive a third time.
            client.cut().await;
            target.connect(connect).await.assert_silent().await;
        }
    }
}

/// MQTT 5: [MQTT-4.4.0-1]
#[tokio::test]
async fn nothing_is_sent_again_while_the_connection_lasts() {
    let target = target().await;
    for version in Version::BOTH {
        for qos in 1..=2 {
            let connect = Connect::new(version).persistent();
            let (mut client, _) = in_flight(&target, &connect, qos).await;
            client.assert_silent().await;
            let mut other = target.client(version).await;
            client.assert_silent_after(&mut other).await;
        }
    }
}

/// MQTT 5: [MQTT-4.4.0-1] [MQTT-4.3.3-5] [MQTT-4.3.3-6]
/// MQTT 3.1.1: [MQTT-4.4.0-1] [MQTT-4.3.3-1]
#[tokio::test]
async fn a_pubrel_without_its_pubcomp_is_sent_again_and_the_publish_is_not() {
    let target = target().await;
    for version in Version::BOTH {
        let connect = Connect::new(version).persistent();
        let (mut client, before) = in_flight(&target, &connect, 2).await;
        for message in &before {
            client.send(&ack(5, version, message.id, 0)).await;
            assert!(matches!(client.next().await, Packet::Pubrel(rel) if rel.id == message.id));
        }
        client.cut().await;
        let mut client = target.connect(connect.clone()).await;
        for message in &before {
            match client.next().await {
                Packet::Pubrel(pubrel) => assert_eq!(pubrel.id, message.id),
                other => panic!("PUBREL is due and {other:?} comes"),
            }
            client.send(&ack(7, version, message.id, 0)).await;
        }
        client.assert_silent().await;
        client.cut().await;
        target.connect(connect).await.assert_silent().await;
    }
}

/// MQTT 5: [MQTT-4.4.0-2]
#[tokio::test]
async fn a_refused_message_is_not_sent_again() {
    let target = target().await;
    for qos in 1..=2 {
        let connect = Connect::new(V5).persistent();
        let (mut client, before) = in_flight(&target, &connect, qos).await;
        for message in &before {
            client.send(&ack(3 + qos, V5, message.id, 0x83)).await;
        }
        client.assert_silent().await;
        client.cut().await;
        target.connect(connect).await.assert_silent().await;
    }
}

/// MQTT 5: [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.1.0-1]
/// MQTT 3.1.1: [MQTT-4.3.3-2] [MQTT-4.1.0-1]
#[tokio::test]
async fn a_publisher_that_comes_back_finishes_qos_2_exactly_once() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("once");
        let mut subscriber = target.client(version).await;
        subscriber.subscribe(&topic, 2).await;
        let connect = Connect::new(version).persistent();
        let publish = Publish::new(&topic, "x").qos(2).id(77);
        let mut publisher = target.connect(connect.clone()).await;
        publisher.send(&publish.encode(version)).await;
        publisher.pubrec(77).await;
        publisher.cut().await;
        let mut publisher = target.connect(connect).await;
        publisher.publish(publish.dup()).await;
        assert_eq!(subscriber.message().await.text(), "x");
        subscriber.assert_silent_after(&mut publisher).await;
    }
}

/// MQTT 3.1.1: [MQTT-4.1.0-2]
/// MQTT 5: [MQTT-4.1.0-1]
#[tokio::test]
async fn a_session_lasts_as_long_as_its_connection() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("lasts");
        let mut client = target.client(version).await;
        client.subscribe(&topic, 1).await;
        let mut publisher = target.client(version).await;
        for _ in 0..3 {
            publisher.publish(Publish::new(&topic, "x").qos(1)).await;
            client.message().await;
            publisher.disconnect().await;
            publisher = target.client(version).await;
        }
    }
}

/// A device keeps its session when it is updated to the other version of MQTT.
#[tokio::test]
async fn a_session_may_be_resumed_by_the_other_version() {
    let target = target().await;
    for (first, second) in [(V3, V5), (V5, V3)] {
        let topic = unique_topic("versions");
        let id = unique();
        let mut client = target.connect(Connect::new(first).id(&id).persistent()).await;
        client.subscribe(&topic, 1).await;
        client.disconnect().await;
        let mut publisher = target.client(V5).await;
        let publish = Publish::new(&topic, "x").qos(1).property(Property::user("a", "b"));
        publisher.publish(publish).await;
        let mut client = target.connect(Connect::new(second).id(&id).persistent()).await;
        assert_eq!(client.message().await.text(), "x");
    }
}
