//! Properties of MQTT 5: which are forwarded, which are not, and which are refused.

use std::time::Duration;

use crate::support::{
    Connect, Packet, Property, Publish, Version, Will, encode_properties, frame, lapse, string,
    subscribe_with, target, unique_topic, unsubscribe,
};
use Version::{V3, V5};

/// MQTT 5: [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
/// [MQTT-3.3.2-20] [MQTT-2.2.2-1]
#[tokio::test]
async fn the_properties_of_a_message_are_passed_on_unaltered_and_in_order() {
    let target = target().await;
    let topic = unique_topic("properties");
    let mut subscriber = target.client(V5).await;
    subscriber.subscribe(&topic, 2).await;
    let mut old = target.client(V3).await;
    old.subscribe(&topic, 2).await;
    let mut publisher = target.client(V5).await;
    let rich = [
        Property::user("z", "1"),
        Property::PayloadFormat(1),
        Property::user("a", ""),
        Property::ContentType("application/ĵson".into()),
        Property::ResponseTopic("reply/é/$x".into()),
        Property::user("", ""),
        Property::CorrelationData((0..=255).collect()),
        Property::user("z", "1"),
        Property::user("z", "0"),
    ];
    let plain = [Property::PayloadFormat(0), Property::CorrelationData(Vec::new())];
    for properties in [rich.to_vec(), plain.to_vec(), Vec::new()] {
        for qos in 0..=2 {
            let mut publish = Publish::new(&topic, "x").qos(qos);
            publish.properties.clone_from(&properties);
            publisher.publish(publish).await;
            let message = subscriber.message().await;
            // Only the order of user properties matters.
            let (mut users, mut rest) = split(&message.properties);
            let (expected_users, mut expected_rest) = split(&properties);
            // A payload format of 0 is equivalent to none (3.3.2.3.2), so it may be added or dropped.
            let says_something = |property: &Property| *property != Property::PayloadFormat(0);
            rest.retain(says_something);
            expected_rest.retain(says_something);
            rest.sort_by_key(Property::id);
            expected_rest.sort_by_key(Property::id);
            assert_eq!(std::mem::take(&mut users), expected_users);
            assert_eq!(rest, expected_rest);
            assert_eq!(old.message().await.text(), "x");
        }
    }
}

fn split(properties: &[Property]) -> (Vec<Property>, Vec<Property>) {
    let is_user = |property: &Property| matches!(property, Property::User(..));
    properties.iter().cloned().partition(is_user)
}

/// MQTT 5: [MQTT-3.3.2-6] [MQTT-3.3.2-5]
#[tokio::test]
async fn messages_count_down_while_they_wait_and_expire() {
    let target = target().await;
    let topic = unique_topic("expiry");
    let connect = Connect::new(V5).persistent();
    let mut client = target.connect(connect.clone()).await;
    client.subscribe(&topic, 1).await;
    client.disconnect().await;
    let mut publisher = target.client(V5).await;
    // The message that does not expire is behind many that do, which must not block it.
    for number in 0..30 {
        let publish = Publish::new(&topic, &number.to_string()).qos(1);
        publisher.publish(publish.property(Property::MessageExpiry(1))).await;
    }
    let live = Publish::new(&topic, "live").qos(1);
    publisher.publish(live.property(Property::MessageExpiry(1_000))).await;
    publisher.publish(Publish::new(&topic, "for ever").qos(1)).await;
    lapse(Duration::from_millis(2_100)).await;
    let mut client = target.connect(connect).await;
    let message = client.message().await;
    assert_eq!(message.text(), "live");
    let Some(Property::MessageExpiry(left)) = message.properties.first() else {
        panic!("the expiry is not passed on: {message:?}");
    };
    assert!((900..1_000).contains(left), "{left} s are left of 1,000");
    let message = client.message().await;
    assert_eq!(message.text(), "for ever");
    assert!(message.properties.is_empty());
    client.assert_silent().await;
}

/// MQTT 5: [MQTT-3.3.2-6]
#[tokio::test]
async fn the_expiry_of_a_message_that_did_not_wait_is_unchanged() {
    let target = target().await;
    let topic = unique_topic("expiry");
    let mut client = target.client(V5).await;
    client.subscribe(&topic, 1).await;
    for seconds in [100_000, u32::MAX] {
        let publish = Publish::new(&topic, "x").qos(1);
        client.publish(publish.property(Property::MessageExpiry(seconds))).await;
        let message = client.message().await;
        let Some(Property::MessageExpiry(left)) = message.properties.first() else {
            panic!("the expiry is not passed on: {message:?}");
        };
        assert!((seconds - 60..=seconds).contains(left), "{left} of {seconds}");
    }
}

