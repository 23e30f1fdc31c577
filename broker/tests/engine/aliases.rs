//! Topic aliases: those set by the broker can be disabled, and the topics with aliases are limited in bytes.

use crate::Own;
use crate::support::{Connect, Property, Publish, Version};
use Version::V5;

fn has_alias(publish: &Publish) -> bool {
    publish.properties.iter().any(|property| matches!(property, Property::TopicAlias(_)))
}

#[tokio::test]
async fn aliases_towards_clients_are_limited_by_the_setting() {
    for (setting, with_alias) in [(u16::MAX, 3), (1, 1), (0, 0)] {
        let own = Own::start(|c| c.limits.send_topic_aliases = setting).await;
        let mut reader = own.connect(Connect::new(V5).property(Property::TopicAliasMaximum(3))).await;
        reader.subscribe("#", 1).await;
        let mut publisher = own.client(V5).await;
        let mut found = 0;
        for topic in ["a", "b", "c", "d"] {
            publisher.publish(Publish::new(topic, "x").qos(1)).await;
            found += usize::from(has_alias(&reader.message().await));
        }
        assert_eq!(found, with_alias, "send_topic_aliases = {setting}");
    }
}

#[tokio::test]
async fn topics_with_aliases_are_limited_in_bytes_per_connection() {
    let own = Own::start(|c| c.limits.topic_alias_bytes = 10).await;
    let mut client = own.client(V5).await;
    let publish = |topic: &str, alias| Publish::new(topic, "x").qos(1).property(Property::TopicAlias(alias));
    for (topic, alias) in [("12345", 1), ("1234", 2), ("123456", 1), ("", 1), ("x", 2), ("1234", 2)] {
        assert_eq!(client.publish(publish(topic, alias)).await, 0x10, "{topic} {alias}");
    }
    client.send(&publish("12345", 2).id(9).encode(V5)).await;
    client.assert_refused(&[0x97]).await;
}
