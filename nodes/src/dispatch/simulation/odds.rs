//! Probabilities of events for one seed. Each seed omits some kinds and has more of others, so that rare combinations
//! are reached ("swarm testing").

use std::time::Duration;

use rantai_client::Environment;

use crate::dispatch::Limits;

/// Action of a caller, or event of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Call,
    /// A caller sends a request again.
    Repeat,
    /// A caller sends another request with the identity of an earlier one.
    Reuse,
    Cancel,
    /// A caller stops waiting for a reply, and its call is cancelled.
    Abandon,
    /// A caller raises the credit of a stream.
    More,
    /// The send queue of the node fills up, or is written.
    Backlog,
    /// The registry state of the next object of a chain changes.
    Registry,
    /// The node ends its streams, or all of its calls.
    Drain,
    /// The node is killed.
    Kill,
}

/// Kinds of actions, with their maximum weights.
const ACTIONS: [(Action, u64); 10] = [
    (Action::Call, 60),
    (Action::Repeat, 30),
    (Action::Reuse, 8),
    (Action::Cancel, 14),
    (Action::Abandon, 8),
    (Action::More, 60),
    (Action::Backlog, 8),
    (Action::Registry, 4),
    (Action::Drain, 2),
    (Action::Kill, 3),
];

/// Result of a commit of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    /// The commit is on disk, but is reported as unknown.
    CommittedInDoubt,
    Refused,
    /// The commit is not on disk, and is reported as unknown.
    RefusedInDoubt,
}

/// Probabilities of one seed, in percent.
#[derive(Clone, Debug)]
pub(super) struct Odds {
    weights: Vec<(Action, u64)>,
    pub(super) callers: u64,
    pub(super) limits: Limits,
    /// Probability that a call's method is marked `once`.
    pub(super) once: u64,
    /// Probability that a call's result is a stream.
    pub(super) streams: u64,
    /// Probability that a message to the node is duplicated.
    pub(super) duplicates: u64,
    /// Probability that nobody receives a message whose result the node wants.
    pub(super) nobody: u64,
    /// Probability that a commit fails, or that its result is unknown.
    pub(super) fails: u64,
    /// Maximum time until a commit, in milliseconds.
    pub(super) longest_commit_ms: u64,
    /// Maximum pause between two actions, in milliseconds.
    pub(super) longest_pause_ms: u64,
    /// Maximum run time of a method, in milliseconds.
    pub(super) longest_run_ms: u64,
    /// Maximum deadline of a caller, in milliseconds.
    pub(super) longest_ttl_ms: u64,
}

impl Odds {
    pub(super) fn draw(chance: &Environment) -> Self {
        let percent = |most: u64| {
            if chance.random_below(3) == 0 { 0 } else { 1 + chance.random_below(most) }
        };
        let mut weights: Vec<_> = ACTIONS.into_iter().map(|(action, most)| (action, percent(most))).collect();
        // Without calls there is nothing to disturb.
        weights[0].1 += 10;
        Self {
            weights,
            callers: 1 + chance.random_below(4),
            limits: Limits {
                concurrent: 1 + chance.random_below(12) as usize,
                per_caller: (chance.random_below(3) == 0).then_some(2),
                result: 2_000 + chance.random_below(30_000) as usize,
                max_deadline: Duration::from_millis(500 + chance.random_below(20_000)),
                accepted_after: Duration::from_millis(chance.random_below(500)),
                ..Limits::default()
            },
            once: percent(60),
            streams: percent(60),
            duplicates: percent(30),
            nobody: percent(60),
            fails: percent(30),
            longest_commit_ms: 1 + chance.random_below(200),
            longest_pause_ms: 1 + chance.random_below(120),
            longest_run_ms: 1 + chance.random_below(2_000),
            longest_ttl_ms: 50 + chance.random_below(8_000),
        }
    }

    /// Draws the next action.
    pub(super) fn action(&self, chance: &Environment) -> Action {
        let mut number = chance.random_below(self.weights.iter().map(|(_, weight)| weight).sum());
        for (action, weight) in &self.weights {
            match number.checked_sub(*weight) {
                Some(rest) => number = rest,
                None => return *action,
            }
        }
        Action::Call
    }

    /// Draws the result of a commit.
    pub(super) fn fate(&self, chance: &Environment) -> Fate {
        if chance.random_below(100) >= self.fails {
            return Fate::Committed;
        }
        [Fate::CommittedInDoubt, Fate::Refused, Fate::RefusedInDoubt][chance.random_below(3) as usize]
    }
}
