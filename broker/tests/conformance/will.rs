//! Wills: when and how they are published, and when they are not.

use crate::support::{
    Client, Connect, Property, Publish, Target, Version, Will, disconnect, frame, target, unique,
    unique_topic,
};
use Version::V5;

/// Returns a client that is subscribed to a will, and the topic of the will.
async fn watch(target: &Target, version: Version) -> (Client, String) {
    let topic = unique_topic("will");
    let mut watcher = target.client(version).await;
    watcher.subscribe(&topic, 2).await;
    (watcher, topic)
}

/// MQTT 5: [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-14]
/// MQTT 3.1.1: [MQTT-3.1.2-8] [MQTT-3.1.2-16]
#[tokio::test]
async fn a_lost_connection_publishes_the_will() {
    let target = target().await;
    for version in Version::BOTH {
        for qos in 0..=2 {
            let (mut watcher, topic) = watch(&target, version).await;
            let will = Will::new(&topic, "gone").qos(qos);
            target.connect(Connect::new(version).will(will)).await.cut().await;
            let message = watcher.message().await;
            assert_eq!((message.text(), message.qos, message.retain), ("gone", qos, false));
            let mut late = target.client(version).await;
            late.subscribe(&topic, 0).await;
            late.assert_silent().await;
        }
    }
}

/// MQTT 5: [MQTT-3.1.2-15]
/// MQTT 3.1.1: [MQTT-3.1.2-17]
#[tokio::test]
async fn a_will_with_retain_is_retained() {
    let target = target().await;
    for version in Version::BOTH {
        let (mut watcher, topic) = watch(&target, version).await;
        let will = Will::new(&topic, "gone").qos(1).retain();
        target.connect(Connect::new(version).will(will)).await.cut().await;
        assert!(!watcher.message().await.retain);
        let mut late = target.client(version).await;
        late.subscribe(&topic, 1).await;
        let message = late.message().await;
        assert!(message.retain);
        assert_eq!(message.text(), "gone");
    }
}

/// MQTT 5: [MQTT-3.14.4-3] [MQTT-3.1.2-8] [MQTT-3.1.2-10]
/// MQTT 3.1.1: [MQTT-3.14.4-3] [MQTT-3.1.2-8] [MQTT-3.1.2-10]
#[tokio::test]
async fn a_disconnect_in_order_discards_the_will() {
    let target = target().await;
    for version in Version::BOTH {
        let (mut watcher, topic) = watch(&target, version).await;
        let connect = Connect::new(version).will(Will::new(&topic, "gone").qos(1));
        target.connect(connect.clone()).await.disconnect().await;
        // A DISCONNECT of two bytes has reason code 0 (MQTT 5, 3.14.2.1).
        let mut client = target.connect(connect.clone()).await;
        client.send(&[0xE0, 0]).await;
        client.assert_ended().await;
        // The next connection has no will, and the previous one is not restored.
        target.connect(Connect::new(version).id(&connect.id)).await.cut().await;
        let mut other = target.client(version).await;
        watcher.assert_silent_after(&mut other).await;
    }
}

/// MQTT 3.1.1: [MQTT-3.1.2-12]
/// MQTT 5: [MQTT-3.1.2-10]
#[tokio::test]
async fn a_will_is_published_once() {
    let target = target().await;
    for version in Version::BOTH {
        let (mut watcher, topic) = watch(&target, version).await;
        let id = unique();
        let connect = Connect::new(version).id(&id).persistent();
        let with_will = connect.clone().will(Will::new(&topic, "gone").qos(1));
        target.connect(with_will).await.cut().await;
        assert_eq!(watcher.message().await.text(), "gone");
        target.connect(connect).await.cut().await;
        let mut other = target.client(version).await;
        watcher.assert_silent_after(&mut other).await;
    }
}

/// MQTT 5: [MQTT-3.1.2-8] [MQTT-4.13.1-1]
/// MQTT 3.1.1: [MQTT-3.1.2-8] [MQTT-4.8.0-1]
#[tokio::test]
async fn a_protocol_error_publishes_the_will() {
    let target = target().await;
    for version in Version::BOTH {
        let (mut watcher, topic) = watch(&target, version).await;
        let connect = Connect::new(version).will(Will::new(&topic, "gone").qos(1));
        let mut client = target.connect(connect).await;
        client.assert_invalid(&frame(0x82, &[0, 0])).await;
        assert_eq!(watcher.message().await.text(), "gone");
    }
}

/// MQTT 5: [MQTT-3.1.2-8]
#[tokio::test]
async fn a_disconnect_with_another_reason_publishes_the_will() {
    let target = target().await;
    for code in [0x04, 0x80, 0x81, 0x98] {
        let (mut watcher, topic) = watch(&target, V5).await;
        let connect = Connect::new(V5).will(Will::new(&topic, "gone").qos(1));
        let mut client = target.connect(connect).await;
        client.send(&disconnect(V5, code, &[])).await;
        client.assert_ended().await;
        assert_eq!(watcher.message().await.text(), "gone");
    }
}

/// The connection that is taken over ends without DISCONNECT, so its own will is published, not the new one's.
///
/// MQTT 5: [MQTT-3.1.2-8] [MQTT-3.1.4-3]
/// MQTT 3.1.1: [MQTT-3.1.2-8] [MQTT-3.1.4-2]
#[tokio::test]
async fn a_takeover_publishes_the_will_of_the_old_connection() {
    let target = target().await;
    for version in Version::BOTH {
        let (mut watcher, topic) = watch(&target, version).await;
        let connect = Connect::new(version);
        let with_will = |text| connect.clone().will(Will::new(&topic, text).qos(1));
        let mut old = target.connect(with_will("old")).await;
        let mut new = target.connect(with_will("new")).await;
        old.assert_refused(&[0x8E]).await;
        assert_eq!(watcher.message().await.text(), "old");
        watcher.assert_silent_after(&mut new).await;
    }
}

