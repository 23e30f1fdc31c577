//! Reads of retained messages that are in progress when the broker is killed.

use super::wire::Version;
use super::world::World;
use super::{profile, simulated};
use crate::message::{Message, QoS};
use crate::session::Scratch;

const RETAINED: usize = 200;

/// Checks that a client receives every message that was retained when it subscribed, as SUBACK has promised, although
/// its connection is cut or the broker is killed during the read.
async fn interrupted_read(seed: u64) {
    let mut world = World::new(seed, [profile("reader", Version::V5, &[("r/+", 1), ("+/1", 2)])]);
    let mut scratch = Scratch::at(world.record.now());
    for number in 1..=RETAINED {
        let message = Message {
            topic: format!("r/{number}").into(),
            payload: format!("retained:{number}").into(),
            qos: QoS::AtLeastOnce,
            retain: true,
            ..Message::default()
        };
        world.broker().hub.router.publish_own(&message, &mut scratch);
    }
    scratch.settle(&world.broker().hub.shared);
    world.exchange().await;
    world.connect(0);
    while world.record.trace.count("Suback") == 0 {
        world.broker().commits.commit();
        world.settle().await;
        world.work(0);
    }
    assert!(world.record.times.len() < RETAINED / 4, "most is still to be read");
    for _ in 0..6 {
        for _ in 0..world.random.below(25) {
            if world.chance(60) {
                world.broker().commits.commit();
            }
            world.settle().await;
            world.work(0);
        }
        if world.chance(50) {
            world.kill();
        }
        world.connect(0);
    }
    world.exchange().await;
    let missing: Vec<usize> =
        (1..=RETAINED).filter(|n| !world.record.times.contains_key(&format!("r/{n}"))).collect();
    assert!(missing.is_empty(), "seed {seed}: {missing:?} never came");
    let copies = world.record.times.values().map(Vec::len).sum::<usize>();
    assert!(copies < 8 * RETAINED, "seed {seed}: {copies} copies, so it does not go on but begins again");
}

#[test]
fn reads_of_retained_messages_are_complete_after_crashes() {
    for seed in 1..=40 {
        simulated(interrupted_read(seed));
    }
}
