//! Regression: with a clean start, CONNACK was sent before the end of the earlier session was on disk. A broker that
//! was killed then had that session again, and took the client's next QoS 2 message for one that the session had
//! already received.

use std::time::Duration;

use tokio::time::sleep;

use super::client::Profile;
use super::link::Width;
use super::plan::DiskFault;
use super::seeds::Trace;
use super::wire::Version;
use super::world::{World, WorldSettings};
use super::{profile, simulated};
use crate::random::Seeded;

const CLIENT: usize = 0;
const KEEPER: usize = 1;

/// Returns a world with a client whose session is on disk and has received a QoS 2 message that the client has not
/// released.
async fn with_session(version: Version) -> World {
    let settings = WorldSettings { housekeeping: true, ..WorldSettings::default() };
    let profiles = [profile("client", version, &[("x", 1)]), profile("keeper", Version::V5, &[("t/#", 2)])];
    let mut world = World::with(settings, Trace::default(), Seeded::new(1), profiles);
    world.connect(CLIENT);
    world.connect(KEEPER);
    world.exchange().await;
    world.clients[CLIENT].publish("t/0", 2, None, &mut world.record);
    world.pass(0).await;
    world.cut(CLIENT);
    world.pass(0).await;
    world
}

async fn connect_anew(world: &mut World) {
    world.connect_over(CLIENT, Width::Wide, true);
    world.settle().await;
    world.work(CLIENT);
}

fn connected(world: &mut World) -> u64 {
    world.broker().hub.shared.counters.read().connected
}

#[test]
fn connack_of_a_clean_start_waits_until_the_earlier_session_is_gone_from_disk() {
    for version in [Version::V3, Version::V5] {
        simulated(async {
            let mut world = with_session(version).await;
            connect_anew(&mut world).await;
            sleep(Duration::from_secs(100)).await;
            world.work(CLIENT);
            assert!(!world.clients[CLIENT].is_ready(), "nothing was committed");
            world.exchange().await;
            assert!(world.clients[CLIENT].is_ready() && !world.clients[CLIENT].resumed);
            // A broker that is killed now must not know the packet id of the earlier session.
            world.kill();
            world.connect(CLIENT);
            world.connect(KEEPER);
            world.exchange().await;
            let before = world.record.times["t/0"].len();
            world.clients[CLIENT].publish("t/0", 2, None, &mut world.record);
            world.exchange().await;
            assert_eq!(world.record.times["t/0"].len(), before + 1);
        });
    }
}

#[test]
fn connack_does_not_wait_where_no_session_is_on_disk() {
    simulated(async {
        let passing = Profile { session_expiry: 0, ..profile("client", Version::V5, &[]) };
        let mut world = World::new(1, [passing]);
        for _ in 0..2 {
            // The second clean start ends the session of the first one, which was only in memory.
            connect_anew(&mut world).await;
            assert!(world.clients[CLIENT].is_ready());
        }
        // CONNACK waits neither for the record of a new persistent session nor for commits of other clients.
        world.clients[CLIENT].profile.session_expiry = 3_600;
        connect_anew(&mut world).await;
        assert!(world.clients[CLIENT].is_ready());
    });
}

/// The last session is only in memory, so it does not have to wait for the disk itself.
#[test]
fn connack_waits_for_the_end_of_a_session_before_the_last_one() {
    simulated(async {
        let mut world = with_session(Version::V5).await;
        world.clients[CLIENT].profile.session_expiry = 0;
        for _ in 0..3 {
            connect_anew(&mut world).await;
            // Longer than a connection waits for the earlier one of its client.
            sleep(Duration::from_secs(3)).await;
            world.work(CLIENT);
            assert!(!world.clients[CLIENT].is_ready());
        }
        world.exchange().await;
        assert!(world.clients[CLIENT].is_ready());
        assert_eq!(connected(&mut world), 2, "of the client only the last connection is left");
    });
}

#[test]
fn connack_waits_for_the_end_of_a_session_that_has_expired() {
    simulated(async {
        let mut world = with_session(Version::V5).await;
        sleep(Duration::from_secs(3_601)).await;
        world.connect(CLIENT);
        world.settle().await;
        world.work(CLIENT);
        assert!(!world.clients[CLIENT].is_ready());
        world.exchange().await;
        assert!(world.clients[CLIENT].is_ready() && !world.clients[CLIENT].resumed);
    });
}

#[test]
fn client_that_leaves_while_its_connack_waits_is_released() {
    simulated(async {
        let mut world = with_session(Version::V5).await;
        connect_anew(&mut world).await;
        assert_eq!(connected(&mut world), 2);
        world.cut(CLIENT);
        // No commit happens during this time.
        sleep(Duration::from_secs(3)).await;
        assert_eq!(connected(&mut world), 1);
        world.connect(CLIENT);
        world.exchange().await;
        assert!(world.clients[CLIENT].is_ready());
    });
}

#[test]
fn clean_start_is_refused_if_the_disk_fails_before_the_earlier_session_is_gone() {
    for version in [Version::V3, Version::V5] {
        simulated(async {
            let mut world = with_session(version).await;
            connect_anew(&mut world).await;
            world.disk_fails(DiskFault::Stalled);
            sleep(Duration::from_secs(20)).await;
            world.work(CLIENT);
            assert!(!world.clients[CLIENT].is_ready());
            assert_eq!(world.record.trace.count("Connack { session_present: false, code: "), 3);
            let code = if version == Version::V5 { "code: 151" } else { "code: 3" };
            assert_eq!(world.record.trace.count(code), 1, "{:#?}", world.record.trace.lines());
            assert_eq!(connected(&mut world), 1);
            world.disk_works();
            world.connect(CLIENT);
            world.exchange().await;
            assert!(world.clients[CLIENT].is_ready());
        });
    }
}

/// Packets that a client sends before CONNACK must not be handled before the client is admitted.
#[test]
fn packets_behind_a_clean_start_are_handled_after_connack() {
    simulated(async {
        let mut world = with_session(Version::V5).await;
        let before = world.record.times.get("t/1").map_or(0, Vec::len);
        connect_anew(&mut world).await;
        world.clients[CLIENT].publish("t/1", 0, None, &mut world.record);
        world.settle().await;
        world.work(KEEPER);
        assert_eq!(world.record.times.get("t/1").map_or(0, Vec::len), before);
        world.exchange().await;
        assert_eq!(world.record.times["t/1"].len(), before + 1);
    });
}