/// MQTT 5: [MQTT-3.3.4-6]
#[tokio::test]
async fn a_client_sends_no_subscription_identifier_in_publish() {
    let target = target().await;
    let mut client = target.client(V5).await;
    let publish = Publish::new(&unique_topic("x"), "x").property(Property::SubscriptionId(1));
    client.assert_invalid(&publish.encode(V5)).await;
}

/// MQTT 5: [MQTT-3.3.2-14]
#[tokio::test]
async fn a_response_topic_has_no_wildcards() {
    let target = target().await;
    for topic in ["a/+", "#", "a#"] {
        let response = Property::ResponseTopic(topic.into());
        let mut client = target.client(V5).await;
        let publish = Publish::new(&unique_topic("x"), "x").property(response.clone());
        client.send(&publish.encode(V5)).await;
        client.assert_refused(&[0x81, 0x82, 0x90]).await;
        let will = Will::new(&unique_topic("x"), "x").property(response);
        let mut client = target.open(V5).await;
        let connect = Connect::new(V5).will(will).encode();
        client.assert_connect_refused(&connect, &[0x81, 0x82, 0x90]).await;
    }
}

/// MQTT 5: [MQTT-4.13.1-1]
#[tokio::test]
async fn properties_with_invalid_values_are_refused_in_connect() {
    let target = target().await;
    let once = |property: Property| vec![property];
    let twice = |property: Property| vec![property.clone(), property];
    let protocol_errors = [
        once(Property::ReceiveMaximum(0)),
        once(Property::MaximumPacketSize(0)),
        once(Property::RequestProblem(2)),
        once(Property::RequestResponse(2)),
        once(Property::AuthenticationData(vec![1])),
        twice(Property::SessionExpiry(1)),
        twice(Property::ReceiveMaximum(1)),
        twice(Property::MaximumPacketSize(1_000)),
        twice(Property::TopicAliasMaximum(1)),
        twice(Property::RequestProblem(1)),
        twice(Property::RequestResponse(0)),
    ];
    let of_other_packets = [
        once(Property::TopicAlias(1)),
        once(Property::ServerKeepAlive(1)),
        once(Property::SubscriptionId(1)),
        once(Property::ReasonString("x".into())),
    ];
    let codes: [&[u8]; 2] = [&[0x82], &[0x81, 0x82]];
    for (list, codes) in [&protocol_errors[..], &of_other_packets[..]].into_iter().zip(codes) {
        for properties in list {
            eprintln!("{properties:?}");
            let mut connect = Connect::new(V5);
            connect.properties.clone_from(properties);
            let mut client = target.open(V5).await;
            client.assert_connect_refused(&connect.encode(), codes).await;
        }
    }
}

/// MQTT 5: [MQTT-4.13.1-1]
#[tokio::test]
async fn properties_with_invalid_values_are_refused_in_a_will() {
    let target = target().await;
    let malformed: &[u8] = &[0x81, 0x82];
    for (properties, codes) in [
        (vec![Property::PayloadFormat(2)], &[0x82][..]),
        (vec![Property::WillDelay(1), Property::WillDelay(1)], &[0x82]),
        (vec![Property::MessageExpiry(1), Property::MessageExpiry(1)], &[0x82]),
        (vec![Property::SessionExpiry(1)], malformed),
        (vec![Property::TopicAlias(1)], malformed),
    ] {
        let mut will = Will::new(&unique_topic("x"), "x");
        will.properties = properties;
        let mut client = target.open(V5).await;
        let connect = Connect::new(V5).will(will).encode();
        client.assert_connect_refused(&connect, codes).await;
    }
}

/// A Message Expiry Interval of 0 is valid in a will (3.1.3.2.4).
///
/// MQTT 5: [MQTT-3.1.2-8]
#[tokio::test]
async fn a_will_that_expires_at_once_is_accepted() {
    let target = target().await;
    let will = Will::new(&unique_topic("x"), "x").property(Property::MessageExpiry(0));
    let client = target.connect(Connect::new(V5).will(will)).await;
    client.disconnect().await;
    let topic = unique_topic("x");
    let mut watcher = target.client(V5).await;
    watcher.subscribe(&topic, 0).await;
    let will = Will::new(&topic, "gone").property(Property::MessageExpiry(1_000));
    target.connect(Connect::new(V5).will(will)).await.cut().await;
    assert!(
        watcher.message().await.properties.contains(&Property::MessageExpiry(1_000)),
        "others as they are"
    );
}

