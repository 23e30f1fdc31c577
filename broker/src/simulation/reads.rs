//! Retained messages that are being read when the broker is killed.

use super::wire::Version;
use super::world::World;
use super::{profile, simulated};
use crate::message::{Message, QoS};
use crate::session::Scratch;

const RETAINED: usize = 200;

/// Of what was retained when a client subscribed, all comes, however often its connection is cut or the broker killed in
/// between: SUBACK has promised it.
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
fn what_was_retained_is_read_to_its_end_across_crashes() {
    for seed in 1..=40 {
        simulated(interrupted_read(seed));
    }
}
