//! Retained messages.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Property, Publish, Target, Version, lapse, target, unique_topic};
use Version::{V3, V5};

/// Retain As Published bit of the Subscription Options (MQTT 5, 3.8.3.1).
const AS_PUBLISHED: u8 = 0x08;
/// Retain Handling 1: send retained messages only for new subscriptions.
const IF_NEW: u8 = 0x10;
/// Retain Handling 2: send no retained messages.
const NONE: u8 = 0x20;

/// Returns the retained message that a new subscription to `topic` receives.
async fn retained(target: &Target, version: Version, topic: &str) -> Option<Publish> {
    let mut client = target.client(version).await;
    let marker = unique_topic("marker");
    client.subscribe(topic, 2).await;
    client.subscribe(&marker, 0).await;
    client.publish(Publish::new(&marker, "")).await;
    let message = client.message().await;
    if message.topic == marker {
        return None;
    }
    assert_eq!(client.message().await.topic, marker, "more than one is retained");
    Some(message)
}

/// MQTT 5: [MQTT-3.3.1-5] [MQTT-3.3.1-9]
/// MQTT 3.1.1: [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8]
#[tokio::test]
async fn a_new_subscription_receives_the_last_retained_message() {
    let target = target().await;
    for (from, to) in [(V3, V3), (V5, V5), (V3, V5), (V5, V3)] {
        for qos in 0..=2 {
            let topic = unique_topic("kept");
            let mut publisher = target.client(from).await;
            for payload in ["first", "last"] {
                publisher.publish(Publish::new(&topic, payload).qos(qos).retain()).await;
            }
            publisher.disconnect().await;
            let message = retained(&target, to, &topic).await.expect("it is retained");
            assert_eq!((message.text(), message.qos), ("last", qos));
            assert!(message.retain && !message.dup);
        }
    }
}

/// MQTT 5: [MQTT-3.3.1-12]
/// MQTT 3.1.1: [MQTT-3.3.1-9]
#[tokio::test]
async fn an_existing_subscription_receives_a_retained_message_without_the_flag() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("there");
        let mut client = target.client(version).await;
        client.subscribe(&topic, 1).await;
        client.publish(Publish::new(&topic, "x").qos(1).retain()).await;
        assert!(!client.message().await.retain);
    }
}

/// MQTT 5: [MQTT-3.3.1-12] [MQTT-3.3.1-13]
#[tokio::test]
async fn retain_as_published_keeps_the_flag() {
    let target = target().await;
    let topic = unique_topic("as-published");
    let mut keeps = target.client(V5).await;
    keeps.subscribe(&topic, 1 | AS_PUBLISHED).await;
    let mut clears = target.client(V5).await;
    clears.subscribe(&topic, 1).await;
    let mut publisher = target.client(V5).await;
    for retain in [true, false] {
        let mut publish = Publish::new(&topic, "x").qos(1);
        publish.retain = retain;
        publisher.publish(publish).await;
        assert_eq!(keeps.message().await.retain, retain);
        assert!(!clears.message().await.retain);
    }
}

/// MQTT 3.1.1: [MQTT-3.3.1-7]
#[tokio::test]
async fn a_retained_message_at_qos_0_replaces_one_at_qos_1() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("replaced");
        let mut publisher = target.client(version).await;
        publisher.publish(Publish::new(&topic, "old").qos(1).retain()).await;
        publisher.publish(Publish::new(&topic, "new").retain()).await;
        publisher.disconnect().await;
        let message = retained(&target, version, &topic).await.expect("it is retained");
        assert_eq!((message.text(), message.qos), ("new", 0));
    }
}

/// MQTT 5: [MQTT-3.3.1-6] [MQTT-3.3.1-7]
/// MQTT 3.1.1: [MQTT-3.3.1-10] [MQTT-3.3.1-11]
#[tokio::test]
async fn an_empty_retained_message_removes_the_previous_one() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("removed");
        let mut watcher = target.client(version).await;
        watcher.subscribe(&topic, 1).await;
        let mut publisher = target.client(version).await;
        for payload in ["x", "", ""] {
            publisher.publish(Publish::new(&topic, payload).qos(1).retain()).await;
            // Existing subscribers receive the empty message like any other.
            assert_eq!(watcher.message().await.text(), payload);
        }
        assert_eq!(retained(&target, version, &topic).await, None);
    }
}

/// MQTT 5: [MQTT-3.3.1-8]
/// MQTT 3.1.1: [MQTT-3.3.1-12]
#[tokio::test]
async fn a_message_without_the_flag_leaves_the_retained_one_alone() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("alone");
        let mut publisher = target.client(version).await;
        publisher.publish(Publish::new(&topic, "not kept").qos(1)).await;
        assert_eq!(retained(&target, version, &topic).await, None);
        publisher.publish(Publish::new(&topic, "kept").qos(1).retain()).await;
        publisher.publish(Publish::new(&topic, "not kept").qos(1)).await;
        publisher.publish(Publish::new(&topic, "").qos(1)).await;
        let message = retained(&target, version, &topic).await.expect("it is retained");
        assert_eq!(message.text(), "kept");
    }
}

/// MQTT 5: [MQTT-3.3.1-9] [MQTT-3.8.4-4]
/// MQTT 3.1.1: [MQTT-3.8.4-3]
#[tokio::test]
async fn subscribing_again_sends_the_retained_message_again() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("again");
        let mut client = target.client(version).await;
        client.publish(Publish::new(&topic, "x").qos(1).retain()).await;
        for _ in 0..3 {
            client.subscribe(&topic, 1).await;
            let message = client.message().await;
            assert!(message.retain);
        }
        client.assert_silent().await;
    }
}

