//! A client that reconnects while its earlier connection has unread packets.

use rantai_testing::{Packet, Will, disconnect};

use crate::Own;
use crate::support::{Connect, Property, Publish, Version};

/// Number of messages, more than a connection reads in one turn.
const AHEAD: usize = 2_000;

#[tokio::test]
async fn packets_on_the_earlier_connection_are_handled_before_a_takeover() {
    let own = Own::start(|_| {}).await;
    for version in Version::BOTH {
        for _ in 0..10 {
            let mut watcher = own.client(version).await;
            watcher.subscribe("watched", 1).await;
            let connect = Connect::new(version).persistent();
            let with_will = connect.clone().will(Will::new("watched", "the will").qos(1));
            let mut old = own.connect(with_will).await;
            let mut sent = Publish::new("nobody/reads/this", &[0; 50]).encode(version).repeat(AHEAD);
            sent.extend(Publish::new("watched", "the last").encode(version));
            let ends: &[Property] = &[Property::SessionExpiry(0)];
            let ends = if version == Version::V5 { ends } else { &[] };
            sent.extend(disconnect(version, 0, ends));
            old.send(&sent).await;
            let mut new = own.connect(connect.id(&old.id).resume()).await;
            let present = new.connack.take().is_some_and(|connack| connack.session_present);
            // Only in MQTT 5 can a client end its session with DISCONNECT.
            assert_eq!(present, version == Version::V3);
            assert_eq!(new.publish(Publish::new("watched", "of the new one").qos(1)).await, 0);
            assert_eq!(watcher.message().await.text(), "the last");
            assert_eq!(watcher.message().await.text(), "of the new one");
        }
    }
}

/// The wait is limited to a second: a client whose own connection is blocked can still reconnect.
#[tokio::test]
async fn a_takeover_does_not_wait_for_a_blocked_connection() {
    let own = Own::start(|c| {
        c.limits.queue_messages = 1;
        c.limits.in_flight = 1;
        c.limits.publish_wait = std::time::Duration::from_hours(1);
        c.limits.slow_reader = std::time::Duration::from_hours(1);
    })
    .await;
    let mut slow = own.connect(Connect::new(Version::V5).id("slow").persistent()).await;
    slow.subscribe("x", 1).await;
    let mut old = own.connect(Connect::new(Version::V5).id("same")).await;
    for id in 1..=10 {
        old.send(&Publish::new("x", "more than it takes").qos(1).id(id).encode(Version::V5)).await;
    }
    let mut new = own.connect(Connect::new(Version::V5).id("same")).await;
    while let Some(packet) = old.next_or_end().await {
        assert!(matches!(packet, Packet::Puback(_) | Packet::Disconnect { code: 0x8E, .. }), "{packet:?}");
    }
    assert_eq!(new.publish(Publish::new("y", "").qos(1)).await, 0x10);
}
