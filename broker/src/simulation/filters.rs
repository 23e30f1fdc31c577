//! Regression: a client subscribed or unsubscribed, lost its connection before the acknowledgement, and sent the same
//! packet again. The second acknowledgement was sent at once, because there was nothing to change. A broker that was
//! killed then did not have the change that it had acknowledged.

use super::plan::DiskFault;
use super::wire::Version;
use super::world::World;
use super::{profile, simulated};

const FILTER: (&str, u8) = ("x", 1);

/// Lets the broker handle the client's packets without a commit, and lets the client read.
async fn without_commit(world: &mut World) {
    for _ in 0..3 {
        world.settle().await;
        world.work(0);
    }
}

async fn reconnect(world: &mut World) {
    world.cut(0);
    world.settle().await;
    world.connect(0);
    without_commit(world).await;
    assert!(world.clients[0].is_ready());
}

#[test]
fn suback_waits_until_a_subscription_of_an_earlier_connection_is_on_disk() {
    for fault in [None, Some(DiskFault::Stalled), Some(DiskFault::Low)] {
        simulated(async {
            let mut world = World::new(1, [profile("client", Version::V5, &[FILTER])]);
            world.connect(0);
            without_commit(&mut world).await;
            if let Some(fault) = fault {
                world.disk_fails(fault);
            }
            // The client sends SUBSCRIBE again on a new connection.
            reconnect(&mut world).await;
            assert!(world.clients[0].resumed);
            assert_eq!(world.record.trace.count("Suback"), 0, "{fault:?}: nothing is on disk");
            world.disk_works();
            world.exchange().await;
            assert_eq!(world.record.trace.count("Suback"), 1);
        });
    }
}

#[test]
fn suback_does_not_wait_for_a_failed_disk_where_the_subscription_is_on_disk() {
    simulated(async {
        let mut world = World::new(1, [profile("client", Version::V5, &[FILTER])]);
        world.connect(0);
        world.exchange().await;
        world.disk_fails(DiskFault::Stalled);
        world.clients[0].subscribe(&[FILTER], &mut world.record);
        without_commit(&mut world).await;
        assert_eq!(world.record.trace.count("Suback"), 2);
    });
}

#[test]
fn unsuback_waits_until_the_end_of_a_subscription_by_an_earlier_connection_is_on_disk() {
    simulated(async {
        let mut world = World::new(1, [profile("client", Version::V5, &[FILTER])]);
        world.connect(0);
        world.exchange().await;
        world.clients[0].profile.filters = &[];
        world.clients[0].unsubscribe(FILTER, &mut world.record);
        without_commit(&mut world).await;
        reconnect(&mut world).await;
        world.clients[0].unsubscribe(FILTER, &mut world.record);
        without_commit(&mut world).await;
        assert_eq!(world.record.trace.count("Unsuback"), 0, "nothing is on disk");
        world.exchange().await;
        assert_eq!(world.record.trace.count("Unsuback"), 1);
    });
}
