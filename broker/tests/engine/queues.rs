//! Full queues: only the session whose queue is full is affected.

use std::time::Duration;

use rantai_broker::QueueFull;

use crate::Own;
use crate::support::{Connect, Property, Publish, Version, ack};
use Version::{V3, V5};

const SLOW: &str = "slow/topic";

/// Returns a client that accepts one message at a time and acknowledges none.
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
async fn a_publisher_is_refused_after_its_wait_and_no_subscriber_gets_the_message() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 3;
        c.limits.queue_full = QueueFull::Refuse;
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
    // One message is in flight and three are queued. The others are refused, the first after a wait.
    assert_eq!(codes, [0, 0, 0, 0, 0x97, 0x97, 0x97, 0x97]);
    let counts = own.broker.counts();
    assert_eq!((counts.refused_queue_full, counts.publisher_waits), (4, 4));
    for number in 0..4 {
        assert_eq!(other.message().await.text(), number.to_string());
    }
    other.assert_silent_after(&mut publisher).await;
    // With room again, all acknowledged messages arrive, and the publisher continues.
    for number in 0..4 {
        assert_eq!(slow.message().await.text(), number.to_string());
    }
    assert_eq!(publisher.publish(Publish::new(SLOW, "on").qos(1)).await, 0);
    assert_eq!(slow.message().await.text(), "on");
}

#[tokio::test]
async fn a_waiting_publisher_continues_when_there_is_room() {
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
    // Its other packets have waited, too.
    publisher.send(&ack(6, V5, 77, 0)).await;
    publisher.pubcomp(77).await;
    assert_eq!(own.broker.counts().refused_queue_full, 0);
}

#[tokio::test]
async fn a_refused_publisher_of_version_3_is_disconnected_without_acknowledgement() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.queue_full = QueueFull::Refuse;
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

/// Creates a persistent session with a subscription to all topics, and disconnects its client.
async fn absent_session(own: &Own, version: Version) -> Connect {
    let connect = Connect::new(version).id("forgotten").persistent();
    let mut client = own.connect(connect.clone()).await;
    client.subscribe("#", 1).await;
    client.disconnect().await;
    connect
}

/// Once, a forgotten subscription to `#` caused every publish at QoS 1 to be refused, for all clients and topics, for
/// seven days.
#[tokio::test]
async fn only_a_full_absent_session_loses_messages() {
    for version in Version::BOTH {
        let own = Own::start(|c| c.limits.queue_messages = 3).await;
        let connect = absent_session(&own, version).await;
        let mut reader = own.client(V5).await;
        reader.subscribe(SLOW, 2).await;
        for publisher_version in Version::BOTH {
            let mut publisher = own.client(publisher_version).await;
            for qos in [1, 2, 1, 2] {
                assert_eq!(publisher.publish(Publish::new(SLOW, "x").qos(qos)).await, 0);
                assert_eq!(reader.message().await.text(), "x");
            }
            assert_eq!(publisher.publish(Publish::new("elsewhere", "x").qos(1)).await, 0, "not 0x97");
        }
        let counts = own.broker.counts();
        assert_eq!((counts.dropped_queue_full, counts.refused_queue_full, counts.publisher_waits), (7, 0, 0));
        // Messages that were acknowledged before the queue was full are delivered.
        let mut back = own.connect(connect.resume()).await;
        for _ in 0..3 {
            assert_eq!(back.message().await.text(), "x");
        }
        let mut publisher = own.client(V5).await;
        publisher.publish(Publish::new("elsewhere", "again").qos(1)).await;
        assert_eq!(back.message().await.text(), "again", "it takes part again");
    }
}

/// The same limit in bytes: 35 publishes of 2 MB filled the queue of 64 MiB.
#[tokio::test]
async fn an_absent_session_with_too_many_bytes_causes_no_refusal() {
    let own = Own::start(|c| c.limits.queue_bytes = 100_000).await;
    let _connect = absent_session(&own, V5).await;
    let mut publisher = own.client(V5).await;
    let body = "x".repeat(30_000);
    for _ in 0..8 {
        assert_eq!(publisher.publish(Publish::new(SLOW, &body).qos(1)).await, 0);
    }
    assert_eq!(own.broker.counts().dropped_queue_full, 4, "four fit");
}

