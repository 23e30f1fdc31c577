//! PUBLISH: receivers, QoS and order of messages.

use crate::support::{Publish, Version, ack, frame, string, target, unique_topic};
use Version::{V3, V5};

/// MQTT 5: [MQTT-3.8.4-8] [MQTT-3.3.4-1] [MQTT-3.3.2-3] [MQTT-4.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.2-4]
/// [MQTT-4.3.3-2] [MQTT-4.3.3-8] [MQTT-4.5.0-1] [MQTT-3.3.1-2] [MQTT-2.2.1-2]
/// MQTT 3.1.1: [MQTT-3.8.4-6] [MQTT-3.3.4-1] [MQTT-3.3.2-3] [MQTT-4.3.1-1] [MQTT-4.3.2-1]
/// [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.5.0-1] [MQTT-3.3.1-2] [MQTT-2.3.1-5]
#[tokio::test]
async fn messages_are_delivered_at_the_lower_of_both_qos() {
    let target = target().await;
    for (from, to) in [(V3, V3), (V5, V5), (V3, V5), (V5, V3)] {
        let mut publisher = target.client(from).await;
        for granted in 0..=2 {
            let topic = unique_topic("qos");
            let mut subscriber = target.client(to).await;
            subscriber.subscribe(&topic, granted).await;
            for sent in 0..=2 {
                let code = publisher.publish(Publish::new(&topic, "x").qos(sent)).await;
                assert_eq!(code, 0);
                let message = subscriber.message().await;
                assert_eq!(message.qos, sent.min(granted), "{sent} to {granted}");
                assert_eq!((message.topic.as_str(), message.text()), (topic.as_str(), "x"));
                assert!(!message.dup && !message.retain);
            }
            subscriber.assert_silent_after(&mut publisher).await;
        }
    }
}

/// MQTT 5: [MQTT-3.3.1-4]
/// MQTT 3.1.1: [MQTT-3.3.1-4]
#[tokio::test]
async fn qos_3_is_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        let publish = Publish::new(&unique_topic("x"), "x").qos(3).id(1);
        client.send(&publish.encode(version)).await;
        client.assert_refused(&[0x81]).await;
    }
}

/// MQTT 5: [MQTT-3.3.1-2]
/// MQTT 3.1.1: [MQTT-3.3.1-2]
#[tokio::test]
async fn dup_at_qos_0_is_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        let publish = Publish::new(&unique_topic("x"), "x").dup();
        client.assert_invalid(&publish.encode(version)).await;
    }
}

/// MQTT 5: [MQTT-3.3.1-3]
/// MQTT 3.1.1: [MQTT-3.3.1-3]
#[tokio::test]
async fn dup_of_the_publisher_is_not_forwarded() {
    let target = target().await;
    for version in Version::BOTH {
        for qos in 1..=2 {
            let topic = unique_topic("dup");
            let mut subscriber = target.client(version).await;
            subscriber.subscribe(&topic, qos).await;
            let mut publisher = target.client(version).await;
            publisher.publish(Publish::new(&topic, "x").qos(qos).dup()).await;
            assert!(!subscriber.message().await.dup);
        }
    }
}

/// MQTT 5: [MQTT-2.2.1-3]
/// MQTT 3.1.1: [MQTT-2.3.1-1]
#[tokio::test]
async fn packet_identifier_0_is_refused() {
    let target = target().await;
    for version in Version::BOTH {
        for qos in 1..=2 {
            let mut client = target.client(version).await;
            let publish = Publish::new(&unique_topic("x"), "x").qos(qos);
            client.assert_invalid(&publish.encode(version)).await;
        }
    }
}

/// MQTT 5: [MQTT-2.2.1-5] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11] [MQTT-3.4.2-1]
/// [MQTT-3.5.2-1] [MQTT-3.7.2-1]
/// MQTT 3.1.1: [MQTT-2.3.1-6] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
#[tokio::test]
async fn acknowledgements_carry_the_identifier_of_the_publish() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        let topic = unique_topic("id");
        client.subscribe(&topic, 0).await;
        for id in [1, 0x1234, u16::MAX] {
            for qos in 1..=2 {
                client.publish(Publish::new(&topic, "x").qos(qos).id(id)).await;
            }
        }
    }
}

/// MQTT 5: [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.2-3] [MQTT-4.3.3-1] [MQTT-4.3.3-3]
/// MQTT 3.1.1: [MQTT-2.3.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
#[tokio::test]
async fn messages_in_flight_have_identifiers_of_their_own() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("ids");
        let mut subscriber = target.client(version).await;
        subscriber.subscribe(&topic, 2).await;
        let mut publisher = target.client(version).await;
        for number in 0..10 {
            let qos = 1 + number % 2;
            publisher.publish(Publish::new(&topic, "x").qos(qos)).await;
        }
        let mut ids = Vec::new();
        for _ in 0..10 {
            let message = subscriber.delivery().await;
            assert!(!ids.contains(&message.id), "{} is in use", message.id);
            ids.push(message.id);
        }
    }
}

/// MQTT 5: [MQTT-3.3.2-2] [MQTT-4.7.0-1]
/// MQTT 3.1.1: [MQTT-3.3.2-2] [MQTT-4.7.1-1]
#[tokio::test]
async fn a_topic_name_has_no_wildcards() {
    let target = target().await;
    for version in Version::BOTH {
        for topic in ["+", "#", "a/+/b", "a/#", "a+", "b#c"] {
            let mut client = target.client(version).await;
            client.send(&Publish::new(topic, "x").encode(version)).await;
            client.assert_refused(&[0x81, 0x82, 0x90]).await;
        }
    }
}

