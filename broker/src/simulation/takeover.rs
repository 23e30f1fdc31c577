//! A connection that waits for a full queue, or for the disk, when it is taken over: what it had read behind the message that
//! waited, and what it had not read, was worked through all the same, behind what the next connection had sent again.
//! Messages came out of order, and those of QoS 2 twice.

use std::time::Duration;

use super::client::Profile;
use super::seeds::Trace;
use super::wire::Version;
use super::world::{Settings, World};
use super::{profile, simulated};
use crate::config::Limits;
use crate::random::Seeded;

const RECEIVER: usize = 0;
const PUBLISHER: usize = 2;

#[test]
fn what_a_connection_has_read_is_not_worked_through_after_a_takeover() {
    simulated(async {
        // Longer than a new connection waits for an earlier one.
        let limits = Limits {
            in_flight: 1,
            queue_messages: 1,
            publish_wait: Duration::from_secs(3),
            ..Settings::default().limits
        };
        let settings = Settings { limits, housekeeping: false };
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
fn what_a_connection_has_not_read_is_not_worked_through_after_a_takeover() {
    simulated(async {
        let limits = Limits { answer_bytes: 64, ..Settings::default().limits };
        let settings = Settings { limits, housekeeping: false };
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
        // Each is acknowledged once it is on disk.
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

/// Lets a connection of the publisher wait for an earlier one, and a later one connect, which need not wait.
async fn waiting_and_later() -> World {
    let limits = Limits {
        in_flight: 1,
        queue_messages: 1,
        publish_wait: Duration::from_secs(3),
        ..Settings::default().limits
    };
    let settings = Settings { limits, housekeeping: false };
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
    // The first one ends, though what it waits for has not come: the third need not wait.
    let (_, first) = world.broker().hub.connection_of("publisher").expect("it waits");
    first.close(None);
    world.connect(PUBLISHER);
    world.settle().await;
    world.work(PUBLISHER);
    assert!(world.clients[PUBLISHER].is_ready());
    world
}

/// The connection that waited took the later one over, once its wait was over: with an older CONNECT, of which its client knew
/// nothing any more.
#[test]
fn connection_that_waits_for_an_earlier_one_does_not_take_a_later_one_over() {
    simulated(async {
        let mut world = waiting_and_later().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.work(PUBLISHER);
        assert!(world.clients[PUBLISHER].is_ready());
        assert_eq!(world.broker().hub.shared.counters.read().taken_over, 1);
    });
}

/// Nor does it take the session when the later one is gone: it cancelled that one's will.
#[test]
fn connection_that_waits_does_not_follow_a_later_one_that_is_gone() {
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

/// It was delivered to those whose queues had room, when the wait was over.
#[test]
fn message_that_expires_while_its_publisher_waits_is_not_delivered() {
    simulated(async {
        let limits = Limits {
            in_flight: 1,
            queue_messages: 1,
            publish_wait: Duration::from_secs(3),
            ..Settings::default().limits
        };
        let settings = Settings { limits, housekeeping: false };
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
