//! SUBSCRIBE and UNSUBSCRIBE.

use crate::support::{
    Packet, Property, Publish, Version, ack, frame, string, subscribe, subscribe_with, target, unique_topic,
    unsubscribe,
};
use Version::V5;

/// No Local bit of the Subscription Options (MQTT 5, 3.8.3.1).
const NO_LOCAL: u8 = 0x04;

/// MQTT 5: [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7]
/// [MQTT-3.9.3-1] [MQTT-3.9.3-2] [MQTT-2.2.1-6] [MQTT-2.2.2-1] [MQTT-3.2.2-10]
/// MQTT 3.1.1: [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.9.3-1]
/// [MQTT-3.9.3-2] [MQTT-2.3.1-7]
#[tokio::test]
async fn suback_answers_every_filter_in_order() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        let topics: Vec<String> = (0..4).map(|_| unique_topic("x")).collect();
        let filters: Vec<(&str, u8)> = topics.iter().map(String::as_str).zip([2, 0, 1, 2]).collect();
        for id in [1, 0x4321, u16::MAX] {
            client.send(&subscribe(version, id, &filters)).await;
            assert_eq!(client.suback(id).await, [2, 0, 1, 2]);
        }
        for (topic, _) in filters {
            client.publish(Publish::new(topic, "x")).await;
            assert_eq!(client.message().await.topic, topic);
        }
    }
}

/// MQTT 5: [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-2.1.3-1]
/// MQTT 3.1.1: [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-2.2.2-1] [MQTT-2.2.2-2]
#[tokio::test]
async fn header_flags_other_than_2_are_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        for flags in [0, 1, 3, 6, 10] {
            let mut packets = [subscribe(version, 1, &[("a", 0)]), unsubscribe(version, 1, &["a"])];
            for packet in &mut packets {
                packet[0] = (packet[0] & 0xF0) | flags;
                let mut client = target.client(version).await;
                client.assert_invalid(packet).await;
            }
        }
    }
}

/// MQTT 5: [MQTT-3.8.3-2] [MQTT-3.10.3-2]
/// MQTT 3.1.1: [MQTT-3.8.3-3] [MQTT-3.10.3-2]
#[tokio::test]
async fn at_least_one_filter_is_needed() {
    let target = target().await;
    for version in Version::BOTH {
        for packet in [subscribe(version, 1, &[]), unsubscribe(version, 1, &[])] {
            let mut client = target.client(version).await;
            client.assert_invalid(&packet).await;
        }
    }
}

/// Bits 6 and 7 are reserved in MQTT 5, and all but the QoS in 3.1.1; a Retain Handling of 3 is invalid.
///
/// MQTT 5: [MQTT-3.8.3-5] [MQTT-2.1.3-1]
/// MQTT 3.1.1: [MQTT-3.8.3-4]
#[tokio::test]
async fn invalid_subscription_options_are_refused() {
    let target = target().await;
    for (version, options, codes) in [
        (Version::V3, &[0x03, 0x04, 0x08, 0x10, 0x80][..], &[][..]),
        (V5, &[0x40, 0x80, 0xC0, 0xC3], &[0x81]),
        // Values that are protocol errors by the standard (MQTT 5, 3.8.3.1).
        (V5, &[0x03, 0x30, 0x33], &[0x82]),
    ] {
        for &option in options {
            let mut client = target.client(version).await;
            client.send(&subscribe(version, 1, &[("fine", 0), ("a", option)])).await;
            client.assert_refused(codes).await;
        }
    }
}

/// MQTT 5: [MQTT-2.2.1-3]
/// MQTT 3.1.1: [MQTT-2.3.1-1]
#[tokio::test]
async fn packet_identifier_0_is_refused() {
    let target = target().await;
    for version in Version::BOTH {
        for packet in [subscribe(version, 0, &[("a", 0)]), unsubscribe(version, 0, &["a"])] {
            let mut client = target.client(version).await;
            client.assert_invalid(&packet).await;
        }
    }
}

