//! Choices of a seed for a whole run. In each run some kinds of events are frequent and others never happen, so that
//! rare combinations of them are reached.

use std::time::Duration;

use super::client::{Filter, Profile};
use super::profile;
use super::wire::{Property, Version, Will};
use crate::config::{Limits, QueueDrops, QueueFull};
use crate::random::Seeded;

/// Event of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Publish,
    PublishRetained,
    Subscribe,
    Unsubscribe,
    /// A link breaks, and bytes in transit are lost in both directions.
    Cut,
    /// A client sends DISCONNECT and closes its connection at once.
    Disconnect,
    /// A client sends DISCONNECT and waits for the broker to close the connection.
    Leave,
    /// A client disappears, and its connection stays open.
    Vanish,
    /// Half of the clients disappear.
    Partition,
    /// A connection that stayed open is closed.
    Close,
    /// Clients connect, including connected ones, which then take over their own sessions.
    Connect,
    /// A client stops reading, or starts again.
    Slow,
    /// A client stops acknowledging, or starts again.
    Withhold,
    Pass,
    /// The disk fails, or works again.
    Disk,
    Crash,
}

/// Default weights of the events.
const DEFAULT_WEIGHTS: [(Event, u64); 16] = [
    (Event::Publish, 60),
    (Event::PublishRetained, 8),
    (Event::Subscribe, 4),
    (Event::Unsubscribe, 3),
    (Event::Cut, 4),
    (Event::Disconnect, 1),
    (Event::Leave, 1),
    (Event::Vanish, 1),
    (Event::Partition, 1),
    (Event::Close, 1),
    (Event::Connect, 18),
    (Event::Slow, 2),
    (Event::Withhold, 3),
    (Event::Pass, 4),
    (Event::Disk, 2),
    (Event::Crash, 2),
];

/// Fault of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskFault {
    /// The disk has no space beyond the space in use.
    Full,
    /// A few more writes succeed, then all fail.
    Failing,
    /// No write completes.
    Stalled,
    /// The free space is below the reserve.
    Low,
}

/// Choices of a seed.
pub(super) struct Plan {
    pub(super) limits: Limits,
    weights: Vec<(Event, u64)>,
    /// Weights of QoS 0, 1 and 2.
    qos: [u64; 3],
    /// Percentages: how often a step commits, a commit contains only some puts, a client reads in a step, its link is
    /// narrow, a message has an expiry interval, a client connects with a clean start.
    pub(super) commits: u64,
    pub(super) partial: u64,
    pub(super) reads: u64,
    pub(super) slices: u64,
    pub(super) expires: u64,
    pub(super) cleans: u64,
    /// Maximum time that passes in one step, in milliseconds.
    pub(super) pass_ms: u64,
    pub(super) faults: Vec<DiskFault>,
    pub(super) profiles: Vec<Profile>,
}

/// Filters from which the client that subscribes and unsubscribes chooses.
pub(super) const CHANGING: [Filter; 6] =
    [("t/0", 1), ("t/+", 2), ("t/1/#", 0), ("+/1", 2), ("r/+", 1), ("#", 1)];