/// MQTT 5: [MQTT-3.1.3-9] [MQTT-3.1.2-8]
#[tokio::test]
async fn a_delayed_will_is_not_published_if_the_client_is_back_in_time() {
    let target = target().await;
    let (mut watcher, topic) = watch(&target, V5).await;
    let id = unique();
    let connect = Connect::new(V5).id(&id).persistent();
    let delayed = |seconds| {
        let will = Will::new(&topic, &format!("after {seconds}")).qos(1);
        connect.clone().will(will.property(Property::WillDelay(seconds)))
    };
    // The client returns after a lost connection, and by taking over an open one.
    target.connect(delayed(2)).await.cut().await;
    let mut taken_over = target.connect(delayed(2)).await;
    let _client = target.connect(connect.clone()).await;
    taken_over.assert_refused(&[0x8E]).await;
    // The will of another client with the same delay, disconnected later, shows when the time is over.
    let later = Will::new(&topic, "later").qos(1).property(Property::WillDelay(3));
    target.connect(Connect::new(V5).persistent().will(later)).await.cut().await;
    assert_eq!(watcher.message().await.text(), "later");
}

/// MQTT 5: [MQTT-3.1.2-8]
#[tokio::test]
async fn a_delayed_will_is_published_when_the_delay_is_over() {
    let target = target().await;
    let (mut watcher, topic) = watch(&target, V5).await;
    let will = |text: &str, seconds| {
        let will = Will::new(&topic, text).qos(1);
        let connect = Connect::new(V5).persistent();
        connect.will(will.property(Property::WillDelay(seconds)))
    };
    target.connect(will("late", 3)).await.cut().await;
    target.connect(will("early", 1)).await.cut().await;
    assert_eq!(watcher.message().await.text(), "early");
    assert_eq!(watcher.message().await.text(), "late");
}

/// MQTT 5: [MQTT-3.1.2-8] [MQTT-4.1.0-2]
#[tokio::test]
async fn a_delayed_will_is_published_when_the_session_ends_first() {
    let target = target().await;
    let (mut watcher, topic) = watch(&target, V5).await;
    let will = |text: &str| {
        let will = Will::new(&topic, text).qos(1);
        will.property(Property::WillDelay(1_000))
    };
    // Without a Session Expiry Interval, the session ends with its connection.
    target.connect(Connect::new(V5).will(will("at once"))).await.cut().await;
    assert_eq!(watcher.message().await.text(), "at once");
    // A clean start also ends the session.
    let id = unique();
    let connect = Connect::new(V5).id(&id).persistent();
    target.connect(connect.will(will("by clean start"))).await.cut().await;
    target.connect(Connect::new(V5).id(&id)).await;
    assert_eq!(watcher.message().await.text(), "by clean start");
    // The session also ends when it expires.
    let connect = Connect::new(V5).property(Property::SessionExpiry(1));
    target.connect(connect.will(will("expired"))).await.cut().await;
    assert_eq!(watcher.message().await.text(), "expired");
}

/// MQTT 5: [MQTT-3.1.3-10] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
#[tokio::test]
async fn the_properties_of_a_will_are_those_of_its_message() {
    let target = target().await;
    let (mut watcher, topic) = watch(&target, V5).await;
    let properties = [
        Property::PayloadFormat(1),
        Property::ContentType("text/plain".into()),
        Property::ResponseTopic("reply/here".into()),
        Property::CorrelationData(vec![9, 8, 7]),
        Property::user("z", "1"),
        Property::user("a", "2"),
        Property::user("z", "0"),
    ];
    let mut will = Will::new(&topic, "gone").qos(1);
    will.properties = properties.to_vec();
    will.properties.push(Property::WillDelay(0));
    will.properties.push(Property::MessageExpiry(1_000));
    target.connect(Connect::new(V5).will(will)).await.cut().await;
    let message = watcher.message().await;
    for property in &properties {
        assert!(message.properties.contains(property), "{property:?} is lost");
    }
    let users: Vec<&Property> =
        message.properties.iter().filter(|property| matches!(property, Property::User(..))).collect();
    assert_eq!(users, properties[4..].iter().collect::<Vec<_>>());
}

/// MQTT 5: [MQTT-3.3.2-2] [MQTT-4.7.0-1]
/// MQTT 3.1.1: [MQTT-4.7.1-1]
#[tokio::test]
async fn a_will_topic_has_no_wildcards_and_is_not_empty() {
    let target = target().await;
    for version in Version::BOTH {
        for topic in ["a/+", "#", ""] {
            let mut client = target.open(version).await;
            let connect = Connect::new(version).will(Will::new(topic, "x"));
            let codes = [0x81, 0x82, 0x90];
            client.assert_connect_refused(&connect.encode(), &codes).await;
        }
    }
}

/// MQTT 3.1.1: [MQTT-3.1.2-12]
#[tokio::test]
async fn a_connection_without_a_will_publishes_none() {
    let target = target().await;
    for version in Version::BOTH {
        let base = unique_topic("anything");
        let mut watcher = target.client(version).await;
        watcher.subscribe(&format!("{base}/#"), 1).await;
        let mut client = target.client(version).await;
        client.publish(Publish::new(&format!("{base}/x"), "x").qos(1)).await;
        client.cut().await;
        assert_eq!(watcher.message().await.text(), "x");
        let mut other = target.client(version).await;
        watcher.assert_silent_after(&mut other).await;
    }
}
