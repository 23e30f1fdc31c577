//! Matching of filters and topics.

use std::time::Duration;

use crate::support::{Publish, Version, target, target_with, unique_topic};

/// Filters, topics and whether they match, all below a level of this test.
const MATCHES: [(&str, &str, bool); 34] = [
    ("a", "a", true),
    ("a", "A", false),
    ("a", "a/", false),
    ("a", "/a", false),
    ("a/b", "a/b", true),
    ("a/b", "a", false),
    ("+", "a", true),
    ("+", "", true),
    ("+", "a/b", false),
    ("+", "a/", false),
    ("+/+", "a/b", true),
    ("+/+", "/", true),
    ("+/+", "/a", true),
    ("+/+", "a", false),
    ("a/+", "a/b", true),
    ("a/+", "a/", true),
    ("a/+", "a", false),
    ("a/+", "a/b/c", false),
    ("a/+/c", "a/b/c", true),
    ("a/+/c", "a//c", true),
    ("a/+/c", "a/b/d", false),
    ("a/+/c", "a/b/c/d", false),
    ("+/b", "a/b", true),
    ("+/b", "a/c", false),
    ("#", "a", true),
    ("#", "a/b/c", true),
    ("#", "", true),
    ("a/#", "a", true),
    ("a/#", "a/", true),
    ("a/#", "a/b/c", true),
    ("a/#", "ab", false),
    ("a/+/#", "a", false),
    ("a/+/#", "a/b", true),
    ("+/a/#", "b/a/c/d", true),
];

/// MQTT 5: [MQTT-4.7.0-1] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-3.3.2-3]
/// MQTT 3.1.1: [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-3.3.2-3]
#[tokio::test]
async fn wildcards_match_only_their_topics() {
    let target = target().await;
    for version in Version::BOTH {
        let mut subscriber = target.client(version).await;
        let mut publisher = target.client(version).await;
        for (filter, topic, matches) in MATCHES {
            let base = unique_topic("match");
            let filter = format!("{base}/{filter}");
            let topic = format!("{base}/{topic}");
            subscriber.subscribe(&filter, 0).await;
            publisher.publish(Publish::new(&topic, "x")).await;
            if matches {
                assert_eq!(subscriber.message().await.topic, topic, "{filter}");
            }
            subscriber.assert_silent_after(&mut publisher).await;
            subscriber.unsubscribe(&[&filter]).await;
        }
    }
}

/// `#` includes its parent level, even if that is the first level of the filter (4.7.1.2).
///
/// MQTT 5: [MQTT-4.7.1-1] [MQTT-4.7.1-2]
/// MQTT 3.1.1: [MQTT-4.7.1-2] [MQTT-4.7.1-3]
#[tokio::test]
async fn wildcards_match_at_the_first_level() {
    let target = target().await;
    for version in Version::BOTH {
        let level = crate::support::unique();
        let mut publisher = target.client(version).await;
        for (filter, topic) in [
            (format!("{level}/#"), level.clone()),
            ("+".into(), level.clone()),
            (format!("+/{level}"), format!("/{level}")),
            (format!("/{level}"), format!("/{level}")),
            (format!("+/+/{level}"), format!("a/b/{level}")),
        ] {
            let mut subscriber = target.client(version).await;
            subscriber.subscribe(&filter, 1).await;
            publisher.publish(Publish::new(&topic, "x").qos(1)).await;
            // On a shared broker, messages of other clients may match `+` first.
            while subscriber.message().await.topic != topic {}
        }
    }
}

/// The broker's own figures are retained below `$SYS`, and a leading wildcard does not match them.
///
/// MQTT 5: [MQTT-4.7.2-1]
/// MQTT 3.1.1: [MQTT-4.7.2-1]
#[tokio::test]
async fn wildcards_at_the_start_do_not_match_the_figures_of_the_broker() {
    let often = Duration::from_millis(50);
    let Some(target) = target_with(|config| config.sys_interval = often).await else {
        return;
    };
    for version in Version::BOTH {
        let mut subscriber = target.client(version).await;
        subscriber.subscribe("$SYS/broker/#", 0).await;
        let mut missing = vec!["version", "uptime", "clients/connected"];
        while !missing.is_empty() {
            let message = subscriber.message().await;
            let name = message.topic.strip_prefix("$SYS/broker/").expect("it matches");
            assert!(!message.payload.is_empty(), "{name} is empty");
            missing.retain(|other| *other != name);
        }
        // Messages that a new subscription receives at once are retained.
        let mut exact = target.client(version).await;
        exact.subscribe("$SYS/broker/version", 0).await;
        assert!(exact.message().await.retain);
        for filter in ["#", "+/#", "+/broker/version", "+/broker/#"] {
            let mut wide = target.client(version).await;
            wide.subscribe(filter, 0).await;
            // Long enough for the figures to be published again, which the other subscription receives.
            for _ in 0..10 {
                subscriber.message().await;
            }
            wide.assert_silent().await;
        }
    }
}

/// MQTT 5: [MQTT-4.7.2-1]
/// MQTT 3.1.1: [MQTT-4.7.2-1]
#[tokio::test]
async fn a_dollar_after_the_first_character_has_no_meaning() {
    let target = target().await;
    for version in Version::BOTH {
        let topic = unique_topic("$x");
        let mut client = target.client(version).await;
        client.subscribe(&topic.replace("$x", "+"), 0).await;
        client.publish(Publish::new(&topic, "x")).await;
        assert_eq!(client.message().await.topic, topic);
    }
}
