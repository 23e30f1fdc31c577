//! Retained messages that are cleared again, after a connection that was lost before the answer: the second answer was sent at
//! once, as there was nothing to clear. A broker that was killed then had the message again.

use super::client::Client;
use super::wire::{Publish, Version};
use super::world::World;
use super::{profile, simulated};

fn publish(world: &mut World, client: usize, clears: bool) {
    let publish = Publish::new("r/x", "").qos(1).retain();
    world.clients[client].publish_retained(publish, clears, &mut world.record);
}

/// Lets the broker handle what the clients have sent, without a commit, and the clients read.
async fn without_commit(world: &mut World) {
    for _ in 0..3 {
        world.settle().await;
        world.work(0);
        world.work(1);
    }
}

#[test]
fn puback_of_what_is_cleared_twice_waits_until_it_is_gone_from_disk() {
    for other in [false, true] {
        simulated(async {
            let mut world = World::new(1, ["client", "other"].map(|name| profile(name, Version::V5, &[])));
            world.connect(0);
            world.connect(1);
            world.exchange().await;
            publish(&mut world, 0, false);
            world.exchange().await;
            assert_eq!(world.record.trace.count("Puback"), 1);
            publish(&mut world, 0, true);
            world.settle().await;
            if other {
                publish(&mut world, 1, true);
            } else {
                // The client publishes it again.
                world.vanish(0);
                world.connect(0);
            }
            without_commit(&mut world).await;
            assert_eq!(world.record.trace.count("Puback"), 1, "nothing is on disk");
            world.exchange().await;
            assert!(world.clients.iter().all(Client::is_settled));
            // What is gone from disk is cleared without a commit.
            publish(&mut world, 0, true);
            without_commit(&mut world).await;
            assert!(world.clients[0].is_settled());
        });
    }
}