/// MQTT 5: [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-1]
/// MQTT 3.1.1: [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-1]
#[tokio::test]
async fn a_filter_that_does_not_end_in_its_packet_is_malformed() {
    let target = target().await;
    for version in Version::BOTH {
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        let body = |rest: &[u8]| [&[0, 1], properties, rest].concat();
        let without_options = frame(0x82, &body(&string("a")));
        let too_long = frame(0x82, &body(&[0, 9, b'a', 0]));
        let unsubscribe_too_long = frame(0xA2, &body(&[0, 9, b'a']));
        for packet in [without_options, too_long, unsubscribe_too_long] {
            let mut client = target.client(version).await;
            client.assert_invalid(&packet).await;
        }
    }
}

/// MQTT 5: [MQTT-3.8.4-3]
/// MQTT 3.1.1: [MQTT-3.8.4-3]
#[tokio::test]
async fn the_same_filter_again_replaces_the_subscription() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("again");
        let mut client = target.client(version).await;
        let mut publisher = target.client(version).await;
        for qos in [2, 0, 1] {
            client.subscribe(&topic, qos).await;
            publisher.publish(Publish::new(&topic, "x").qos(2)).await;
            assert_eq!(client.message().await.qos, qos);
            client.assert_silent_after(&mut publisher).await;
        }
        client.unsubscribe(&[&topic]).await;
        publisher.publish(Publish::new(&topic, "x").qos(2)).await;
        client.assert_silent_after(&mut publisher).await;
    }
}

/// MQTT 5: [MQTT-3.8.4-4] [MQTT-3.8.4-3]
/// MQTT 3.1.1: [MQTT-3.8.4-3]
#[tokio::test]
async fn replacing_a_subscription_loses_nothing() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("stream");
        let mut client = target.client(version).await;
        client.subscribe(&topic, 1).await;
        let mut publisher = target.client(version).await;
        for number in 0..50_u16 {
            let publish = Publish::new(&topic, &number.to_string()).qos(1).id(number + 1);
            publisher.send(&publish.encode(version)).await;
            if number % 10 == 5 {
                client.send(&subscribe(version, 1_000 + number, &[(&topic, 1)])).await;
            }
            publisher.puback(number + 1).await;
        }
        for number in [5, 15, 25, 35, 45] {
            assert_eq!(client.suback(1_000 + number).await, [1]);
        }
        for number in 0..50 {
            assert_eq!(client.message().await.text(), number.to_string());
        }
    }
}

/// MQTT 5: [MQTT-3.8.3-3]
#[tokio::test]
async fn no_local_keeps_own_messages_away() {
    let target = target().await;
    let topic = unique_topic("local");
    let mut own = target.client(V5).await;
    let mut other = target.client(V5).await;
    own.subscribe(&topic, 1 | NO_LOCAL).await;
    for qos in 0..=2 {
        own.publish(Publish::new(&topic, "mine").qos(qos)).await;
        other.publish(Publish::new(&topic, "theirs").qos(qos)).await;
        assert_eq!(own.message().await.text(), "theirs");
    }
    own.assert_silent_after(&mut other).await;
    own.subscribe(&topic, 1).await;
    own.publish(Publish::new(&topic, "mine again").qos(1)).await;
    assert_eq!(own.message().await.text(), "mine again");
}

/// This broker sends one copy at the highest QoS; the standard also allows one copy per subscription.
///
/// MQTT 5: [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
/// MQTT 3.1.1: [MQTT-3.3.5-1]
#[tokio::test]
async fn overlapping_subscriptions_give_one_copy_at_the_highest_qos() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("overlap");
        let wide = topic.replace("overlap", "#");
        let single = topic.replace("overlap", "+");
        let mut client = target.client(version).await;
        let mut publisher = target.client(version).await;
        if version == V5 {
            client.subscribe_as(&wide, 0, 1).await;
            client.subscribe_as(&single, 2, 268_435_455).await;
        } else {
            client.subscribe(&wide, 0).await;
            client.subscribe(&single, 2).await;
        }
        client.subscribe(&topic, 1).await;
        publisher.publish(Publish::new(&topic, "x").qos(2)).await;
        let message = client.message().await;
        assert_eq!(message.qos, 2);
        if version == V5 {
            assert_eq!(message.subscription_ids(), [1, 268_435_455]);
        }
        client.assert_silent_after(&mut publisher).await;
    }
}