#[tokio::test]
async fn a_publisher_waits_once_for_a_reader_that_takes_nothing() {
    for version in Version::BOTH {
        let own = Own::start(|c| {
            c.limits.queue_messages = 2;
            c.limits.in_flight = 1;
            c.limits.publish_wait = Duration::from_millis(50);
        })
        .await;
        let mut slow = blocked(&own, version).await;
        let mut other = own.client(V5).await;
        other.subscribe(SLOW, 1).await;
        let mut publisher = own.client(version).await;
        for number in 0..20 {
            assert_eq!(publisher.publish(Publish::new(SLOW, &number.to_string()).qos(1)).await, 0);
            assert_eq!(other.message().await.text(), number.to_string());
        }
        let counts = own.broker.counts();
        // One message is in flight, and two are queued.
        assert_eq!((counts.dropped_queue_full, counts.publisher_waits), (17, 1));
        for number in 0..3 {
            assert_eq!(slow.message().await.text(), number.to_string(), "what is in flight is not dropped");
        }
        slow.assert_silent_after(&mut publisher).await;
    }
}

/// Each message that a slow reader takes lets publishers wait 10 ms more for it, not the whole `publish_wait` again.
#[tokio::test]
async fn a_slow_reader_does_not_delay_its_publishers_each_time() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.publish_wait = Duration::from_secs(5);
    })
    .await;
    let mut slow = blocked(&own, V5).await;
    let mut publisher = own.client(V5).await;
    let publish = |publisher: crate::support::Client| async move {
        let mut publisher = publisher;
        let began = std::time::Instant::now();
        assert_eq!(publisher.publish(Publish::new(SLOW, "x").qos(1)).await, 0);
        (publisher, began.elapsed())
    };
    // The first one that finds the queue full uses up the session's credit.
    for _ in 0..3 {
        publisher = publish(publisher).await.0;
    }
    assert_eq!(own.broker.counts().publisher_waits, 1);
    let mut waited = Duration::ZERO;
    for _ in 0..20 {
        slow.message().await;
        // Fills the room that this made, and then finds the queue full.
        for _ in 0..2 {
            let took;
            (publisher, took) = publish(publisher).await;
            waited += took;
        }
    }
    // Twenty times 10 ms instead of twenty times five seconds.
    assert!(waited < Duration::from_secs(20), "{waited:?}");
}

/// A client that fills its queue and reconnects each second must not delay its publishers each time.
#[tokio::test]
async fn reconnecting_does_not_renew_the_wait_for_a_reader() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.publish_wait = Duration::from_millis(50);
    })
    .await;
    let mut publisher = own.client(V5).await;
    let mut connect = Connect::new(V5).id("slow").persistent().property(Property::ReceiveMaximum(1));
    for round in 0..4 {
        let mut slow = own.connect(connect.clone()).await;
        if round == 0 {
            slow.subscribe(SLOW, 1).await;
            connect = connect.resume();
        }
        for _ in 0..4 {
            assert_eq!(publisher.publish(Publish::new(SLOW, "x").qos(1)).await, 0);
        }
        slow.cut().await;
    }
    assert_eq!(own.broker.counts().publisher_waits, 1);
}

#[tokio::test]
async fn without_publish_wait_no_publisher_waits() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 2;
        c.limits.publish_wait = Duration::ZERO;
    })
    .await;
    let mut slow = blocked(&own, V5).await;
    let mut publisher = own.client(V5).await;
    for number in 0..6 {
        assert_eq!(publisher.publish(Publish::new(SLOW, &number.to_string()).qos(1)).await, 0);
    }
    let counts = own.broker.counts();
    assert_eq!((counts.dropped_queue_full, counts.publisher_waits), (3, 0));
    for number in 0..3 {
        assert_eq!(slow.message().await.text(), number.to_string());
    }
    slow.assert_silent_after(&mut publisher).await;
}

fn request(text: &str) -> Publish {
    Publish::new(SLOW, text).qos(1).property(Property::ResponseTopic("reply".to_owned()))
}

/// All members of a shared group count as one receiver.
#[tokio::test]
async fn a_request_that_no_member_of_a_shared_group_can_take_is_refused_at_once() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.publish_wait = Duration::from_hours(1);
    })
    .await;
    let filter = format!("$share/group/{SLOW}");
    let mut member = own.connect(Connect::new(V5).property(Property::ReceiveMaximum(1))).await;
    member.subscribe(&filter, 1).await;
    let mut caller = own.client(V5).await;
    let mut codes = Vec::new();
    for text in ["0", "1", "2"] {
        codes.push(caller.publish(request(text)).await);
    }
    assert_eq!(codes, [0, 0, 0x97]);
    // Other messages wait for room.
    let mut publisher = own.client(V5).await;
    publisher.send(&Publish::new(SLOW, "event").qos(1).id(9).encode(V5)).await;
    assert_eq!(member.message().await.text(), "0");
    assert_eq!(publisher.puback(9).await, 0, "it has waited for room");
    for text in ["1", "event"] {
        assert_eq!(member.message().await.text(), text);
    }
    assert_eq!(caller.publish(request("4")).await, 0, "room again");
}

