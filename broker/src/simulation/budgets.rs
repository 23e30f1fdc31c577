//! Release of memory that clients caused the broker to use: when they disconnect, and when memory is short.

use super::wire::Version;
use super::world::World;
use super::{profile, simulated};
use crate::hub::ShedCredit;
use crate::memory::Stage;
use crate::message::{Message, QoS};
use crate::session::Scratch;

fn publish(world: &mut World, topic: &str, qos: QoS, bytes: usize) {
    let mut scratch = Scratch::at(world.record.now());
    // Clients in simulations parse each payload as a name and a number.
    let payload = format!("world:{}", "0".repeat(bytes));
    let message = Message { topic: topic.into(), payload: payload.into(), qos, ..Message::default() };
    world.broker().hub.router.publish_own(&message, &mut scratch);
    scratch.settle(&world.broker().hub.shared);
    crate::link::flush_all(&mut scratch.dirty);
}

#[test]
fn ended_sessions_are_no_longer_counted() {
    simulated(async {
        let filters: &[(&str, u8)] = &[("a/b/c", 1), ("+/#", 1), ("$share/g/a", 1), ("a/b/c", 2), ("d", 0)];
        let mut world =
            World::new(1, [profile("kept", Version::V5, filters), profile("old", Version::V3, filters)]);
        for index in 0..2 {
            world.connect(index);
        }
        world.exchange().await;
        let hub = world.broker().hub.clone();
        assert_eq!(hub.router.subscription_count(), 8);
        assert!(hub.sessions.lock().by_client.values().all(|s| s.state.lock().subscription_bytes > 2_000));
        assert_eq!(hub.owner_count(), 1, "both come from one address");
        for client in &mut world.clients {
            client.profile.session_expiry = 0;
        }
        // Each connects with a clean start, which ends its earlier session, and then ends the new session.
        for index in 0..2 {
            world.connect(index);
        }
        world.exchange().await;
        for client in &mut world.clients {
            client.disconnect(&mut world.record);
        }
        world.exchange().await;
        assert_eq!(hub.sessions.lock().by_client.len(), 0);
        assert_eq!((hub.router.subscription_count(), hub.owner_count()), (0, 0));
    });
}

#[test]
fn short_memory_drops_qos_0_first_and_disconnects_the_largest_client_last() {
    simulated(async {
        // The link of the slow client accepts only a hundred bytes at a time.
        let mut world = World::new(
            1,
            [profile("fast", Version::V5, &[("x", 1)]), profile("slow", Version::V5, &[("x", 0), ("y", 1)])],
        );
        for index in 0..2 {
            world.connect(index);
        }
        world.exchange().await;
        let hub = world.broker().hub.clone();
        for _ in 0..100 {
            publish(&mut world, "x", QoS::AtMostOnce, 20);
        }
        world.settle().await;
        let (excess, mut shed) = (|_| usize::MAX, ShedCredit::default());
        hub.shed(Stage::Keeping, excess, &mut shed);
        assert_eq!(hub.shared.counters.read().dropped_memory, 0);
        assert!(hub.shed_queues(usize::MAX) > 1_000);
        assert_eq!(hub.shed_queues(usize::MAX), 0, "nothing is left");
        assert!(hub.shared.counters.read().dropped_memory > 50);
        world.exchange().await;
        assert!(world.clients.iter().all(super::client::Client::is_ready));

        let disconnected = || hub.shared.counters.read().disconnected_memory;
        hub.shed(Stage::Offenders, excess, &mut shed);
        assert_eq!((disconnected(), shed.wait), (0, 0), "nobody holds much");
        publish(&mut world, "y", QoS::AtLeastOnce, 2 << 20);
        hub.shed(Stage::Offenders, |_| 0, &mut shed);
        assert_eq!(disconnected(), 0, "all that was too much is given back");
        shed.wait = 2;
        hub.shed(Stage::Offenders, excess, &mut shed);
        assert_eq!((disconnected(), shed.wait), (0, 1), "not yet");
        hub.shed(Stage::Offenders, excess, &mut shed);
        assert!(disconnected() == 1 && shed.wait > 0);
        shed.wait = 0;
        hub.shed(Stage::Offenders, excess, &mut shed);
        assert_eq!(disconnected(), 1, "it has been told");
        assert!(world.clients[0].is_ready());
    });
}

#[test]
fn absent_sessions_are_cut_by_the_requested_bytes() {
    simulated(async {
        let mut world = World::new(1, [profile("away", Version::V5, &[("x", 1)])]);
        world.connect(0);
        world.exchange().await;
        world.clients[0].disconnect(&mut world.record);
        world.exchange().await;
        for _ in 0..50 {
            publish(&mut world, "x", QoS::AtLeastOnce, 1_000);
            world.exchange().await;
        }
        let hub = world.broker().hub.clone();
        let before = hub.shared.absent.held();
        let mut scratch = Scratch::at(world.record.now());
        let cut = hub.cut_absent_by(20_000, &mut scratch);
        let after = hub.shared.absent.held();
        assert_eq!(cut, before.bytes - after.bytes);
        assert!((19_000..22_000).contains(&(before.bytes - after.bytes)), "{before:?} {after:?}");
        hub.cut_absent_by(usize::MAX, &mut scratch);
        assert_eq!(hub.shared.absent.held().bytes, 0);
    });
}
