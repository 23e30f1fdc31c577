//! Flow control: receive maximum, packet size, topic aliases.

use crate::support::{
    Client, Connect, Packet, Property, Publish, Target, Version, ack, pingreq, target, target_with,
    unique_topic,
};
use Version::V5;

/// Returns the number in CONNACK for a property, or its default.
fn announced(client: &Client, default: u16, pick: fn(&Property) -> Option<u16>) -> u16 {
    let connack = client.connack.as_ref().expect("the client is connected");
    connack.properties.iter().find_map(pick).unwrap_or(default)
}

async fn with_receive_maximum(target: &Target, maximum: u16) -> Client {
    let connect = Connect::new(V5).property(Property::ReceiveMaximum(maximum));
    target.connect(connect).await
}

/// MQTT 5: [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
#[tokio::test]
async fn no_more_than_receive_maximum_is_in_flight() {
    let target = target().await;
    for maximum in 1..=3 {
        let topic = unique_topic("window");
        let mut client = with_receive_maximum(&target, maximum).await;
        client.subscribe(&topic, 1).await;
        let mut publisher = target.client(V5).await;
        for number in 0..10 {
            publisher.publish(Publish::new(&topic, &number.to_string()).qos(1)).await;
        }
        let mut open = Vec::new();
        for _ in 0..maximum {
            open.push(client.delivery().await);
        }
        // Only PUBLISH waits: PINGRESP, SUBACK and PUBACK are sent. QoS 0 may wait (4.9).
        client.assert_silent().await;
        client.subscribe(&unique_topic("other"), 0).await;
        client.publish(Publish::new(&unique_topic("own"), "x").qos(1)).await;
        client.assert_silent().await;
        for number in 0..10 {
            let oldest = open.remove(0);
            assert_eq!(oldest.text(), number.to_string());
            client.acknowledge(&oldest).await;
            if number + u32::from(maximum) < 10 {
                open.push(client.delivery().await);
            }
            client.assert_silent().await;
        }
    }
}

/// MQTT 5: [MQTT-3.3.4-9] [MQTT-4.9.0-2]
#[tokio::test]
async fn pubrec_makes_no_room_unless_it_refuses() {
    let target = target().await;
    let topic = unique_topic("window");
    let mut client = with_receive_maximum(&target, 1).await;
    client.subscribe(&topic, 2).await;
    let mut publisher = target.client(V5).await;
    for number in 0..3 {
        publisher.publish(Publish::new(&topic, &number.to_string()).qos(2)).await;
    }
    let first = client.delivery().await;
    client.send(&ack(5, V5, first.id, 0)).await;
    assert!(matches!(client.next().await, Packet::Pubrel(_)));
    client.assert_silent().await;
    client.send(&ack(7, V5, first.id, 0)).await;
    let second = client.delivery().await;
    assert_eq!(second.text(), "1");
    client.assert_silent().await;
    client.send(&ack(5, V5, second.id, 0x80)).await;
    assert_eq!(client.message().await.text(), "2");
}

/// MQTT 5: [MQTT-4.9.0-1] [MQTT-3.3.4-9]
#[tokio::test]
async fn receive_maximum_counts_for_messages_that_are_sent_again() {
    let target = target().await;
    let topic = unique_topic("again");
    let connect = Connect::new(V5).persistent();
    let mut client = target.connect(connect.clone()).await;
    client.subscribe(&topic, 1).await;
    let mut publisher = target.client(V5).await;
    for number in 0..4 {
        publisher.publish(Publish::new(&topic, &number.to_string()).qos(1)).await;
        client.delivery().await;
    }
    client.cut().await;
    let narrow = connect.property(Property::ReceiveMaximum(2));
    let mut client = target.connect(narrow).await;
    let first = client.delivery().await;
    let second = client.delivery().await;
    client.assert_silent().await;
    client.acknowledge(&first).await;
    client.acknowledge(&second).await;
    for number in 2..4 {
        assert_eq!(client.message().await.text(), number.to_string());
    }
}

