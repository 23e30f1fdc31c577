//! Acknowledgements that wait for the disk.

use super::wire::Version;
use super::world::World;
use super::{profile, simulated};

/// Number of filters in one packet, whose SUBACK has a byte for each.
const FILTERS: usize = 10_000;
const PACKETS: usize = 60;

/// Returns a world whose only client has sent packets with long acknowledgements, none of which is on disk.
async fn with_greedy_client() -> World {
    let mut world = World::new(1, [profile("greedy", Version::V5, &[])]);
    world.connect(0);
    world.exchange().await;
    for _ in 0..PACKETS {
        world.clients[0].subscribe(&vec![("a", 0); FILTERS], &mut world.record);
    }
    world
}

/// Once, four thousand of them could wait, of a hundred kilobytes each.
#[test]
fn a_client_is_not_read_while_long_acknowledgements_wait_for_the_disk() {
    simulated(async {
        let mut world = with_greedy_client().await;
        let mut quiet = 0;
        while quiet < 3 {
            world.settle().await;
            quiet = if world.work(0) { 0 } else { quiet + 1 };
        }
        let hub = world.broker().hub.clone();
        let limit = hub.shared.limits().answer_bytes;
        let session = hub.sessions.lock().by_client.get("greedy").cloned().expect("it is connected");
        let (count, bytes) = session.gated();
        assert!(bytes > limit && bytes < limit + 2 * FILTERS, "{bytes} bytes in {count} answers");
        world.exchange().await;
        assert_eq!(session.gated(), (0, 0));
        assert_eq!(world.record.trace.count("Suback"), PACKETS);
    });
}

/// Once, the connection of such a client was kept until the disk had caught up.
#[test]
fn the_connection_of_a_client_that_leaves_is_released_while_the_disk_is_behind() {
    simulated(async {
        let mut world = with_greedy_client().await;
        world.settle().await;
        let hub = world.broker().hub.clone();
        assert_eq!(hub.shared.counters.read().connected, 1);
        world.cut(0);
        // No commit happens during this time.
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        assert_eq!(hub.shared.counters.read().connected, 0);
    });
}