fn choose<T: Copy>(random: &mut Seeded, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

impl Plan {
    pub(super) fn new(random: &mut Seeded) -> Self {
        let limits = limits(random);
        let weights = DEFAULT_WEIGHTS.map(|(event, usual)| {
            let factor = if matches!(event, Event::Publish | Event::Connect) {
                choose(random, &[1, 2, 4])
            } else {
                choose(random, &[0, 1, 2, 4])
            };
            (event, usual * factor)
        });
        let faults = [DiskFault::Full, DiskFault::Failing, DiskFault::Stalled, DiskFault::Low];
        let mut faults: Vec<_> = faults.into_iter().filter(|_| random.below(2) == 0).collect();
        if faults.is_empty() {
            faults.push(DiskFault::Failing);
        }
        Self {
            weights: weights.into_iter().filter(|(_, weight)| *weight > 0).collect(),
            qos: choose(random, &[[1, 1, 1], [1, 1, 1], [0, 0, 1], [0, 1, 0], [0, 1, 4], [4, 1, 1]]),
            commits: choose(random, &[5, 20, 40, 90]),
            partial: choose(random, &[0, 30, 80]),
            reads: choose(random, &[30, 70, 95]),
            slices: choose(random, &[0, 0, 10, 50]),
            expires: choose(random, &[0, 10, 40]),
            cleans: choose(random, &[0, 5, 25]),
            pass_ms: choose(random, &[100, 1_500, 6_000]),
            faults,
            profiles: profiles(random, &limits),
            limits,
        }
    }

    pub(super) fn event(&self, random: &mut Seeded) -> Event {
        let weights = self.weights.iter().map(|(_, weight)| *weight);
        self.weights[weighted(weights, random)].0
    }

    pub(super) fn qos(&self, random: &mut Seeded) -> u8 {
        weighted(self.qos.into_iter(), random) as u8
    }

    /// Returns whether the broker may leave read packets unhandled for a while.
    pub(super) fn may_wait(&self) -> bool {
        self.may_drop() || self.limits.answer_bytes < 1_000
    }

    /// Returns whether queues are so small that messages may be dropped.
    pub(super) fn may_drop(&self) -> bool {
        self.limits.queue_messages < 1_000 || self.limits.absent_messages < 1_000
    }
}

/// Returns a random index according to the weights.
fn weighted(weights: impl Iterator<Item = u64> + Clone, random: &mut Seeded) -> usize {
    let mut at = random.below(weights.clone().sum());
    for (index, weight) in weights.enumerate() {
        if at < weight {
            return index;
        }
        at -= weight;
    }
    unreachable!("below the sum")
}

fn limits(random: &mut Seeded) -> Limits {
    let limits = Limits {
        in_flight: choose(random, &[1, 2, 4, 32]),
        outbox_bytes: choose(random, &[64, 256, 64 << 10]),
        disk_wait: Duration::from_secs(choose(random, &[1, 10])),
        // A fixed value instead of the memory of the machine.
        memory_bytes: 1 << 40,
        ..Limits::default()
    };
    let limits = if random.below(3) == 0 {
        Limits {
            queue_messages: choose(random, &[4, 12, 40]),
            queue_full: choose(random, &[QueueFull::Drop, QueueFull::Disconnect, QueueFull::Refuse]),
            queue_drops: choose(random, &[QueueDrops::Newest, QueueDrops::Oldest]),
            publish_wait: Duration::from_millis(choose(random, &[0, 100, 1_000])),
            slow_reader: Duration::from_secs(choose(random, &[2, 30])),
            ..limits
        }
    } else {
        limits
    };
    let limits = if random.below(6) == 0 { Limits { absent_messages: 60, ..limits } } else { limits };
    if random.below(4) == 0 { Limits { answer_bytes: 64, ..limits } } else { limits }
}

fn profiles(random: &mut Seeded, limits: &Limits) -> Vec<Profile> {
    let persistent = |name, filters| profile(name, Version::V5, filters);
    let mut profiles = vec![
        persistent("all", &[("t/#", 2)]),
        profile("old", Version::V3, &[("t/1/#", 2)]),
        persistent("least", &[("t/+", 1)]),
        persistent("heir", &[("w/#", 2)]),
        persistent("changing", &[("t/1", 1)]),
        persistent("member1", &[("$share/g/t/#", 2)]),
        persistent("member2", &[("$share/g/t/#", 2)]),
        persistent("member3", &[("$share/g/t/#", 2)]),
        Profile { session_expiry: 0, ..persistent("passing", &[("t/1", 2), ("r/+", 1)]) },
        Profile { session_expiry: 2, ..persistent("brief", &[("t/#", 1)]) },
    ];
    let (packet_ids, keep_alive) = (choose(random, &[3, 20, u16::MAX]), choose(random, &[0, 0, 2]));
    for profile in &mut profiles {
        let is_old = profile.session_expiry > 100 && random.below(5) == 0;
        if limits.queue_full == QueueFull::Refuse {
            // In 3.1.1 each refusal ends the connection: two clients with full queues would disconnect each other
            // forever.
            profile.version = Version::V5;
        } else if is_old {
            profile.version = Version::V3;
        }
        let is_new = profile.version == Version::V5;
        profile.packet_ids = packet_ids;
        profile.keep_alive = keep_alive;
        profile.window =
            limits.in_flight.min(if is_new { choose(random, &[1, 3, u16::MAX]) } else { u16::MAX });
        if profile.name != "heir" && random.below(2) == 0 {
            let mut will = Will::new(&format!("w/{}", profile.name), "").qos(choose(random, &[0, 1, 2, 2]));
            let delay = choose(random, &[0, 1, 4]);
            if is_new && delay > 0 {
                will = will.property(Property::WillDelay(delay));
            }
            profile.will = Some(will);
        }
    }
    profiles
}
