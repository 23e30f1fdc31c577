//! Regression: when a connection that waited for a full queue or for the disk was taken over, its remaining packets
//! were still handled, after the client had sent them again on the next connection. Messages arrived out of order, and
//! QoS 2 messages twice.

use std::time::Duration;

use super::client::Profile;
use super::seeds::Trace;
use super::wire::Version;
use super::world::{World, WorldSettings};
use super::{profile, simulated};
use crate::config::Limits;
use crate::random::Seeded;

const RECEIVER: usize = 0;
const PUBLISHER: usize = 2;

#[test]
fn read_packets_of_a_connection_are_not_handled_after_a_takeover() {
    simulated(async {
        // Longer than a new connection waits for an earlier one.
        let limits = Limits {
            in_flight: 1,
            queue_messages: 1,
            publish_wait: Duration::from_secs(3),
            ..WorldSettings::default().limits
        };
        let settings = WorldSettings { limits, housekeeping: false };
        let profiles = [
            profile("receiver", Version::V5, &[("full", 1)]),
            profile("watcher", Version::V5, &[("free", 1)]),
            profile("publisher", Version::V5, &[]),
        ];
        let mut world = World::with(settings, Trace::default(), Seeded::new(1), profiles);
        for index in 0..world.clients.len() {
            world.connect(index);
        }
        world.exchange().await;
        world.clients[RECEIVER].habits.withholds = true;
        for topic in ["full", "full", "full", "free"] {
            world.clients[PUBLISHER].publish(topic, 1, None, &mut world.record);
        }
        world.exchange().await;
        assert!(!world.clients[PUBLISHER].is_settled(), "the third waits, and the fourth behind it");
        world.vanish(PUBLISHER);
        world.connect(PUBLISHER);
        for _ in 0..8 {
            world.pass(1_000).await;
            world.exchange().await;
        }
        assert!(world.clients[PUBLISHER].is_settled());
        assert_eq!(world.record.times["free"].len(), 1);
    });
}

#[test]
fn unread_packets_of_a_connection_are_not_handled_after_a_takeover() {
    simulated(async {
        let limits = Limits { answer_bytes: 64, ..WorldSettings::default().limits };
        let settings = WorldSettings { limits, housekeeping: false };
        let profiles = [
            profile("receiver", Version::V5, &[("kept", 1), ("free", 1)]),
            profile("other", Version::V5, &[]),
            profile("publisher", Version::V5, &[]),
        ];
        let mut world = World::with(settings, Trace::default(), Seeded::new(1), profiles);
        for index in 0..world.clients.len() {
            world.connect(index);
        }
        world.exchange().await;
        // Each message is acknowledged when it is on disk.
        for _ in 0..20 {
            world.clients[PUBLISHER].publish("kept", 1, None, &mut world.record);
        }
        world.settle().await;
        world.clients[PUBLISHER].publish("free", 1, None, &mut world.record);
        world.settle().await;
        world.work(RECEIVER);
        assert!(world.record.times.contains_key("kept") && !world.record.times.contains_key("free"));
        world.vanish(PUBLISHER);
        world.connect(PUBLISHER);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        world.work(PUBLISHER);
        assert!(world.clients[PUBLISHER].is_ready(), "it has taken the session over");
        for _ in 0..8 {
            world.exchange().await;
            world.pass(1_000).await;
        }
        assert!(world.clients[PUBLISHER].is_settled());
        assert_eq!(world.record.times["free"].len(), 1);
    });
}

/// Makes a connection of the publisher wait for an earlier one, and connects a later one that need not wait.
async fn waiting_and_later() -> World {
    let limits = Limits {
        in_flight: 1,
        queue_messages: 1,
        publish_wait: Duration::from_secs(3),
        ..WorldSettings::default().limits
    };
    let settings = WorldSettings { limits, housekeeping: false };
    let profiles = [
        profile("receiver", Version::V5, &[("full", 1)]),
        profile("other", Version::V5, &[]),
        profile("publisher", Version::V5, &[]),
    ];
    let mut world = World::with(settings, Trace::default(), Seeded::new(1), profiles);
    for index in 0..world.clients.len() {
        world.connect(index);
    }
    world.exchange().await;
    world.clients[RECEIVER].habits.withholds = true;
    for _ in 0..3 {
        world.clients[PUBLISHER].publish("full", 1, None, &mut world.record);
    }
    world.exchange().await;
    world.vanish(PUBLISHER);
    world.connect(PUBLISHER);
    world.settle().await;
    // The first connection ends while it still waits, so that the third need not wait for it.
    let (_, first) = world.broker().hub.connection_of("publisher").expect("it waits");
    first.close(None);
    world.connect(PUBLISHER);
    world.settle().await;
    world.work(PUBLISHER);
    assert!(world.clients[PUBLISHER].is_ready());
    world
}

/// Once, the connection that waited took the later one over when its wait was over, with an older CONNECT that its
/// client had already given up.
#[test]
fn connection_that_waits_for_an_earlier_one_does_not_take_over_a_later_one() {
    simulated(async {
        let mut world = waiting_and_later().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.work(PUBLISHER);
        assert!(world.clients[PUBLISHER].is_ready());
        assert_eq!(world.broker().hub.shared.counters.read().taken_over, 1);
    });
}

/// Once, the connection that waited took the session even after the later one had ended, and so cancelled that one's
/// will.
#[test]
fn connection_that_waits_does_not_get_the_session_of_a_later_one_that_has_ended() {
    simulated(async {
        let mut world = waiting_and_later().await;
        let (_, later) = world.broker().hub.connection_of("publisher").expect("the later one");
        later.cut();
        world.settle().await;
        assert!(world.broker().hub.connection_of("publisher").is_none());
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.settle().await;
        assert!(world.broker().hub.connection_of("publisher").is_none());
    });
}

/// Once, such a message was delivered after the wait to the sessions whose queues had room.
#[test]
fn message_that_expires_while_its_publisher_waits_is_not_delivered() {
    simulated(async {
        let limits = Limits {
            in_flight: 1,
            queue_messages: 1,
            publish_wait: Duration::from_secs(3),
            ..WorldSettings::default().limits
        };
        let settings = WorldSettings { limits, housekeeping: false };
        let profiles = [
            profile("receiver", Version::V5, &[("full", 1)]),
            Profile { session_expiry: 0, ..profile("watcher", Version::V5, &[("full", 1)]) },
            profile("publisher", Version::V5, &[]),
        ];
        let mut world = World::with(settings, Trace::default(), Seeded::new(1), profiles);
        for index in 0..world.clients.len() {
            world.connect(index);
        }
        world.exchange().await;
        world.clients[RECEIVER].habits.withholds = true;
        for expiry in [None, None, Some(1)] {
            world.clients[PUBLISHER].publish("full", 1, expiry, &mut world.record);
        }
        world.exchange().await;
        let before = world.record.times["full"].len();
        world.pass(4_000).await;
        world.exchange().await;
        assert!(world.clients[PUBLISHER].is_settled());
        assert_eq!(world.record.times["full"].len(), before);
        assert_eq!(world.broker().hub.shared.counters.read().expired, 2, "for each of them");
    });
}
