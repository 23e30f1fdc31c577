//! Full queues: they cost the session that is full, and nobody else.

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

/// A persistent session with a subscription to everything, whose client is away.
async fn forgotten(own: &Own, version: Version) -> Connect {
    let connect = Connect::new(version).id("forgotten").persistent();
    let mut client = own.connect(connect.clone()).await;
    client.subscribe("#", 1).await;
    client.disconnect().await;
    connect
}

/// A forgotten subscription to `#` once refused every publish at QoS 1, of anybody to anything, for seven days.
#[tokio::test]
async fn an_absent_session_that_is_full_loses_messages_and_nobody_else_does() {
    for version in Version::BOTH {
        let own = Own::start(|c| c.limits.queue_messages = 3).await;
        let connect = forgotten(&own, version).await;
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
        // What had been acknowledged before the queue was full is there.
        let mut back = own.connect(connect.resume()).await;
        for _ in 0..3 {
            assert_eq!(back.message().await.text(), "x");
        }
        let mut publisher = own.client(V5).await;
        publisher.publish(Publish::new("elsewhere", "again").qos(1)).await;
        assert_eq!(back.message().await.text(), "again", "it takes part again");
    }
}

/// The same in bytes: 35 publishes of 2 MB filled the queue of 64 MiB.
#[tokio::test]
async fn an_absent_session_that_holds_too_many_bytes_refuses_nobody() {
    let own = Own::start(|c| c.limits.queue_bytes = 100_000).await;
    let _connect = forgotten(&own, V5).await;
    let mut publisher = own.client(V5).await;
    let body = "x".repeat(30_000);
    for _ in 0..8 {
        assert_eq!(publisher.publish(Publish::new(SLOW, &body).qos(1)).await, 0);
    }
    assert_eq!(own.broker.counts().dropped_queue_full, 4, "four fit");
}

#[tokio::test]
async fn a_connected_reader_that_takes_nothing_is_waited_for_once_and_loses_messages() {
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
        // One in flight, two queued.
        assert_eq!((counts.dropped_queue_full, counts.publisher_waits), (17, 1));
        for number in 0..3 {
            assert_eq!(slow.message().await.text(), number.to_string(), "what is in flight is not dropped");
        }
        slow.assert_silent_after(&mut publisher).await;
    }
}

/// Each message that a slow reader takes lets publishers wait 10 ms more for it, not the whole `publish_wait` again.
#[tokio::test]
async fn a_reader_that_takes_a_message_now_and_then_does_not_hold_its_publishers_back_each_time() {
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
    // The first that finds the queue full uses up what the session has.
    for _ in 0..3 {
        publisher = publish(publisher).await.0;
    }
    assert_eq!(own.broker.counts().publisher_waits, 1);
    let mut waited = Duration::ZERO;
    for _ in 0..20 {
        slow.message().await;
        // Fills the room that this made, and finds the queue full.
        for _ in 0..2 {
            let took;
            (publisher, took) = publish(publisher).await;
            waited += took;
        }
    }
    // Twenty times 10 ms instead of twenty times five seconds.
    assert!(waited < Duration::from_secs(20), "{waited:?}");
}

/// A client that filled its queue and connected again each second would have held its publishers back each time.
#[tokio::test]
async fn a_reader_that_connects_again_and_takes_nothing_is_not_waited_for_again() {
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
async fn without_publish_wait_nobody_is_held_back() {
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

/// All members of a shared group stand for one receiver.
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

/// A shared group that matches everything and takes nothing once had the requests to a server without a group refused.
#[tokio::test]
async fn a_shared_group_that_is_full_refuses_nothing_that_somebody_else_takes() {
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

/// Who looks on at the requests of a bus, in a group or by a filter that names the method, takes none of them.
#[tokio::test]
async fn that_an_object_is_busy_is_told_whoever_looks_on() {
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
async fn a_request_goes_to_the_member_that_has_room_and_none_waits_for_one_that_is_away() {
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