/// MQTT 5: [MQTT-4.7.3-1] [MQTT-3.3.2-1]
/// MQTT 3.1.1: [MQTT-4.7.3-1] [MQTT-3.3.2-1]
#[tokio::test]
async fn a_topic_name_is_not_empty() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        client.send(&Publish::new("", "x").encode(version)).await;
        client.assert_refused(&[0x81, 0x82, 0x90]).await;
    }
}

/// MQTT 5: [MQTT-3.3.2-1]
/// MQTT 3.1.1: [MQTT-3.3.2-1]
#[tokio::test]
async fn a_publish_without_its_fields_is_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        let past_the_end = frame(0x30, &[0, 9, b'a']);
        let no_identifier = frame(0x32, &string("a"));
        for bytes in [vec![0x30, 0], past_the_end, no_identifier] {
            let mut client = target.client(version).await;
            client.assert_invalid(&bytes).await;
        }
    }
}

/// This tells a caller at once that nobody serves a name. Servers need not report it; this broker does, for
/// retained messages too.
///
/// MQTT 5: [MQTT-3.4.2-1] [MQTT-3.5.2-1]
#[tokio::test]
async fn a_publish_without_subscribers_is_answered_with_that_reason() {
    let target = target().await;
    let mut client = target.client(V5).await;
    for qos in 1..=2 {
        let topic = unique_topic("nobody");
        let publish = Publish::new(&topic, "x").qos(qos);
        assert_eq!(client.publish(publish.clone()).await, 0x10);
        assert_eq!(client.publish(publish.retain()).await, 0x10);
        client.publish(Publish::new(&topic, "").retain().qos(1)).await;
    }
    let mut old = target.client(V3).await;
    for qos in 1..=2 {
        old.publish(Publish::new(&unique_topic("nobody"), "x").qos(qos)).await;
    }
}

/// MQTT 5: [MQTT-4.7.2-1]
/// MQTT 3.1.1: [MQTT-3.3.5-2] [MQTT-4.7.2-1]
#[tokio::test]
async fn clients_cannot_publish_to_topics_with_a_dollar() {
    let target = target().await;
    let mut publisher = target.client(V5).await;
    let mut old = target.client(V3).await;
    for topic in ["$SYS/broker/version", "$rantai/x", "$"] {
        let mut subscriber = target.client(V5).await;
        subscriber.subscribe("$rantai/#", 2).await;
        for qos in 1..=2 {
            let code = publisher.publish(Publish::new(topic, "x").qos(qos)).await;
            assert_eq!(code, 0x87, "{topic}");
            // 3.1.1 cannot refuse a single message: it is acknowledged and dropped.
            old.publish(Publish::new(topic, "x").qos(qos)).await;
        }
        publisher.publish(Publish::new(topic, "x")).await;
        old.publish(Publish::new(topic, "x")).await;
        subscriber.assert_silent_after(&mut publisher).await;
        subscriber.assert_silent_after(&mut old).await;
    }
}

/// MQTT 5: [MQTT-4.6.0-5] [MQTT-4.6.0-6]
/// MQTT 3.1.1: [MQTT-4.6.0-5] [MQTT-4.6.0-6]
#[tokio::test]
async fn messages_of_a_publisher_keep_their_order() {
    let target = target().await;
    for version in Version::BOTH {
        for qos in 0..=2 {
            let topic = unique_topic("order");
            let mut subscriber = target.client(version).await;
            subscriber.subscribe(&topic, qos).await;
            let mut publisher = target.client(version).await;
            // Bursts of 10: no Receive Maximum in use is lower.
            for burst in 0..10_u16 {
                let numbers = burst * 10 + 1..=burst * 10 + 10;
                let packets = numbers.clone().map(|number| {
                    let publish = Publish::new(&topic, &number.to_string());
                    publish.qos(qos).id(number).encode(version)
                });
                publisher.send(&packets.collect::<Vec<_>>().concat()).await;
                for number in numbers.clone() {
                    match qos {
                        0 => {}
                        1 => assert!(publisher.puback(number).await < 0x80),
                        _ => assert!(publisher.pubrec(number).await < 0x80),
                    }
                }
                if qos == 2 {
                    for number in numbers {
                        publisher.send(&ack(6, version, number, 0)).await;
                        publisher.pubcomp(number).await;
                    }
                }
            }
            for number in 1..=100 {
                assert_eq!(subscriber.message().await.text(), number.to_string());
            }
        }
    }
}

/// A payload may have any bytes and any length up to the limit, including 0.
#[tokio::test]
async fn payloads_are_passed_on_as_they_are() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("payload");
        let mut client = target.client(version).await;
        client.subscribe(&topic, 1).await;
        let every_byte: Vec<u8> = (0..=255).collect();
        for payload in [Vec::new(), every_byte.clone(), every_byte.repeat(1_000)] {
            let mut publish = Publish::new(&topic, "").qos(1);
            publish.payload.clone_from(&payload);
            client.publish(publish).await;
            assert_eq!(client.message().await.payload, payload);
        }
    }
}

/// MQTT 5: [MQTT-4.5.0-1]
/// MQTT 3.1.1: [MQTT-4.5.0-1]
#[tokio::test]
async fn every_matching_client_gets_a_message() {
    let target = target().await;
    let topic = unique_topic("all");
    let mut subscribers = Vec::new();
    for number in 0..10 {
        let version = if number % 2 == 0 { V3 } else { V5 };
        let mut subscriber = target.client(version).await;
        subscriber.subscribe(&topic, number % 3).await;
        subscribers.push(subscriber);
    }
    let mut publisher = target.client(V5).await;
    assert_eq!(publisher.publish(Publish::new(&topic, "x").qos(2)).await, 0);
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.message().await.text(), "x");
        subscriber.assert_silent_after(&mut publisher).await;
    }
}
