//! Packet exchanges of QoS 1 and 2, step by step.

use std::time::Duration;

use crate::support::{Packet, Property, Publish, Version, ack, frame, lapse, target, unique_topic};
use Version::{V3, V5};

/// MQTT 5: [MQTT-4.3.2-5]
/// MQTT 3.1.1: [MQTT-4.3.2-2]
#[tokio::test]
async fn after_puback_the_identifier_is_free_even_with_dup() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("reuse");
        let mut subscriber = target.client(version).await;
        subscriber.subscribe(&topic, 1).await;
        let mut publisher = target.client(version).await;
        for payload in ["first", "second"] {
            let publish = Publish::new(&topic, payload).qos(1).id(5);
            publisher.publish(publish.clone()).await;
            publisher.publish(publish.dup()).await;
            for _ in 0..2 {
                assert_eq!(subscriber.message().await.text(), payload);
            }
        }
    }
}

/// MQTT 5: [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12]
/// MQTT 3.1.1: [MQTT-4.3.3-2]
#[tokio::test]
async fn until_pubrel_a_repeated_publish_is_acknowledged_and_not_delivered_again() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("exactly-once");
        let mut subscriber = target.client(version).await;
        subscriber.subscribe(&topic, 2).await;
        let mut publisher = target.client(version).await;
        let publish = Publish::new(&topic, "x").qos(2).id(9);
        for _ in 0..2 {
            publisher.send(&publish.encode(version)).await;
            publisher.pubrec(9).await;
            for _ in 0..3 {
                publisher.send(&publish.clone().dup().encode(version)).await;
                publisher.pubrec(9).await;
            }
            publisher.send(&ack(6, version, 9, 0)).await;
            assert_eq!(publisher.pubcomp(9).await, 0);
            // The identifier is free again, so the next round is a new message.
            assert_eq!(subscriber.message().await.text(), "x");
            subscriber.assert_silent_after(&mut publisher).await;
        }
    }
}

/// MQTT 5: [MQTT-4.3.3-11] [MQTT-3.7.2-1]
/// MQTT 3.1.1: [MQTT-4.3.3-2]
#[tokio::test]
async fn a_pubrel_with_an_unknown_identifier_is_completed() {
    let target = target().await;
    for (version, code) in [(V3, 0), (V5, 0x92)] {
        let mut client = target.client(version).await;
        for id in [3, 3, u16::MAX] {
            client.send(&ack(6, version, id, 0)).await;
            assert_eq!(client.pubcomp(id).await, code);
        }
    }
}

/// MQTT 5: [MQTT-4.3.3-4] [MQTT-2.2.1-5] [MQTT-3.6.2-1] [MQTT-4.3.3-6]
/// MQTT 3.1.1: [MQTT-4.3.3-1] [MQTT-2.3.1-6]
#[tokio::test]
async fn pubrec_is_answered_with_pubrel_each_time() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("release");
        let mut client = target.client(version).await;
        client.subscribe(&topic, 2).await;
        client.publish(Publish::new(&topic, "x").qos(2)).await;
        let message = client.delivery().await;
        for _ in 0..2 {
            client.send(&ack(5, version, message.id, 0)).await;
            assert!(matches!(client.next().await, Packet::Pubrel(rel) if rel.id == message.id));
        }
        client.send(&ack(7, version, message.id, 0)).await;
        client.assert_silent().await;
    }
}

/// MQTT 5: [MQTT-3.6.2-1]
#[tokio::test]
async fn a_pubrec_with_an_unknown_identifier_is_answered_not_found() {
    let target = target().await;
    let mut client = target.client(V5).await;
    client.send(&ack(5, V5, 321, 0)).await;
    match client.next().await {
        Packet::Pubrel(pubrel) => assert_eq!((pubrel.id, pubrel.code), (321, 0x92)),
        other => panic!("PUBREL is due and {other:?} comes"),
    }
}

