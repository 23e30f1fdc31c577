//! Full queues: nothing acknowledged is lost in silence, and nobody else is held up.

use std::time::Duration;

use rantai_broker::QueueFull;

use crate::Own;
use crate::support::{Connect, Property, Publish, Version, ack};
use Version::{V3, V5};

const SLOW: &str = "slow/topic";

/// A client that takes one message at a time and acknowledges none.
async fn blocked(own: &Own, version: Version) -> crate::support::Client {
    let mut connect = Connect::new(version);
    if version == V5 {
        connect = connect.property(Property::ReceiveMaximum(1));
    }
    let mut client = own.connect(connect).await;
    client.subscribe(SLOW, 1).await;
    client
}

#[tokio::test]
async fn a_publisher_is_refused_when_it_has_waited_in_vain_and_nobody_gets_the_message() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 3;
        c.limits.publish_wait = Duration::from_millis(50);
    })
    .await;
    let mut slow = blocked(&own, V5).await;
    let mut other = own.client(V5).await;
    other.subscribe(SLOW, 1).await;
    let mut publisher = own.client(V5).await;
    let mut codes = Vec::new();
    for number in 0..8 {
        codes.push(publisher.publish(Publish::new(SLOW, &number.to_string()).qos(1)).await);
    }
    // One in flight, three queued; then refused, the first after a wait and the others at once.
    assert_eq!(codes, [0, 0, 0, 0, 0x97, 0x97, 0x97, 0x97]);
    let counts = own.broker.counts();
    assert_eq!((counts.refused_queue_full, counts.publisher_waits), (4, 4));
    for number in 0..4 {
        assert_eq!(other.message().await.text(), number.to_string());
    }
    other.assert_silent_after(&mut publisher).await;
    // Room again: all that was acknowledged arrives, and the publisher is let on.
    for number in 0..4 {
        assert_eq!(slow.message().await.text(), number.to_string());
    }
    assert_eq!(publisher.publish(Publish::new(SLOW, "on").qos(1)).await, 0);
    assert_eq!(slow.message().await.text(), "on");
}

#[tokio::test]
async fn a_waiting_publisher_goes_on_as_soon_as_there_is_room() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.publish_wait = Duration::from_hours(1);
    })
    .await;
    let mut slow = blocked(&own, V5).await;
    let mut publisher = own.client(V5).await;
    for text in ["0", "1"] {
        publisher.publish(Publish::new(SLOW, text).qos(1)).await;
    }
    let third = Publish::new(SLOW, "2").qos(2).id(77);
    publisher.send(&third.encode(V5)).await;
    for text in ["0", "1", "2"] {
        assert_eq!(slow.message().await.text(), text);
    }
    assert_eq!(publisher.pubrec(77).await, 0);
    // Whatever else it sends has waited with it.
    publisher.send(&ack(6, V5, 77, 0)).await;
    publisher.pubcomp(77).await;
    assert_eq!(own.broker.counts().refused_queue_full, 0);
}

#[tokio::test]
async fn version_3_has_no_word_for_it_and_is_cut_off_unacknowledged() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.in_flight = 1;
        c.limits.publish_wait = Duration::from_millis(20);
    })
    .await;
    let _slow = blocked(&own, V3).await;
    let mut publisher = own.client(V3).await;
    for text in ["0", "1"] {
        assert_eq!(publisher.publish(Publish::new(SLOW, text).qos(1)).await, 0);
    }
    publisher.send(&Publish::new(SLOW, "2").qos(1).id(9).encode(V3)).await;
    publisher.assert_ended().await;
}

#[tokio::test]
async fn with_drop_the_message_is_lost_for_that_session_alone_and_counted() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 2;
        c.limits.queue_full = QueueFull::Drop;
    })
    .await;
    let mut slow = blocked(&own, V5).await;
    let mut other = own.client(V5).await;
    other.subscribe(SLOW, 1).await;
    let mut publisher = own.client(V5).await;
    for number in 0..6 {
        assert_eq!(publisher.publish(Publish::new(SLOW, &number.to_string()).qos(1)).await, 0);
        assert_eq!(other.message().await.text(), number.to_string());
    }
    assert_eq!(own.broker.counts().dropped_queue_full, 3);
    for number in 0..3 {
        assert_eq!(slow.message().await.text(), number.to_string());
    }
    slow.assert_silent_after(&mut publisher).await;
}