/// MQTT 5: [MQTT-3.3.1-10]
#[tokio::test]
async fn retain_handling_1_sends_retained_messages_only_for_new_subscriptions() {
    let target = target().await;
    let topic = unique_topic("if-new");
    let mut client = target.client(V5).await;
    client.publish(Publish::new(&topic, "x").qos(1).retain()).await;
    client.subscribe(&topic, 1 | IF_NEW).await;
    assert!(client.message().await.retain);
    client.subscribe(&topic, 1 | IF_NEW).await;
    client.assert_silent().await;
    client.unsubscribe(&[&topic]).await;
    client.subscribe(&topic, 1 | IF_NEW).await;
    assert!(client.message().await.retain);
}

/// MQTT 5: [MQTT-3.3.1-11]
#[tokio::test]
async fn retain_handling_2_sends_none() {
    let target = target().await;
    let topic = unique_topic("none");
    let mut client = target.client(V5).await;
    client.publish(Publish::new(&topic, "x").qos(1).retain()).await;
    for _ in 0..2 {
        client.subscribe(&topic, 1 | NONE).await;
        client.assert_silent().await;
    }
}

/// MQTT 3.1.1: [MQTT-3.1.2-7]
#[tokio::test]
async fn retained_messages_outlive_the_session_that_sent_them() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("outlives");
        let mut publisher = target.client(version).await;
        publisher.publish(Publish::new(&topic, "x").qos(1).retain()).await;
        let id = publisher.id.clone();
        publisher.disconnect().await;
        // A clean session with the same id discards the previous session.
        let again = crate::support::Connect::new(version).id(&id);
        target.connect(again).await.disconnect().await;
        assert!(retained(&target, version, &topic).await.is_some());
    }
}

/// MQTT 5: [MQTT-3.3.1-9]
/// MQTT 3.1.1: [MQTT-3.3.1-6]
#[tokio::test]
async fn a_wildcard_gets_every_one_of_many() {
    let target = target().await;
    for version in Version::BOTH {
        let base = unique_topic("many");
        let mut publisher = target.client(version).await;
        let topics: BTreeSet<String> = (0..1_000).map(|n| format!("{base}/{}/{n}", n % 7)).collect();
        for topic in &topics {
            publisher.publish(Publish::new(topic, "x").qos(1).retain()).await;
        }
        for filter in ["#", "+/+"] {
            let mut client = target.client(version).await;
            client.subscribe(&format!("{base}/{filter}"), 1).await;
            let mut got = BTreeSet::new();
            for _ in 0..topics.len() {
                let message = client.message().await;
                assert!(message.retain);
                assert!(got.insert(message.topic), "a retained message came twice");
            }
            assert_eq!(got, topics);
        }
    }
}

/// MQTT 5: [MQTT-3.8.4-8]
/// MQTT 3.1.1: [MQTT-3.8.4-6]
#[tokio::test]
async fn retained_messages_are_delivered_at_the_lower_of_both_qos() {
    let target = target().await;
    for version in Version::BOTH {
        for sent in 0..=2 {
            let topic = unique_topic("qos");
            let mut client = target.client(version).await;
            client.publish(Publish::new(&topic, "x").qos(sent).retain()).await;
            for granted in 0..=2 {
                client.subscribe(&topic, granted).await;
                assert_eq!(client.message().await.qos, sent.min(granted));
            }
        }
    }
}

/// MQTT 5: [MQTT-3.3.2-6] [MQTT-3.3.2-17]
#[tokio::test]
async fn retained_messages_keep_their_properties() {
    let target = target().await;
    let topic = unique_topic("properties");
    let properties = [
        Property::PayloadFormat(1),
        Property::ContentType("text/plain".into()),
        Property::ResponseTopic("reply/here".into()),
        Property::CorrelationData(vec![0, 1, 2]),
        Property::user("b", "2"),
        Property::user("a", "1"),
    ];
    let mut publish = Publish::new(&topic, "x").qos(1).retain();
    publish.properties = properties.to_vec();
    target.client(V5).await.publish(publish).await;
    for _ in 0..2 {
        let message = retained(&target, V5, &topic).await.expect("it is retained");
        for property in &properties {
            assert!(message.properties.contains(property), "{property:?} is lost");
        }
    }
    let message = retained(&target, V3, &topic).await.expect("it is retained");
    assert_eq!(message.text(), "x");
}

/// MQTT 5: [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[tokio::test]
async fn a_retained_message_counts_down_and_expires() {
    let target = target().await;
    let short = unique_topic("short");
    let long = unique_topic("long");
    let mut publisher = target.client(V5).await;
    for (topic, seconds) in [(&short, 1), (&long, 1_000)] {
        let publish = Publish::new(topic, "x").qos(1).retain();
        publisher.publish(publish.property(Property::MessageExpiry(seconds))).await;
    }
    lapse(Duration::from_millis(2_100)).await;
    assert_eq!(retained(&target, V5, &short).await, None);
    assert_eq!(retained(&target, V3, &short).await, None);
    // A read does not change the retained message.
    for _ in 0..2 {
        let message = retained(&target, V5, &long).await.expect("it is retained");
        let left = message.properties.iter().find_map(|property| match property {
            Property::MessageExpiry(left) => Some(*left),
            _ => None,
        });
        let left = left.expect("the expiry is passed on");
        assert!((900..1_000).contains(&left), "{left} s are left of 1,000");
    }
}
