//! Wills and kill -9. Regression: the record of a session, which contains its will, was deleted in one commit, and the
//! published will was stored in the queues of others in another. A broker that was killed in between had neither.

use super::client::Profile;
use super::wire::{Property, Version, Will};
use super::world::World;
use super::{profile, simulated};

/// Returns a world with an absent client that subscribes to wills, and a connected client that has one.
async fn world_with_will(session_expiry: u32, delay: u32) -> World {
    let will = Will::new("will/mortal", "").qos(1).property(Property::WillDelay(delay));
    let mortal = Profile { session_expiry, will: Some(will), ..profile("mortal", Version::V5, &[("x", 1)]) };
    let mut world = World::new(1, [profile("heir", Version::V5, &[("will/#", 1)]), mortal]);
    world.connect(0);
    world.connect(1);
    world.exchange().await;
    world.cut(0);
    world.pass(0).await;
    world
}

/// Returns the number of puts into the store within `ms`, each of which may become a commit of its own.
async fn puts_within(world: &mut World, ms: u64) -> u64 {
    let before = world.broker().hub.shared.put([], None);
    tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    world.broker().hub.shared.put([], None) - before - 1
}

async fn will_arrives_after_a_kill(world: &mut World) {
    world.kill();
    world.pass(10_000).await;
    world.connect(0);
    world.exchange().await;
    assert_eq!(world.record.times["will/mortal"].len(), 1);
}

#[test]
fn will_of_a_lost_connection_is_one_commit_with_the_record_of_its_session() {
    simulated(async {
        let mut world = world_with_will(60, 0).await;
        world.cut(1);
        assert_eq!(puts_within(&mut world, 100).await, 1);
        will_arrives_after_a_kill(&mut world).await;
    });
}

#[test]
fn will_after_its_delay_is_one_commit_with_the_record_of_its_session() {
    simulated(async {
        let mut world = world_with_will(60, 5).await;
        world.cut(1);
        world.pass(4_900).await;
        assert_eq!(puts_within(&mut world, 200).await, 1);
        will_arrives_after_a_kill(&mut world).await;
    });
}

#[test]
fn will_of_a_session_that_ends_is_one_commit_with_its_removal() {
    simulated(async {
        let mut world = world_with_will(5, 60).await;
        world.cut(1);
        world.pass(4_900).await;
        assert_eq!(puts_within(&mut world, 200).await, 1);
        will_arrives_after_a_kill(&mut world).await;
    });
}

#[test]
fn will_of_a_session_that_is_taken_over_is_one_commit_with_its_removal() {
    simulated(async {
        let mut world = world_with_will(60, 0).await;
        world.clients[1].profile.will = None;
        world.clients[1].profile.session_expiry = 0;
        // The connection stays open: after its end, it would be read to the end first, and would publish its will
        // then.
        world.vanish(1);
        world.connect(1);
        assert_eq!(puts_within(&mut world, 100).await, 1);
        will_arrives_after_a_kill(&mut world).await;
    });
}

#[test]
fn wills_and_sessions_expire_in_virtual_time() {
    simulated(async {
        let will = Will::new("will/mortal", "").property(Property::WillDelay(5));
        let mortal =
            Profile { session_expiry: 60, will: Some(will), ..profile("mortal", Version::V5, &[("x", 1)]) };
        let mut world = World::new(1, [profile("heir", Version::V5, &[("will/#", 1)]), mortal]);
        for index in 0..2 {
            world.connect(index);
        }
        world.exchange().await;
        let gone = world.record.now();
        world.cut(1);
        // After a restart, the broker counts the delay from the time at which the client was lost.
        world.pass(2_000).await;
        world.kill();
        world.connect(0);
        world.exchange().await;
        world.pass(2_900).await;
        world.exchange().await;
        assert_eq!(world.record.times.get("will/mortal"), None, "before its delay is over");
        world.pass(200).await;
        world.exchange().await;
        let came = world.record.times["will/mortal"][0];
        assert!((5_000..5_200).contains(&(came - gone)), "after {} ms", came - gone);

        world.pass(50_000).await;
        world.connect(1);
        world.exchange().await;
        assert!(world.clients[1].resumed, "within its session expiry");
        world.clients[1].disconnect(&mut world.record);
        world.pass(61_000).await;
        world.connect(1);
        world.exchange().await;
        assert!(!world.clients[1].resumed, "after its session expiry");
    });
}