/// A reader that takes nothing holds up neither the others nor the publisher, and costs a bounded memory; what
/// it gets in the end is the newest, in order.
#[tokio::test]
async fn a_stalled_reader_loses_the_oldest_of_qos_0_and_nobody_else_loses_anything() {
    let own = Own::start(|c| c.limits.queue_qos0_bytes = 200_000).await;
    let mut stalled = own.client(V5).await;
    stalled.subscribe(SLOW, 0).await;
    let mut other = own.client(V5).await;
    other.subscribe(SLOW, 0).await;
    let mut publisher = own.client(V5).await;
    let body = "x".repeat(50_000);
    let count = 600;
    for number in 0..count {
        publisher.publish(Publish::new(SLOW, &format!("{number} {body}"))).await;
        let got = other.message().await;
        assert!(got.text().starts_with(&format!("{number} ")));
    }
    let dropped = own.broker.counts().dropped_qos0;
    assert!(dropped > 0, "30 MB fit nowhere");
    let mut last = None;
    for _ in 0..count - dropped {
        let got = stalled.message().await;
        let number: u64 = got.text().split(' ').next().unwrap().parse().unwrap();
        assert!(last.is_none_or(|last| number > last), "in order");
        last = Some(number);
    }
    assert_eq!(last, Some(count - 1), "the newest is there");
}

#[tokio::test]
async fn a_shared_group_passes_a_slow_member_over() {
    let own = Own::start(|_| {}).await;
    let filter = format!("$share/group/{SLOW}");
    let mut slow = own.connect(Connect::new(V5).property(Property::ReceiveMaximum(1))).await;
    slow.subscribe(&filter, 1).await;
    let mut quick = own.client(V5).await;
    quick.subscribe(&filter, 1).await;
    let mut publisher = own.client(V5).await;
    let mut to_quick = 0;
    for number in 0..20 {
        assert_eq!(publisher.publish(Publish::new(SLOW, &number.to_string()).qos(1)).await, 0);
        if number > 1 {
            quick.message().await;
            to_quick += 1;
        }
    }
    quick.message().await;
    let held = slow.delivery().await;
    assert_eq!(to_quick + 1 + 1, 20, "one is held by the slow member: {}", held.text());
}

/// The messages of a session that is away wait at QoS 1 and 2 only.
#[tokio::test]
async fn nothing_of_qos_0_is_queued_for_who_is_away() {
    let own = Own::start(|_| {}).await;
    let connect = Connect::new(V5).id("away").persistent();
    let mut client = own.connect(connect.clone()).await;
    client.subscribe(SLOW, 2).await;
    client.disconnect().await;
    let mut publisher = own.client(V5).await;
    for (qos, text) in [(0, "zero"), (1, "one"), (2, "two")] {
        publisher.publish(Publish::new(SLOW, text).qos(qos)).await;
    }
    let mut client = own.connect(connect.resume()).await;
    assert_eq!(client.message().await.text(), "one");
    assert_eq!(client.message().await.text(), "two");
    client.assert_silent().await;
}

/// A publisher that waited at QoS 1 under the packet id of an unreleased QoS 2 message once made the broker
/// forget that it had that message, so that its repetition was delivered again.
#[tokio::test]
async fn a_message_that_waits_does_not_touch_another_one_of_its_packet_id() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.publish_wait = Duration::from_millis(20);
    })
    .await;
    let _slow = blocked(&own, V5).await;
    let mut other = own.client(V5).await;
    other.subscribe("once", 2).await;
    let mut publisher = own.client(V5).await;
    for text in ["0", "1"] {
        publisher.publish(Publish::new(SLOW, text).qos(1)).await;
    }
    let once = Publish::new("once", "x").qos(2).id(500);
    publisher.send(&once.encode(V5)).await;
    assert_eq!(publisher.pubrec(500).await, 0);
    assert_eq!(other.message().await.text(), "x");
    publisher.send(&Publish::new(SLOW, "2").qos(1).id(500).encode(V5)).await;
    assert_eq!(publisher.puback(500).await, 0x97);
    publisher.send(&once.dup().encode(V5)).await;
    assert_eq!(publisher.pubrec(500).await, 0);
    other.assert_silent_after(&mut publisher).await;
}