/// MQTT 5: [MQTT-3.3.4-3] [MQTT-3.8.4-3]
#[tokio::test]
async fn a_subscription_identifier_comes_with_its_messages_until_it_is_replaced() {
    let target = target().await;
    let topic = unique_topic("ids");
    let mut client = target.client(V5).await;
    for id in [1, 128, 16_384, 268_435_455] {
        client.subscribe_as(&topic, 1, id).await;
        client.publish(Publish::new(&topic, "x").qos(1)).await;
        assert_eq!(client.message().await.subscription_ids(), [id]);
    }
    client.subscribe(&topic, 1).await;
    client.publish(Publish::new(&topic, "x").qos(1)).await;
    assert!(client.message().await.subscription_ids().is_empty());
}

/// MQTT 5: [MQTT-4.13.1-1]
#[tokio::test]
async fn a_subscription_identifier_of_0_or_two_of_them_are_protocol_errors() {
    let target = target().await;
    let one = Property::SubscriptionId(1);
    for properties in [vec![Property::SubscriptionId(0)], vec![one.clone(), one]] {
        let mut client = target.client(V5).await;
        client.send(&subscribe_with(V5, 1, &[("a", 0)], &properties)).await;
        client.assert_refused(&[0x82]).await;
    }
}

/// MQTT 5: [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6]
/// [MQTT-3.11.3-1] [MQTT-3.11.3-2] [MQTT-2.2.1-6]
/// MQTT 3.1.1: [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6]
/// [MQTT-2.3.1-7]
#[tokio::test]
async fn unsubscribe_ends_exactly_the_filters_it_names() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("a");
        let other = topic.replace("/a", "/b");
        let wildcard = topic.replace("/a", "/+");
        let none_such = topic.replace("/a", "/#");
        let mut client = target.client(version).await;
        let mut publisher = target.client(version).await;
        for filter in [&topic, &other, &wildcard] {
            client.subscribe(filter, 1).await;
        }
        // `#` matches all three topics, but is another subscription.
        let codes = client.unsubscribe(&[&none_such, &topic, &wildcard, &topic]).await;
        if version == V5 {
            assert_eq!(codes, [0x11, 0, 0, 0x11]);
        }
        publisher.publish(Publish::new(&topic, "gone").qos(1)).await;
        publisher.publish(Publish::new(&other, "here").qos(1)).await;
        assert_eq!(client.message().await.text(), "here");
        client.assert_silent_after(&mut publisher).await;
    }
}

/// MQTT 5: [MQTT-3.10.4-3]
/// MQTT 3.1.1: [MQTT-3.10.4-3]
#[tokio::test]
async fn unsubscribe_does_not_end_deliveries_in_flight() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("flight");
        let mut client = target.client(version).await;
        client.subscribe(&topic, 2).await;
        let mut publisher = target.client(version).await;
        publisher.publish(Publish::new(&topic, "x").qos(2)).await;
        let message = client.delivery().await;
        client.unsubscribe(&[&topic]).await;
        client.send(&ack(5, version, message.id, 0)).await;
        client.release(message.id).await;
        client.assert_silent_after(&mut publisher).await;
    }
}

/// MQTT 3.1.1: [MQTT-3.8.3-2]
#[tokio::test]
async fn wildcards_are_granted() {
    let target = target().await;
    for version in Version::BOTH {
        let mut client = target.client(version).await;
        let filters = [("#", 0), ("+", 1), ("+/a/#", 2), ("/", 0)];
        assert_eq!(client.subscribe_all(&filters, &[]).await, [0, 1, 2, 0]);
    }
}

/// Invalid filters are not granted: the connection ends, or SUBACK has an error code.
///
/// MQTT 5: [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1]
/// MQTT 3.1.1: [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-1]
#[tokio::test]
async fn filters_with_misplaced_wildcards_are_not_granted() {
    let target = target().await;
    for version in Version::BOTH {
        for filter in ["", "a/#/b", "#/a", "a#", "a/b#", "##", "a+", "+a", "a/+b/c", "++", "a/#+"] {
            let mut client = target.client(version).await;
            client.send(&subscribe(version, 1, &[(filter, 0)])).await;
            match client.next_or_end().await {
                None => assert!(version == Version::V3 || crate::support::is_external()),
                Some(Packet::Disconnect { code, .. }) => assert!(code >= 0x80),
                Some(Packet::Suback(suback)) => {
                    assert!(suback.codes[0] >= 0x80, "{filter:?} is granted");
                }
                Some(other) => panic!("{filter:?} is answered with {other:?}"),
            }
        }
    }
}