/// MQTT 5: [MQTT-3.3.4-7] [MQTT-4.13.2-1]
#[tokio::test]
async fn a_client_that_exceeds_the_receive_maximum_is_disconnected() {
    let Some(target) = target_with(|config| config.limits.receive_maximum = 2).await else {
        return;
    };
    let topic = unique_topic("flood");
    let mut client = target.client(V5).await;
    let publish = |id| Publish::new(&topic, "x").qos(2).id(id).encode(V5);
    for id in 1..=2 {
        client.send(&publish(id)).await;
        client.pubrec(id).await;
    }
    // A completed message makes room for another.
    client.send(&ack(6, V5, 1, 0)).await;
    client.pubcomp(1).await;
    client.send(&publish(3)).await;
    client.pubrec(3).await;
    client.send(&publish(4)).await;
    client.assert_refused(&[0x93]).await;
}

/// MQTT 5: [MQTT-3.1.2-24] [MQTT-3.1.2-25]
#[tokio::test]
async fn a_message_too_large_for_a_client_is_skipped() {
    let target = target().await;
    for qos in 0..=2 {
        eprintln!("QoS {qos}");
        let topic = unique_topic("large");
        let connect = Connect::new(V5).property(Property::MaximumPacketSize(200));
        let mut small = target.connect(connect.property(Property::ReceiveMaximum(1))).await;
        small.subscribe(&topic, qos).await;
        let mut large = target.client(V5).await;
        large.subscribe(&topic, qos).await;
        let mut publisher = target.client(V5).await;
        let large_text = "x".repeat(300);
        for text in ["before", &large_text, &large_text, "after"] {
            publisher.publish(Publish::new(&topic, text).qos(qos)).await;
            assert_eq!(large.message().await.text(), text);
        }
        // With a Receive Maximum of 1, "after" arrives only if the others count as completed.
        assert_eq!(small.message().await.text(), "before");
        assert_eq!(small.message().await.text(), "after");
        small.assert_silent_after(&mut publisher).await;
    }
}

/// MQTT 5: [MQTT-3.1.2-24]
#[tokio::test]
async fn a_packet_of_just_the_maximum_size_is_sent() {
    let target = target().await;
    let topic = unique_topic("exact");
    let publish = Publish::new(&topic, &"x".repeat(60));
    let size = publish.encode(V5).len() as u32;
    for (maximum, fits) in [(size, true), (size - 1, false)] {
        let connect = Connect::new(V5).property(Property::MaximumPacketSize(maximum));
        let mut client = target.connect(connect).await;
        client.subscribe(&topic, 0).await;
        client.publish(publish.clone()).await;
        if fits {
            assert_eq!(client.message().await.payload, publish.payload);
        }
        client.assert_silent().await;
    }
}

/// MQTT 5: [MQTT-3.2.2-15] [MQTT-4.13.2-1]
/// MQTT 3.1.1: [MQTT-4.8.0-2]
#[tokio::test]
async fn a_packet_over_our_maximum_size_ends_the_connection() {
    let Some(target) = target_with(|config| config.limits.packet_bytes = 1_000).await else {
        return;
    };
    let topic = unique_topic("large");
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        let overhead = Publish::new(&topic, "").encode(version).len() + 1;
        let fits = Publish::new(&topic, &"x".repeat(1_000 - overhead));
        assert_eq!(fits.encode(version).len(), 1_000);
        client.send(&fits.encode(version)).await;
        client.assert_silent().await;
        let over = Publish::new(&topic, &"x".repeat(1_001 - overhead));
        client.send(&over.encode(version)).await;
        client.assert_refused(&[0x95]).await;
        // The announced length is enough: the broker does not wait for 256 MB.
        let mut client = target.client(version).await;
        client.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).await;
        client.assert_refused(&[0x95]).await;
    }
}

fn alias(topic: &str, text: &str, alias: u16) -> Publish {
    Publish::new(topic, text).property(Property::TopicAlias(alias))
}

