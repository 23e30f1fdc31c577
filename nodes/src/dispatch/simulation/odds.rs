//! How likely each kind of event is in the run of one seed. Each seed leaves some kinds out and has more of others, so
//! that rare combinations are reached ("swarm testing").

use std::time::Duration;

use rantai_client::Environment;

use crate::dispatch::Limits;

/// What a caller does, or happens to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Call,
    /// Sends a request again.
    Repeat,
    /// Sends another request by the identity of an earlier one.
    Reuse,
    Cancel,
    /// Cancels a call whose reply nobody waits for any more.
    Abandon,
    /// Takes more of a stream.
    More,
    /// The send queue of the node fills up, or is written.
    Backlog,
    /// The registry says something else of the next object of a chain.
    Registry,
    /// The node ends its streams, or all of its calls.
    Drain,
    /// The node is killed.
    Kill,
}

/// The kinds, with their greatest weights.
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

/// What comes of a commit of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    /// It is on disk, and its writers are told that this is not known.
    CommittedInDoubt,
    Refused,
    /// It is not on disk, and its writers are told that this is not known.
    RefusedInDoubt,
}

/// The odds of one seed. Chances are in percent.
#[derive(Clone, Debug)]
pub(super) struct Odds {
    weights: Vec<(Action, u64)>,
    pub(super) callers: u64,
    pub(super) limits: Limits,
    /// Of a call: that its method is marked `once`.
    pub(super) once: u64,
    /// Of a call: that its result is a stream.
    pub(super) streams: u64,
    /// Of a message to the node: that it comes twice.
    pub(super) duplicates: u64,
    /// Of a message whose end the node wants to know: that nobody got it.
    pub(super) nobody: u64,
    /// Of a commit: that it fails, or that nobody knows what came of it.
    pub(super) fails: u64,
    /// Longest time until a commit, in milliseconds.
    pub(super) longest_commit_ms: u64,
    /// Longest pause between two actions, in milliseconds.
    pub(super) longest_pause_ms: u64,
    /// Longest time that a method takes, in milliseconds.
    pub(super) longest_run_ms: u64,
    /// Longest time of a caller, in milliseconds.
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

    /// The next action.
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

    /// What comes of a commit.
    pub(super) fn fate(&self, chance: &Environment) -> Fate {
        if chance.random_below(100) >= self.fails {
            return Fate::Committed;
        }
        [Fate::CommittedInDoubt, Fate::Refused, Fate::RefusedInDoubt][chance.random_below(3) as usize]
    }
}
