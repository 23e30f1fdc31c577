//! Messages queued for absent sessions: the budget of all of them, and which messages are dropped when it is exceeded.

use std::path::Path;
use std::time::Duration;

use rantai_broker::{Config, QueueDrops};

use crate::Own;
use crate::support::{Client, Connect, Property, Publish, Version};
use Version::{V3, V5};

const BODY: usize = 1_000;
/// Minimum number of bytes that a message counts for.
const MESSAGE: usize = BODY + 450;

/// Creates a persistent session with a subscription, and disconnects its client.
async fn absent_session(own: &Own, id: &str, filter: &str) -> Connect {
    let connect = Connect::new(V5).id(id).persistent();
    let mut client = own.connect(connect.clone()).await;
    client.subscribe(filter, 1).await;
    client.disconnect().await;
    connect.resume()
}

async fn publish(publisher: &mut Client, topic: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let body = format!("{number:0BODY$}");
        assert_eq!(publisher.publish(Publish::new(topic, &body).qos(1)).await, 0);
    }
}

/// Reconnects, and returns the numbers of all messages that the broker delivers.
async fn reconnect_and_receive(
    own: &Own,
    connect: Connect,
    publisher: &mut Client,
    topic: &str,
) -> Vec<usize> {
    let mut client = own.connect(connect).await;
    assert_eq!(publisher.publish(Publish::new(topic, "end").qos(1)).await, 0);
    let mut got = Vec::new();
    loop {
        let message = client.message().await;
        let Ok(number) = message.text().parse() else { return got };
        got.push(number);
    }
}

fn budget(config: &mut Config, dir: Option<&Path>) {
    // One address gets two thirds of it: forty messages.
    config.limits.absent_bytes = 60 * MESSAGE;
    config.data_dir = dir.map(Path::to_owned);
}

/// The largest sessions lose messages first; a session with few messages keeps all of them, and gets new ones.
#[tokio::test]
async fn the_largest_queues_are_cut_and_small_ones_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [None, Some(dir.path())] {
        let own = Own::start(|c| budget(c, dir)).await;
        let small = absent_session(&own, "small", "small").await;
        let large = absent_session(&own, "large", "large").await;
        let mut publisher = own.client(V5).await;
        publish(&mut publisher, "small", 0..5).await;
        publish(&mut publisher, "large", 0..100).await;
        publish(&mut publisher, "small", 5..10).await;
        let got = reconnect_and_receive(&own, small.clone(), &mut publisher, "small").await;
        assert_eq!(got, (0..10).collect::<Vec<_>>());
        let got = reconnect_and_receive(&own, large.clone(), &mut publisher, "large").await;
        // 35 messages fit beside the five of the small session. That got five more, for which the large one may have
        // been cut.
        assert!((25..=36).contains(&got.len()), "{}", got.len());
        assert_eq!(got, (0..got.len()).collect::<Vec<_>>(), "the oldest stay");
        let counts = own.broker.counts();
        assert_eq!(counts.dropped_queue_full + counts.dropped_absent, 100 - got.len() as u64);
        assert_eq!(counts.refused_queue_full + counts.publisher_waits, 0);
        own.broker.shutdown().await;
    }
}

/// Many small sessions do not displace the messages of others, and an owner above its share is cut to it.
#[tokio::test]
async fn new_owners_get_their_share_within_the_budget() {
    let own = Own::start(|c| budget(c, None)).await;
    let first = absent_session(&own, "first", "first").await;
    let mut publisher = own.client(V5).await;
    publish(&mut publisher, "first", 0..60).await;
    let mut others = Vec::new();
    for number in 0..4 {
        let name = format!("other-{number}");
        others.push((absent_session(&own, &name, &name).await, name.clone()));
        publish(&mut publisher, &name, 0..7).await;
    }
    for (connect, name) in others {
        let got = reconnect_and_receive(&own, connect, &mut publisher, &name).await;
        assert_eq!(got.len(), 7, "seven of eight that each of five may hold");
    }
    let got = reconnect_and_receive(&own, first, &mut publisher, "first").await;
    assert!(got.len() <= 40, "{}", got.len());
    assert!(got.len() >= 8, "never below an equal share");
}

#[tokio::test]
async fn queued_and_dropped_messages_are_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::start(|c| budget(c, Some(dir.path()))).await;
    let large = absent_session(&own, "large", "large").await;
    let mut publisher = own.client(V5).await;
    publish(&mut publisher, "large", 0..50).await;
    own.broker.shutdown().await;
    let own = Own::start(|c| budget(c, Some(dir.path()))).await;
    let mut publisher = own.client(V5).await;
    publish(&mut publisher, "large", 50..80).await;
    let got = reconnect_and_receive(&own, large, &mut publisher, "large").await;
    // Without users, a session from disk has no owner, and sessions without an owner may use the whole budget.
    let expected: Vec<_> = (0..40).chain(50..70).collect();
    assert_eq!(got, expected, "what it held counts as before");
}

