//! Limits: each refusal has a reason, and is counted.

use std::time::Duration;

use crate::Own;
use crate::support::{Connect, Property, Publish, Version};
use Version::{V3, V5};

#[tokio::test]
async fn connections_above_the_limit_are_refused_with_a_reason_until_others_end() {
    let own = Own::start(|c| c.limits.connections = 2).await;
    let first = own.client(V5).await;
    let _second = own.client(V3).await;
    for (version, code) in [(V5, 0x89), (V3, 3)] {
        let (mut client, refused) = own.try_connect(Connect::new(version)).await;
        assert_eq!(refused, code);
        client.assert_ended().await;
    }
    assert_eq!(own.broker.counts().refused_over_limit, 2);
    first.disconnect().await;
    while own.broker.counts().connected > 1 {
        tokio::task::yield_now().await;
    }
    own.client(V5).await;
}

#[tokio::test]
async fn a_silent_socket_is_closed_after_the_connect_timeout() {
    let own = Own::start(|c| c.limits.connect_timeout = Duration::from_millis(50)).await;
    let mut silent = own.open(V5).await;
    silent.assert_ended().await;
    let mut slow = own.open(V5).await;
    slow.send(&[0x10, 40, 0, 4, b'M']).await;
    slow.assert_ended().await;
    assert_eq!(own.broker.counts().refused_connections, 2);
}

#[tokio::test]
async fn retained_messages_above_the_limit_are_refused_and_existing_ones_may_change() {
    let own = Own::start(|c| c.limits.retained = 2).await;
    let mut client = own.client(V5).await;
    let mut codes = Vec::new();
    for (topic, payload) in
        [("r/1", "x"), ("r/2", "x"), ("r/3", "x"), ("r/1", "y"), ("r/2", ""), ("r/3", "x")]
    {
        codes.push(client.publish(Publish::new(topic, payload).qos(1).retain()).await);
    }
    assert_eq!(codes, [0x10, 0x10, 0x97, 0x10, 0x10, 0x10]);
    assert_eq!(own.broker.counts().refused_retained, 1);
}

#[tokio::test]
async fn the_brokers_own_values_neither_count_as_retained_nor_are_refused() {
    let own = Own::start(|c| {
        c.limits.retained = 1;
        c.sys_interval = Duration::from_millis(1);
    })
    .await;
    let mut client = own.client(V5).await;
    client.subscribe("$SYS/broker/uptime", 0).await;
    client.delivery().await;
    assert_eq!(client.publish(Publish::new("r/1", "x").qos(1).retain()).await, 0x10, "there is room");
    assert_eq!(client.publish(Publish::new("r/2", "x").qos(1).retain()).await, 0x97);
    for _ in 0..5 {
        client.delivery().await;
    }
    let mut late = own.client(V5).await;
    late.subscribe("$SYS/broker/version", 0).await;
    assert!(late.delivery().await.retain, "kept above the limit");
    assert_eq!(own.broker.counts().refused_retained, 1);
}

#[tokio::test]
async fn subscriptions_above_the_limit_are_refused_one_by_one() {
    let own = Own::start(|c| c.limits.subscriptions = 2).await;
    let mut client = own.client(V5).await;
    let codes = client.subscribe_all(&[("a", 0), ("b", 1), ("c", 2), ("a", 1)], &[]).await;
    assert_eq!(codes, [0, 1, 0x97, 1]);
}

#[tokio::test]
async fn a_message_above_a_clients_maximum_packet_size_is_skipped_and_counted() {
    let own = Own::start(|_| {}).await;
    let mut small = own.connect(Connect::new(V5).property(Property::MaximumPacketSize(100))).await;
    small.subscribe("t", 2).await;
    let mut publisher = own.client(V5).await;
    let large = "x".repeat(200);
    for qos in 0..3 {
        assert_eq!(publisher.publish(Publish::new("t", &large).qos(qos)).await, 0);
    }
    publisher.publish(Publish::new("t", "fits").qos(1)).await;
    assert_eq!(small.message().await.text(), "fits");
    assert_eq!(own.broker.counts().too_large, 3);
}

#[tokio::test]
async fn topics_of_too_many_levels_are_refused() {
    let own = Own::start(|c| c.limits.topic_levels = 4).await;
    let mut client = own.client(V5).await;
    assert_eq!(client.publish(Publish::new("a/b/c/d", "x").qos(1)).await, 0x10);
    assert_eq!(client.publish(Publish::new("a/b/c/d/e", "x").qos(1)).await, 0x90);
    assert_eq!(client.subscribe_all(&[("a/b/c/#", 0), ("a/b/c/d/#", 0)], &[]).await, [0, 0x8F]);
}
