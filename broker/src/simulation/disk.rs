//! Regression: acknowledgements of messages that were accepted just before the disk failed waited for it without
//! limit, and so did the refusals behind them.

use super::client::Profile;
use super::wire::Version;
use super::world::World;
use super::{profile, simulated};
use crate::hub::WaitingForDisk;
use crate::store::Health;

fn set_health(world: &mut World, health: Health) {
    world.broker().hub.shared.store.as_ref().expect("in memory").set_health(health);
}

/// Checks the disk after `ms`, as housekeeping does, and lets the publisher read. Returns whether the publisher is
/// still connected.
async fn is_connected_after(world: &mut World, waiting: &mut WaitingForDisk, ms: u64) -> bool {
    tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    let now = world.record.now();
    world.broker().hub.look_at_disk(waiting, now);
    world.settle().await;
    world.work(1);
    world.clients[1].is_ready()
}

async fn waiting_publisher_is_ended(health: Health, qos: u8) {
    let publisher = Profile { session_expiry: 0, ..profile("publisher", Version::V5, &[]) };
    let mut world = World::new(1, [profile("keeper", Version::V5, &[("t/#", 1)]), publisher]);
    world.connect(0);
    world.connect(1);
    world.exchange().await;
    world.cut(0);
    world.pass(0).await;
    let mut waiting = WaitingForDisk::default();
    world.clients[1].publish("t/0", qos, None, &mut world.record);
    world.settle().await;
    assert!(is_connected_after(&mut world, &mut waiting, 60_000).await, "the disk is slow, but works");
    set_health(&mut world, health);
    // The message is refused, but the refusal waits behind the acknowledgement.
    world.clients[1].publish("t/0", qos, None, &mut world.record);
    world.settle().await;
    assert!(is_connected_after(&mut world, &mut waiting, 0).await);
    assert!(is_connected_after(&mut world, &mut waiting, 9_000).await);
    assert!(!is_connected_after(&mut world, &mut waiting, 1_500).await);
    assert!(world.record.trace.count("Disconnect { code: 151") > 0, "{health:?}");
    assert_eq!(world.broker().hub.shared.counters.read().disconnected_store, 1);

    // Messages sent now are refused at once. No acknowledgement waits, so the connection is not ended again.
    world.connect(1);
    world.settle().await;
    assert!(is_connected_after(&mut world, &mut waiting, 0).await);
    assert!(is_connected_after(&mut world, &mut waiting, 60_000).await);

    // Messages that were accepted are delivered when the disk works again.
    set_health(&mut world, Health::Healthy);
    world.connect(0);
    world.exchange().await;
    assert_eq!(world.record.times.get("t/0").map(Vec::len), Some(1), "{health:?}");
}

#[test]
fn publisher_whose_acknowledgements_wait_for_a_failed_disk_is_disconnected() {
    for health in [Health::Full, Health::Failing, Health::Stalled] {
        for qos in [1, 2] {
            simulated(waiting_publisher_is_ended(health, qos));
        }
    }
}

#[test]
fn clients_whose_acknowledgements_do_not_wait_stay_connected_while_the_disk_fails() {
    simulated(async {
        // A QoS 2 publisher with a persistent session would get the same answer after reconnecting, so its connection
        // is kept.
        let names = [("keeper", &[("t/#", 2)][..]), ("publisher", &[])];
        let mut world = World::new(1, names.map(|(name, filters)| profile(name, Version::V5, filters)));
        world.connect(0);
        world.connect(1);
        world.exchange().await;
        world.clients[1].publish("t/0", 2, None, &mut world.record);
        world.settle().await;
        set_health(&mut world, Health::Failing);
        let mut waiting = WaitingForDisk::default();
        for _ in 0..4 {
            assert!(is_connected_after(&mut world, &mut waiting, 8_000).await);
        }
        set_health(&mut world, Health::Healthy);
        world.exchange().await;
        assert!(world.clients[1].is_settled());
        assert_eq!(world.record.times["t/0"].len(), 1);
    });
}
