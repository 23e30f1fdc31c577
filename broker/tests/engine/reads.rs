//! Reads of retained messages: they alternate with other work, and are complete even if they are interrupted.

use std::collections::BTreeSet;

use crate::Own;
use crate::support::{Client, Connect, Publish, Version};
use Version::V5;

/// Retains `count` messages and returns their topics.
async fn retain(own: &Own, count: usize) -> BTreeSet<String> {
    let mut publisher = own.client(V5).await;
    let mut topics = BTreeSet::new();
    for number in 0..count {
        let topic = format!("r/{}/{number}", number % 7);
        assert_eq!(publisher.publish(Publish::new(&topic, "x").qos(1).retain()).await, 0x10);
        topics.insert(topic);
    }
    topics
}

async fn take(client: &mut Client, count: usize, topics: &mut BTreeSet<String>) {
    for _ in 0..count {
        let message = client.message().await;
        assert!(message.retain, "{}", message.topic);
        topics.insert(message.topic);
    }
}

/// Once, a thousand filters that match every topic took a thousand times as long as one, and all other clients waited.
#[tokio::test]
async fn many_filters_are_read_as_fast_as_one_and_in_turns() {
    let own = Own::start(|_| {}).await;
    let mut honest = own.client(V5).await;
    for number in 0..6_000 {
        let publish = Publish::new(&format!("r/{number}/x"), "x").qos(1).retain();
        assert_eq!(honest.publish(publish).await, 0x10);
    }
    // After all others.
    assert_eq!(honest.publish(Publish::new("s/0/n999", "x").qos(1).retain()).await, 0x10);
    let mut greedy = own.client(V5).await;
    let filters: Vec<String> = (0..1_000).map(|number| format!("+/+/n{number}")).collect();
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (&**filter, 0)).collect();
    assert_eq!(greedy.subscribe_all(&filters, &[]).await, [0; 1_000]);
    assert_eq!(honest.publish(Publish::new("x", "x").qos(1)).await, 0x10);
    assert_eq!(greedy.message().await.topic, "s/0/n999");
    let turns = own.broker.counts().retained_turns;
    assert!((20..100).contains(&turns), "{turns} turns for one look at each topic");
}

/// Once, about 3,000 of 5,000 messages were lost with the connection.
#[tokio::test]
async fn a_read_continues_after_a_lost_connection() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [None, Some(dir.path())] {
        let own = Own::start(|c| c.data_dir = dir.map(ToOwned::to_owned)).await;
        let topics = retain(&own, 3_000).await;
        let connect = Connect::new(V5).id("reader").persistent();
        let mut reader = own.connect(connect.clone()).await;
        reader.subscribe("r/#", 1).await;
        let mut got = BTreeSet::new();
        for part in [700, 800] {
            take(&mut reader, part, &mut got).await;
            reader.cut().await;
            reader = own.connect(connect.clone().resume()).await;
            assert!(reader.connack.as_ref().is_some_and(|ack| ack.session_present));
        }
        while got.len() < topics.len() {
            take(&mut reader, 1, &mut got).await;
        }
        assert_eq!(got, topics);
    }
}

#[tokio::test]
async fn a_read_continues_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let start = || Own::start(|c| c.data_dir = Some(dir.path().to_owned()));
    let own = start().await;
    let topics = retain(&own, 3_000).await;
    let connect = Connect::new(V5).id("reader").persistent();
    let mut reader = own.connect(connect.clone()).await;
    // One filter finds nothing, and one is read completely at once.
    assert_eq!(reader.subscribe_all(&[("none/+", 1), ("r/#", 1), ("r/1/1", 1)], &[]).await, [1; 3]);
    let mut got = BTreeSet::new();
    take(&mut reader, 500, &mut got).await;
    reader.cut().await;
    own.broker.shutdown().await;

    let own = start().await;
    let mut reader = own.connect(connect.resume()).await;
    while got.len() < topics.len() {
        take(&mut reader, 1, &mut got).await;
    }
    assert_eq!(got, topics);
}

#[tokio::test]
async fn unsubscribing_ends_the_read_of_a_filter() {
    let own = Own::start(|_| {}).await;
    retain(&own, 3_000).await;
    let mut reader = own.client(V5).await;
    reader.subscribe("r/#", 1).await;
    // The client acknowledges nothing yet, so that most messages are still to be read.
    assert_eq!(reader.unsubscribe(&["r/#"]).await, [0]);
    let mut count = 0;
    reader.publish(Publish::new("end", "x").qos(0)).await;
    reader.subscribe("r/0/0", 0).await;
    loop {
        let message = reader.message().await;
        if message.qos == 0 {
            break;
        }
        count += 1;
    }
    assert!(count <= 1_024, "{count}, more than were in flight");
}
