//! Connected clients that do not read their messages.

use std::time::Duration;

use rantai_broker::{QueueFull, QueueRule};

use crate::Own;
use crate::support::{Client, Connect, Property, Publish, Version};
use Version::{V3, V5};

/// Returns the CONNECT of a persistent session with one message in flight at most.
fn one_at_a_time(version: Version, id: &str) -> Connect {
    let connect = Connect::new(version).id(id).persistent();
    if version == V5 { connect.property(Property::ReceiveMaximum(1)) } else { connect }
}

async fn blocked(own: &Own, version: Version, id: &str, filter: &str) -> Client {
    let mut client = own.connect(one_at_a_time(version, id)).await;
    client.subscribe(filter, 1).await;
    client
}

async fn publish(publisher: &mut Client, topic: &str, count: usize) {
    for number in 0..count {
        assert_eq!(publisher.publish(Publish::new(topic, &number.to_string()).qos(1)).await, 0);
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_for_too_long_is_disconnected_and_keeps_its_queue() {
    for version in Version::BOTH {
        let own = Own::start(|c| {
            c.limits.queue_messages = 3;
            c.limits.in_flight = 1;
            c.limits.publish_wait = Duration::ZERO;
            c.limits.slow_reader = Duration::from_millis(300);
        })
        .await;
        let mut slow = blocked(&own, version, "slow", "x").await;
        let mut publisher = own.client(V5).await;
        publish(&mut publisher, "x", 10).await;
        assert_eq!(slow.delivery().await.text(), "0");
        match version {
            V5 => slow.assert_refused(&[0x97]).await,
            V3 => slow.assert_ended().await,
        }
        let counts = own.broker.counts();
        assert_eq!((counts.disconnected_slow, counts.dropped_queue_full), (1, 6));
        let mut back = own.connect(one_at_a_time(version, "slow").resume()).await;
        for number in 0..4 {
            assert_eq!(back.message().await.text(), number.to_string());
        }
    }
}

/// Its queue is full for the same time, but it takes messages slowly.
#[tokio::test]
async fn a_client_that_reads_slowly_stays_connected() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 3;
        c.limits.publish_wait = Duration::ZERO;
        c.limits.slow_reader = Duration::from_secs(5);
    })
    .await;
    let mut slow = blocked(&own, V5, "slow", "x").await;
    let mut publisher = own.client(V5).await;
    let began = std::time::Instant::now();
    let mut taken = 0;
    while began.elapsed() < Duration::from_secs(6) {
        publish(&mut publisher, "x", 3).await;
        slow.message().await;
        taken += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let counts = own.broker.counts();
    assert!(counts.dropped_queue_full > 0 && taken > 0);
    assert_eq!(counts.disconnected_slow, 0);
}

#[tokio::test]
async fn a_rule_disconnects_at_once_or_refuses_on_its_topics_alone() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.publish_wait = Duration::ZERO;
        let rule = |filter: &str, full| QueueRule { filter: filter.into(), full };
        c.queues = vec![
            rule("alarm/quiet", QueueFull::Drop),
            rule("alarm/#", QueueFull::Disconnect),
            rule("order/+", QueueFull::Refuse),
        ];
    })
    .await;
    let mut publisher = own.client(V5).await;
    for (topic, code) in [("other", 0), ("alarm/quiet", 0), ("order/1", 0x97), ("alarm/fire", 0)] {
        let mut slow = blocked(&own, V5, topic, topic).await;
        publish(&mut publisher, topic, 2).await;
        assert_eq!(publisher.publish(Publish::new(topic, "2").qos(1)).await, code, "{topic}");
        assert_eq!(slow.delivery().await.text(), "0");
        if topic == "alarm/fire" {
            slow.assert_refused(&[0x97]).await;
        } else {
            slow.assert_silent().await;
            slow.disconnect().await;
        }
    }
    assert_eq!(own.broker.counts().disconnected_slow, 1);
}

/// Once, only the number of messages was limited: a thousand of 2 MB each, read and never acknowledged, took 2 GB of
/// memory.
#[tokio::test]
async fn bytes_in_flight_are_limited_too() {
    let own = Own::start(|c| c.limits.in_flight_bytes = 100_000).await;
    let mut reader = own.client(V5).await;
    reader.subscribe("x", 1).await;
    let mut publisher = own.client(V5).await;
    let body = "x".repeat(60_000);
    for _ in 0..5 {
        assert_eq!(publisher.publish(Publish::new("x", &body).qos(1)).await, 0);
    }
    let first = reader.delivery().await;
    let second = reader.delivery().await;
    reader.assert_silent().await;
    reader.acknowledge(&first).await;
    let third = reader.delivery().await;
    for held in [second, third] {
        reader.acknowledge(&held).await;
    }
    for _ in 0..2 {
        reader.message().await;
    }
    reader.assert_silent().await;
}

fn request(topic: &str) -> Publish {
    Publish::new(topic, "x").qos(1).property(Property::ResponseTopic("reply".to_owned()))
}

/// A subscriber to `#` does not answer. Once, because of it a call for a full group was not refused, and waited until
/// its deadline.
#[tokio::test]
async fn a_monitoring_subscriber_does_not_hide_that_a_group_is_full() {
    let own = Own::start(|c| c.limits.queue_messages = 1).await;
    let mut looking_on = own.client(V5).await;
    looking_on.subscribe("#", 0).await;
    looking_on.subscribe("+/+/run", 1).await;
    let mut member = blocked(&own, V5, "member", "$share/group/call/echo/#").await;
    let mut caller = own.client(V5).await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(caller.publish(request("call/echo/run")).await);
    }
    assert_eq!(codes, [0, 0, 0x97]);
    // A subscriber with the same or a narrower filter may answer, and so may another group.
    for filter in ["call/echo/#", "call/echo/run", "$share/others/#"] {
        let mut another = own.client(V5).await;
        another.subscribe(filter, 0).await;
        assert_eq!(caller.publish(request("call/echo/run")).await, 0, "{filter}");
        assert_eq!(another.message().await.text(), "x");
        another.disconnect().await;
    }
    assert_eq!(caller.publish(request("call/echo/run")).await, 0x97);
    member.message().await;
}

/// A group with a narrower filter that reads nothing must not cause requests to be refused that the server's group can
/// take.
#[tokio::test]
async fn a_full_group_with_a_narrower_filter_does_not_refuse_messages_of_another_group() {
    let own = Own::start(|c| c.limits.queue_messages = 1).await;
    let _hostile = blocked(&own, V5, "hostile", "$share/hostile/call/echo/run").await;
    let mut server = own.client(V5).await;
    server.subscribe("$share/echo/call/echo/#", 1).await;
    let mut caller = own.client(V5).await;
    for _ in 0..5 {
        assert_eq!(caller.publish(request("call/echo/run")).await, 0);
        server.message().await;
    }
}