/// MQTT 5: [MQTT-4.13.1-1]
#[tokio::test]
async fn properties_with_invalid_values_are_refused_in_publish() {
    let target = target().await;
    let text = || "x".to_owned();
    for properties in [
        vec![Property::PayloadFormat(2)],
        vec![Property::PayloadFormat(1), Property::PayloadFormat(1)],
        vec![Property::MessageExpiry(1), Property::MessageExpiry(1)],
        vec![Property::ContentType(text()), Property::ContentType(text())],
        vec![Property::ResponseTopic(text()), Property::ResponseTopic(text())],
        vec![Property::CorrelationData(vec![1]), Property::CorrelationData(vec![1])],
        vec![Property::TopicAlias(1), Property::TopicAlias(1)],
        vec![Property::SessionExpiry(1)],
        vec![Property::WillDelay(1)],
        vec![Property::ReasonString(text())],
    ] {
        eprintln!("{properties:?}");
        let mut publish = Publish::new(&unique_topic("x"), "x");
        publish.properties = properties;
        let mut client = target.client(V5).await;
        client.assert_invalid(&publish.encode(V5)).await;
    }
}

/// A topic alias that was never set is a protocol error (3.3.2.3.4).
///
/// MQTT 5: [MQTT-4.13.1-1]
#[tokio::test]
async fn an_unknown_topic_alias_is_a_protocol_error() {
    let target = target().await;
    let mut client = target.client(V5).await;
    let publish = Publish::new("", "x").property(Property::TopicAlias(1));
    client.send(&publish.encode(V5)).await;
    client.assert_refused(&[0x82]).await;
}

/// MQTT 5: [MQTT-1.5.5-1] [MQTT-4.13.1-1]
#[tokio::test]
async fn property_fields_that_cannot_be_read_are_malformed() {
    let target = target().await;
    let topic = string(&unique_topic("x"));
    let fields: [(&str, &[u8]); 6] = [
        ("an unknown property", &[2, 0x7F, 0]),
        ("property 0", &[2, 0x00, 0]),
        ("longer than the packet", &[200, 1, 0x01, 1]),
        ("a property cut short", &[2, 0x02, 0]),
        ("a length that is longer than need be", &[0x80, 0x00]),
        ("a length of five bytes", &[0x80, 0x80, 0x80, 0x80, 0x01]),
    ];
    for (what, field) in fields {
        eprintln!("{what}");
        let mut client = target.client(V5).await;
        client.assert_invalid(&frame(0x30, &[&topic, field].concat())).await;
        let mut client = target.open(V5).await;
        let mut body = string("MQTT");
        body.extend([5, 2, 0, 0]);
        body.extend(field);
        body.extend(string("id"));
        client.assert_connect_refused(&frame(0x10, &body), &[0x81, 0x82]).await;
    }
}

/// MQTT 5: [MQTT-3.1.2-29] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3]
/// [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2]
#[tokio::test]
async fn reason_strings_respect_the_clients_limits() {
    let target = target().await;
    let unasked = Connect::new(V5).property(Property::RequestProblem(0));
    let small = Connect::new(V5).property(Property::MaximumPacketSize(32));
    for connect in [unasked, small] {
        let asked = connect.properties[0] == Property::RequestProblem(0);
        let mut client = target.connect(connect).await;
        // Each is answered with an error, for which a broker may add a reason string.
        let packets = [
            Publish::new("$rantai/refused", "x").qos(1).id(1).encode(V5),
            Publish::new("$rantai/refused", "x").qos(2).id(2).encode(V5),
            vec![0x62, 2, 0, 9],
            vec![0x50, 2, 0, 9],
            subscribe_with(V5, 3, &[("$share/a/b", 0)], &[]),
            unsubscribe(V5, 4, &["none-such"]),
        ];
        for packet in packets {
            client.send(&packet).await;
            let packet = client.next().await;
            let properties = match &packet {
                Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
                    &ack.properties
                }
                Packet::Suback(ack) | Packet::Unsuback(ack) => &ack.properties,
                other => panic!("unexpected: {other:?}"),
            };
            if asked {
                assert!(properties.is_empty(), "{packet:?} explains itself");
            } else {
                // Two bytes of header, identifier, reason code, property length.
                let size = 6 + encode_properties(properties).len();
                assert!(size <= 32, "{packet:?} is too large");
            }
        }
    }
}

/// MQTT 5: [MQTT-3.14.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4] [MQTT-3.1.2-24]
#[tokio::test]
async fn disconnect_keeps_to_the_maximum_packet_size() {
    let target = target().await;
    let mut client = target.connect(Connect::new(V5).property(Property::MaximumPacketSize(100))).await;
    client.assert_invalid(&frame(0x82, &[0, 0])).await;
}