#[tokio::test]
async fn the_oldest_messages_are_dropped_if_configured() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [None, Some(dir.path().to_owned())] {
        let own = Own::start(|c| {
            c.limits.queue_messages = 5;
            c.limits.queue_drops = QueueDrops::Oldest;
            c.data_dir.clone_from(&dir);
        })
        .await;
        let connect = absent_session(&own, "away", "x").await;
        let mut publisher = own.client(V5).await;
        publish(&mut publisher, "x", 0..20).await;
        assert_eq!(own.broker.counts().dropped_queue_full, 15);
        let got = reconnect_and_receive(&own, connect, &mut publisher, "x").await;
        assert_eq!(got, (15..20).collect::<Vec<_>>());
        own.broker.shutdown().await;
    }
}

/// Once, expired messages kept the queue full until the client reconnected.
#[tokio::test]
async fn expired_messages_make_room_first() {
    let own = Own::start(|c| c.limits.queue_messages = 5).await;
    let connect = absent_session(&own, "away", "x").await;
    let mut publisher = own.client(V5).await;
    publish(&mut publisher, "x", 0..1).await;
    for _ in 0..10 {
        let short = Publish::new("x", "short").qos(1).property(Property::MessageExpiry(3));
        assert_eq!(publisher.publish(short).await, 0);
    }
    tokio::time::sleep(Duration::from_millis(3_300)).await;
    publish(&mut publisher, "x", 1..5).await;
    let counts = own.broker.counts();
    assert_eq!(
        (counts.dropped_queue_full, counts.expired),
        (6, 4),
        "only what came while it was full of live ones"
    );
    let got = reconnect_and_receive(&own, connect, &mut publisher, "x").await;
    assert_eq!(got, (0..5).collect::<Vec<_>>());
}

fn dropped(ack: &rantai_testing::Connack) -> Option<String> {
    ack.properties.iter().find_map(|property| match property {
        Property::User(key, value) if key == "messages-dropped" => Some(value.clone()),
        _ => None,
    })
}

#[tokio::test]
async fn the_number_of_dropped_messages_is_reported_once_at_the_reconnect() {
    let own = Own::start(|c| c.limits.queue_messages = 3).await;
    let connect = absent_session(&own, "away", "x").await;
    let mut publisher = own.client(V5).await;
    publish(&mut publisher, "x", 0..10).await;
    // The report is kept for a connection whose maximum packet size has room for it.
    let mut told = Vec::new();
    for maximum in [Some(35), None, None] {
        let mut connect = connect.clone();
        if let Some(maximum) = maximum {
            connect = connect.property(Property::MaximumPacketSize(maximum));
        }
        let mut client = own.open(V5).await;
        let ack = client.present(connect).await;
        assert!(ack.session_present);
        told.push(dropped(&ack));
        client.cut().await;
    }
    assert_eq!(told, [None, Some("7".to_owned()), None]);
}

#[tokio::test]
async fn dropped_messages_are_not_reported_in_version_3_and_to_new_sessions() {
    let own = Own::start(|c| c.limits.queue_messages = 1).await;
    let connect = absent_session(&own, "away", "x").await;
    let mut publisher = own.client(V5).await;
    publish(&mut publisher, "x", 0..10).await;
    let mut client = own.open(V3).await;
    let ack = client.present(Connect::new(V3).id("away").persistent().resume()).await;
    assert!(ack.session_present && ack.properties.is_empty());
    client.cut().await;
    let mut client = own.open(V5).await;
    let ack = client.present(Connect::new(V5).id("away")).await;
    assert!(!ack.session_present);
    assert_eq!(dropped(&ack), None);
    let _ = connect;
}

/// Four of six members are absent. Once, the other two got 50 and 10 of 60 messages.
#[tokio::test]
async fn connected_members_of_a_shared_group_share_evenly() {
    let own = Own::start(|_| {}).await;
    for number in 0..4 {
        let _connect = absent_session(&own, &format!("away-{number}"), "$share/group/x").await;
    }
    let mut present = [own.client(V5).await, own.client(V5).await];
    for member in &mut present {
        member.subscribe("$share/group/x", 1).await;
    }
    let mut publisher = own.client(V5).await;
    for _ in 0..30 {
        for member in &mut present {
            assert_eq!(publisher.publish(Publish::new("x", "x").qos(1)).await, 0);
            assert_eq!(member.message().await.text(), "x");
        }
    }
}