/// Once, a shared group that matches all topics and reads nothing caused requests to a server without a group to be
/// refused.
#[tokio::test]
async fn a_full_shared_group_does_not_refuse_messages_with_other_receivers() {
    let own = Own::start(|c| c.limits.queue_messages = 1).await;
    let mut hostile = own.connect(Connect::new(V5).property(Property::ReceiveMaximum(1))).await;
    hostile.subscribe("$share/hostile/#", 1).await;
    let mut server = own.client(V5).await;
    server.subscribe(SLOW, 1).await;
    let mut caller = own.client(V5).await;
    for number in 0..10 {
        assert_eq!(caller.publish(request(&number.to_string())).await, 0);
        assert_eq!(server.message().await.text(), number.to_string());
    }
}

/// Subscribers that only monitor the requests of a bus, in a group or with a filter of the method, do not count as
/// receivers.
#[tokio::test]
async fn a_busy_object_is_reported_regardless_of_monitoring_subscribers() {
    let own = Own::start(|c| c.limits.queue_messages = 1).await;
    let mut server = own.connect(Connect::new(V5).property(Property::ReceiveMaximum(1))).await;
    server.subscribe("$share/echo/rantai/call/echo/#", 1).await;
    let mut curious = own.client(V5).await;
    for filter in [
        "rantai/call/+/echo",
        "rantai/+/echo/#",
        "$share/lookers/rantai/call/#",
        "$share/g/rantai/call/+/echo",
    ] {
        curious.subscribe(filter, 1).await;
    }
    let mut caller = own.client(V5).await;
    let mut codes = Vec::new();
    for text in ["0", "1", "2"] {
        let reply_to = Property::ResponseTopic("rantai/reply/echo/me".to_owned());
        codes.push(
            caller.publish(Publish::new("rantai/call/echo/echo", text).qos(1).property(reply_to)).await,
        );
    }
    assert_eq!(codes, [0, 0, 0x97]);
}

#[tokio::test]
async fn a_request_goes_to_a_member_with_room_and_is_not_queued_for_an_absent_one() {
    let own = Own::start(|c| c.limits.queue_messages = 1).await;
    let filter = format!("$share/group/{SLOW}");
    let away = Connect::new(V5).id("away").persistent();
    let mut member = own.connect(away.clone()).await;
    member.subscribe(&filter, 1).await;
    member.disconnect().await;
    let mut caller = own.client(V5).await;
    assert_eq!(caller.publish(request("for who is away")).await, 0);
    assert_eq!(caller.publish(request("too many")).await, 0x97);
    // Other messages are dropped for it, as for any session.
    for version in Version::BOTH {
        let mut publisher = own.client(version).await;
        assert_eq!(publisher.publish(Publish::new(SLOW, "too many").qos(1).retain()).await, 0);
        assert_eq!(publisher.publish(Publish::new(SLOW, "too many").qos(2)).await, 0);
    }
    assert_eq!(caller.publish(request("too many").retain()).await, 0, "what is retained is kept");
    assert_eq!(caller.publish(request("too many")).await, 0x97);
    let mut present = own.client(V5).await;
    present.subscribe(&filter, 1).await;
    for number in 0..5 {
        assert_eq!(caller.publish(request(&number.to_string())).await, 0);
        assert_eq!(present.message().await.text(), number.to_string());
    }
    let mut back = own.connect(away.resume()).await;
    assert_eq!(back.message().await.text(), "for who is away");
}

/// A stalled reader delays neither the others nor the publisher, and takes bounded memory. Later it receives the
/// newest messages, in order.
#[tokio::test]
async fn a_stalled_reader_loses_the_oldest_qos_0_messages_and_others_lose_none() {
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
async fn a_shared_group_skips_a_slow_member() {
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

/// Only messages at QoS 1 and 2 are queued for an absent session.
#[tokio::test]
async fn no_qos_0_message_is_queued_for_an_absent_session() {
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

/// Once, a publisher that waited at QoS 1 with the packet id of an unreleased QoS 2 message made the broker forget
/// that message, so that its repetition was delivered again.
#[tokio::test]
async fn a_waiting_message_does_not_affect_a_qos_2_message_of_the_same_packet_id() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.queue_full = QueueFull::Refuse;
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
