//! Regression: a client cleared a retained message, lost its connection before the acknowledgement, and cleared it
//! again. The second acknowledgement was sent at once, because there was nothing to clear. A broker that was killed
//! then had the message again.

use super::client::Client;
use super::wire::{Publish, Version};
use super::world::World;
use super::{profile, simulated};

fn publish(world: &mut World, client: usize, clears: bool) {
    let publish = Publish::new("r/x", "").qos(1).retain();
    world.clients[client].publish_retained(publish, clears, &mut world.record);
}

/// Lets the broker handle the packets of the clients without a commit, and lets the clients read.
async fn without_commit(world: &mut World) {
    for _ in 0..3 {
        world.settle().await;
        world.work(0);
        world.work(1);
    }
}

#[test]
fn puback_of_a_repeated_clear_waits_until_the_deletion_is_on_disk() {
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
                // The client sends the publish again on a new connection.
                world.vanish(0);
                world.connect(0);
            }
            without_commit(&mut world).await;
            assert_eq!(world.record.trace.count("Puback"), 1, "nothing is on disk");
            world.exchange().await;
            assert!(world.clients.iter().all(Client::is_settled));
            // When the deletion is on disk, clearing the topic again needs no commit.
            publish(&mut world, 0, true);
            without_commit(&mut world).await;
            assert!(world.clients[0].is_settled());
        });
    }
}