/// MQTT 5: [MQTT-3.3.2-12]
#[tokio::test]
async fn every_topic_alias_up_to_the_maximum_is_taken() {
    let target = target().await;
    let mut publisher = target.client(V5).await;
    let maximum = announced(&publisher, 0, |property| match property {
        Property::TopicAliasMaximum(maximum) => Some(*maximum),
        _ => None,
    });
    assert_ne!(maximum, 0, "the broker takes no aliases");
    let base = unique_topic("alias");
    let mut subscriber = target.client(V5).await;
    subscriber.subscribe(&format!("{base}/#"), 0).await;
    for number in 1..=maximum {
        publisher.publish(alias(&format!("{base}/{number}"), "set", number)).await;
        assert_eq!(subscriber.message().await.topic, format!("{base}/{number}"));
    }
    for number in (1..=maximum).rev() {
        publisher.publish(alias("", "used", number)).await;
        let message = subscriber.message().await;
        assert_eq!((message.topic, message.payload), (format!("{base}/{number}"), b"used".into()));
    }
    // An alias may be assigned to another topic.
    publisher.publish(alias(&format!("{base}/other"), "moved", 1)).await;
    publisher.publish(alias("", "used", 1)).await;
    for _ in 0..2 {
        assert_eq!(subscriber.message().await.topic, format!("{base}/other"));
    }
}

/// MQTT 5: [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.2.2-17]
#[tokio::test]
async fn a_topic_alias_of_0_or_over_the_maximum_is_invalid() {
    let target = target().await;
    let client = target.client(V5).await;
    let maximum = announced(&client, 0, |property| match property {
        Property::TopicAliasMaximum(maximum) => Some(*maximum),
        _ => None,
    });
    for number in [0, maximum + 1, u16::MAX] {
        let mut client = target.client(V5).await;
        client.send(&alias(&unique_topic("x"), "x", number).encode(V5)).await;
        client.assert_refused(&[0x94]).await;
    }
}

/// MQTT 5: [MQTT-3.2.2-18]
#[tokio::test]
async fn a_broker_that_takes_no_aliases_refuses_them() {
    let Some(target) = target_with(|config| config.limits.topic_aliases = 0).await else {
        return;
    };
    let mut client = target.client(V5).await;
    client.send(&alias(&unique_topic("x"), "x", 1).encode(V5)).await;
    client.assert_refused(&[0x94]).await;
}

/// MQTT 5: [MQTT-3.3.2-7]
#[tokio::test]
async fn a_topic_alias_lives_as_long_as_its_connection() {
    let target = target().await;
    let connect = Connect::new(V5).persistent();
    let mut client = target.connect(connect.clone()).await;
    client.publish(alias(&unique_topic("x"), "x", 1)).await;
    client.assert_silent().await;
    client.disconnect().await;
    let mut client = target.connect(connect).await;
    client.send(&alias("", "x", 1).encode(V5)).await;
    client.assert_refused(&[0x82]).await;
}

/// The test client itself fails on an alias above the maximum, or on one that was never set.
///
/// MQTT 5: [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
#[tokio::test]
async fn aliases_towards_a_client_keep_to_its_maximum() {
    let target = target().await;
    let base = unique_topic("alias");
    let mut publisher = target.client(V5).await;
    for maximum in [0, 1, 3] {
        let connect = Connect::new(V5).property(Property::TopicAliasMaximum(maximum));
        let mut client = target.connect(connect).await;
        client.subscribe(&format!("{base}/#"), 1).await;
        for number in 0..20 {
            let topic = format!("{base}/{}", number % 5);
            publisher.publish(Publish::new(&topic, &number.to_string()).qos(1)).await;
            let message = client.message().await;
            assert_eq!(
                (message.topic.as_str(), message.text()),
                (topic.as_str(), number.to_string().as_str())
            );
        }
    }
    let mut client = target.client(V5).await;
    client.subscribe(&format!("{base}/#"), 1).await;
    for _ in 0..3 {
        publisher.publish(Publish::new(&format!("{base}/x"), "x").qos(1)).await;
        client.message().await;
    }
}

/// MQTT 5: [MQTT-4.9.0-3]
#[tokio::test]
async fn a_client_that_acknowledges_nothing_is_still_served() {
    let target = target().await;
    let topic = unique_topic("deaf");
    let mut client = with_receive_maximum(&target, 1).await;
    client.subscribe(&topic, 1).await;
    let mut publisher = target.client(V5).await;
    for _ in 0..3 {
        publisher.publish(Publish::new(&topic, "x").qos(1)).await;
    }
    client.delivery().await;
    for _ in 0..20 {
        client.send(&pingreq()).await;
        assert_eq!(client.next().await, Packet::Pingresp);
        client.publish(Publish::new(&unique_topic("own"), "x").qos(2)).await;
    }
}