/// MQTT 5: [MQTT-4.3.3-4] [MQTT-4.4.0-2]
#[tokio::test]
async fn a_refusing_pubrec_ends_the_exchange() {
    let target = target().await;
    let topic = unique_topic("refused");
    let mut client = target.client(V5).await;
    client.subscribe(&topic, 2).await;
    client.publish(Publish::new(&topic, "x").qos(2)).await;
    let message = client.delivery().await;
    client.send(&ack(5, V5, message.id, 0x80)).await;
    client.assert_silent().await;
}

/// Acknowledgements of messages that were never sent have no effect.
#[tokio::test]
async fn acknowledgements_with_unknown_identifiers_are_ignored() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        for kind in [4, 7] {
            client.send(&ack(kind, version, 999, 0)).await;
        }
        client.assert_silent().await;
    }
}

/// MQTT 5: [MQTT-3.6.1-1] [MQTT-2.1.3-1]
/// MQTT 3.1.1: [MQTT-3.6.1-1] [MQTT-2.2.2-1] [MQTT-2.2.2-2]
#[tokio::test]
async fn flags_of_acknowledgements_are_checked() {
    let target = target().await;
    for version in Version::BOTH {
        for first in [0x60, 0x61, 0x63, 0x66, 0x6A, 0x41, 0x42, 0x52, 0x58, 0x72, 0x74] {
            let mut client = target.client(version).await;
            client.assert_invalid(&frame(first, &[0, 1])).await;
        }
    }
}

/// MQTT 5: [MQTT-2.2.1-3]
/// MQTT 3.1.1: [MQTT-2.3.1-1]
#[tokio::test]
async fn acknowledgements_without_an_identifier_are_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        for first in [0x40, 0x50, 0x62, 0x70] {
            for body in [&[][..], &[1][..]] {
                let mut client = target.client(version).await;
                client.assert_invalid(&frame(first, body)).await;
            }
        }
    }
}

/// MQTT 5: [MQTT-4.3.3-9]
#[tokio::test]
async fn an_identifier_whose_publish_was_refused_is_free() {
    let target = target().await;
    if crate::support::is_external() {
        eprintln!("SKIPPED: it needs a topic that the broker refuses");
        return;
    }
    let topic = unique_topic("free");
    let mut client = target.client(V5).await;
    client.subscribe(&topic, 2).await;
    for _ in 0..2 {
        let refused = Publish::new("$rantai/refused", "x").qos(2).id(6);
        assert_eq!(client.publish(refused).await, 0x87);
        assert_eq!(client.publish(Publish::new(&topic, "x").qos(2).id(6)).await, 0);
        assert_eq!(client.message().await.text(), "x");
    }
}

/// MQTT 5: [MQTT-4.3.3-7] [MQTT-4.3.3-13]
#[tokio::test]
async fn a_message_that_was_sent_no_longer_expires() {
    let target = target().await;
    let topic = unique_topic("sent");
    let connect = crate::support::Connect::new(V5).persistent();
    let mut client = target.connect(connect.clone()).await;
    client.subscribe(&topic, 2).await;
    let mut publisher = target.client(V5).await;
    let expiring = |topic: &str, id| {
        let publish = Publish::new(topic, "x").qos(2).id(id);
        publish.property(Property::MessageExpiry(1))
    };
    publisher.publish(expiring(&topic, 1)).await;
    publisher.publish(expiring(&topic, 2)).await;
    let released = client.delivery().await;
    let unacknowledged = client.delivery().await;
    // A message that the broker has received and may not have passed on. It has no subscriber, so that it need not be.
    publisher.send(&expiring(&unique_topic("received"), 3).encode(V5)).await;
    publisher.pubrec(3).await;
    lapse(Duration::from_millis(2_100)).await;
    client.send(&ack(5, V5, released.id, 0)).await;
    client.release(released.id).await;
    client.cut().await;
    let mut client = target.connect(connect).await;
    assert_eq!(client.message().await.id, unacknowledged.id);
    client.assert_silent().await;
    publisher.send(&ack(6, V5, 3, 0)).await;
    assert_eq!(publisher.pubcomp(3).await, 0);
}
