//! Probabilities of events for one seed. Each seed omits some kinds and has more of others, so that rare combinations
//! are reached ("swarm testing").

use rantai_client::Environment;

/// Disturbance of a node, of the broker, or of retained messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disturbance {
    /// A node claims the name, unless it is taken.
    Claim,
    /// A node claims the name, and asks a holder to give it up.
    Replace,
    /// A node withdraws its claim.
    Withdraw,
    /// A node ends in order.
    Drain,
    /// A link breaks.
    Cut,
    /// A node does not reach the broker for a while.
    Partition,
    /// A node is killed, and its broker publishes its will.
    Kill,
    /// A node is killed, and its broker has lost its will.
    Vanish,
    /// A node is started again with its id and another epoch.
    Start,
    /// Another node is started with the id of one that runs.
    Double,
    /// The broker is killed, and starts again.
    Broker,
    /// Another client writes a node's entry or state.
    Overwrite,
}

/// Kinds of disturbances, with their maximum weights.
const DISTURBANCES: [(Disturbance, u64); 12] = [
    (Disturbance::Claim, 40),
    (Disturbance::Replace, 15),
    (Disturbance::Withdraw, 10),
    (Disturbance::Drain, 5),
    (Disturbance::Cut, 30),
    (Disturbance::Partition, 12),
    (Disturbance::Kill, 8),
    (Disturbance::Vanish, 5),
    (Disturbance::Start, 20),
    (Disturbance::Double, 4),
    (Disturbance::Broker, 4),
    (Disturbance::Overwrite, 12),
];

/// Behavior of links. Probabilities are in percent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    /// Maximum delay of a message in one direction, in milliseconds: retained messages must arrive within 100 ms.
    pub(super) longest_delay_ms: u64,
    /// Maximum time until one side notices that a link is broken, in milliseconds.
    pub(super) longest_silence_ms: u64,
    /// Probability that a message is duplicated.
    pub(super) duplicates: u64,
    /// Probability that a node is told that another one with its id took its connection. A broker does that always, or
    /// never.
    pub(super) says_taken_over: u64,
}

impl Default for Links {
    fn default() -> Self {
        Self { longest_delay_ms: 80, longest_silence_ms: 3_000, duplicates: 0, says_taken_over: 0 }
    }
}

/// Probabilities of one seed, in percent.
#[derive(Clone, Debug)]
pub(super) struct Odds {
    weights: Vec<(Disturbance, u64)>,
    pub(super) links: Links,
    /// Number of client ids.
    pub(super) ids: usize,
    /// Whether nodes share the name.
    pub(super) are_replicas: bool,
    /// Maximum pause between two disturbances, in milliseconds.
    pub(super) longest_pause_ms: u64,
    /// Maximum delay before a node connects again, in milliseconds.
    pub(super) longest_backoff_ms: u64,
}

impl Odds {
    pub(super) fn draw(chance: &Environment) -> Self {
        let percent = |most: u64| {
            if chance.random_below(3) == 0 { 0 } else { 1 + chance.random_below(most) }
        };
        let mut weights: Vec<_> =
            DISTURBANCES.into_iter().map(|(disturbance, most)| (disturbance, percent(most))).collect();
        // Without claims there is nothing to disturb.
        weights[0].1 += 10;
        Self {
            weights,
            links: Links {
                longest_delay_ms: 1 + chance.random_below(90),
                longest_silence_ms: 100 + chance.random_below(8_000),
                duplicates: percent(30),
                says_taken_over: 100 * chance.random_below(2),
            },
            ids: 2 + chance.random_below(3) as usize,
            are_replicas: chance.random_below(6) == 0,
            longest_pause_ms: 200 + chance.random_below(6_000),
            longest_backoff_ms: 1_000 + chance.random_below(9_000),
        }
    }

    /// Draws the next disturbance.
    pub(super) fn disturbance(&self, chance: &Environment) -> Disturbance {
        let mut number = chance.random_below(self.weights.iter().map(|(_, weight)| weight).sum());
        for (disturbance, weight) in &self.weights {
            match number.checked_sub(*weight) {
                Some(rest) => number = rest,
                None => return *disturbance,
            }
        }
        Disturbance::Claim
    }
}
