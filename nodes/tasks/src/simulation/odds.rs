//! Probabilities of events for one seed. Each seed omits some kinds and has more of others, so that rare combinations
//! are reached ("swarm testing").

use std::collections::BTreeMap;
use std::time::Duration;

use rantai_client::Environment;

use super::fake::{ONCE, PLAIN};
use crate::limits::Limits;

/// Action of a user, or disturbance of the ledger or the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disturbance {
    Submit,
    SubmitAll,
    SubmitKey,
    Cancel,
    Retry,
    Read,
    List,
    Wait,
    Schedule,
    Unschedule,
    /// The ledger removes tasks that ended long ago.
    Forget,
    /// A node ends or is cut off, and comes back later.
    NodeGone,
    /// The ledger is killed.
    Kill,
    /// The ledger is killed during a later write.
    KillAtWrite,
    /// The clock jumps ahead, as after a suspended machine.
    Jump,
    /// The clock is set back.
    SetBack,
}

/// Kinds of disturbances, with their maximum weights.
const DISTURBANCES: [(Disturbance, u64); 16] = [
    (Disturbance::Submit, 60),
    (Disturbance::SubmitAll, 14),
    (Disturbance::SubmitKey, 12),
    (Disturbance::Cancel, 16),
    (Disturbance::Retry, 12),
    (Disturbance::Read, 20),
    (Disturbance::List, 2),
    (Disturbance::Wait, 8),
    (Disturbance::Schedule, 6),
    (Disturbance::Unschedule, 3),
    (Disturbance::Forget, 4),
    (Disturbance::NodeGone, 10),
    (Disturbance::Kill, 2),
    (Disturbance::KillAtWrite, 6),
    (Disturbance::Jump, 2),
    (Disturbance::SetBack, 2),
];

/// Probabilities of one seed, in percent.
#[derive(Clone, Debug)]
pub(super) struct Odds {
    weights: Vec<(Disturbance, u64)>,
    /// Probability that a node answers a call busy.
    pub(super) busy: u64,
    /// Probability that a method fails.
    pub(super) fails: u64,
    /// Probability that an answer is lost.
    pub(super) loses_answer: u64,
    /// Probability that an answer arrives twice.
    pub(super) repeats_answer: u64,
    /// Probability that the answer arrives at the same moment as the cancellation of a running task.
    pub(super) answer_meets_cancel: u64,
    /// Probability that a node that goes is killed, and not cut off.
    pub(super) node_is_killed: u64,
    /// Probability that a task's method is marked `once`.
    pub(super) once: u64,
    /// Probability that a task's result is secret.
    pub(super) secret: u64,
    /// Maximum run time of a method, in milliseconds.
    pub(super) longest_run_ms: u64,
    /// Maximum pause between two disturbances, in milliseconds.
    pub(super) longest_pause_ms: u64,
}

impl Odds {
    pub(super) fn draw(chance: &Environment) -> Self {
        let percent = |most: u64| {
            if chance.random_below(3) == 0 { 0 } else { 1 + chance.random_below(most) }
        };
        let mut weights: Vec<_> =
            DISTURBANCES.into_iter().map(|(disturbance, most)| (disturbance, percent(most))).collect();
        // Without tasks there is nothing to disturb.
        weights[0].1 += 15;
        Self {
            weights,
            busy: percent(25),
            fails: percent(60),
            loses_answer: percent(30),
            repeats_answer: percent(40),
            answer_meets_cancel: percent(100),
            node_is_killed: percent(100),
            once: percent(80),
            secret: percent(20),
            longest_run_ms: 1_000 + chance.random_below(40_000),
            longest_pause_ms: 2_000 + chance.random_below(8_000),
        }
    }

    /// Returns probabilities without disturbances; answers may be lost, and calls may fail or be answered busy.
    pub(super) fn quiet() -> Self {
        Self {
            weights: Vec::new(),
            busy: 12,
            fails: 25,
            loses_answer: 12,
            repeats_answer: 0,
            answer_meets_cancel: 0,
            node_is_killed: 50,
            once: 50,
            secret: 0,
            longest_run_ms: 20_000,
            longest_pause_ms: 0,
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
        Disturbance::Submit
    }
}

/// Draws the limits of the ledger of one seed.
pub(super) fn draw_limits(chance: &Environment) -> Limits {
    let mut limits = Limits {
        at_once: 3 + chance.random_below(8) as usize,
        per_object: 1 + chance.random_below(5) as usize,
        objects: BTreeMap::new(),
        ..Limits::default()
    };
    if chance.random_below(3) == 0 {
        let object = if chance.random_below(2) == 0 { PLAIN } else { ONCE };
        limits.objects.insert(object.to_owned(), 1);
    }
    if chance.random_below(3) == 0 {
        limits.tasks = 20 + chance.random_below(100);
    }
    if chance.random_below(4) == 0 {
        limits.bytes = 20_000 + chance.random_below(80_000);
    }
    if chance.random_below(3) == 0 {
        limits.kept = Duration::from_secs(60 + chance.random_below(900));
    }
    if chance.random_below(3) == 0 {
        limits.schedules = 3;
    }
    limits
}
