//! Work that deliveries leave for the end of a batch.

use std::sync::Arc;
use std::time::Duration;

use super::Session;
use super::reads::FoundMessage;
use crate::frames::Frames;
use crate::link::Dirty;
use crate::shared::BrokerState;
use crate::store::{Op, Ticket};

/// Maximum number of retained messages visited in a turn: a fraction of a millisecond.
const READ_STEPS: usize = 256;

/// Maximum number of routing steps in a turn, as counted by `Subscriptions::targets`: a fraction of a millisecond.
const ROUTE_STEPS: usize = 2_048;

/// Deferred work of deliveries, and the budgets of a turn.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Beginning of the turn, in milliseconds on the broker's [`Clock`](crate::clock::Clock); the time of everything
    /// in the turn.
    pub(crate) now: u64,
    pub(crate) dirty: Dirty,
    pub(crate) frames: Frames,
    /// Operations for the store, committed together with the other operations of the same publish.
    pub(crate) ops: Vec<Op>,
    /// Entries queued for sessions on disk, to be released by [`Session::stored`].
    pub(crate) stored: Vec<(Arc<Session>, u64)>,
    /// Retained messages that are being delivered to a session.
    pub(super) found: Vec<FoundMessage>,
    /// Number of retained messages that may still be visited in this turn.
    pub(super) read_steps: usize,
    /// Number of routing steps taken in this turn.
    pub(crate) route_steps: usize,
    /// Time for which the publisher's socket is not read after this turn.
    pause: Option<Duration>,
}

impl Scratch {
    /// Creates the state of a turn that begins at `now`.
    pub(crate) fn at(now: u64) -> Self {
        Self {
            now,
            dirty: Dirty::default(),
            frames: Frames::default(),
            ops: Vec::new(),
            stored: Vec::new(),
            found: Vec::new(),
            read_steps: READ_STEPS,
            route_steps: 0,
            pause: None,
        }
    }

    /// Delays the publisher's next turn by `wait`.
    pub(crate) fn pause(&mut self, wait: Duration) {
        self.route_steps = ROUTE_STEPS;
        self.pause = Some(wait);
    }

    /// Returns the delay of the publisher's next turn, and resets it; called at the end of a turn.
    pub(crate) fn take_pause(&mut self) -> Option<Duration> {
        self.pause.take()
    }

    /// Returns whether the routing budget of this turn is used up, so that the task should yield.
    pub(crate) fn has_routed_much(&self) -> bool {
        self.route_steps >= ROUTE_STEPS
    }

    /// Begins the next turn, at `now`.
    pub(crate) fn begin_turn(&mut self, now: u64) {
        self.now = now;
        self.read_steps = READ_STEPS;
        self.route_steps = 0;
        self.pause = None;
    }

    /// Passes the collected operations to the store, and releases the entries that waited for that. Returns the ticket
    /// with which all are on disk; 0 if there were none.
    pub(crate) fn settle(&mut self, shared: &BrokerState) -> Ticket {
        let mut ticket = 0;
        while !self.ops.is_empty() {
            ticket = self.settle_for(shared, None);
        }
        ticket
    }

    /// Does one round of [`settle`](Self::settle), and returns its ticket. The session with the key `wake` is woken
    /// when the ticket is on disk.
    pub(crate) fn settle_for(&mut self, shared: &BrokerState, wake: Option<u64>) -> Ticket {
        if self.ops.is_empty() {
            return 0;
        }
        let ticket = shared.put(self.ops.drain(..), wake);
        for (session, seq) in std::mem::take(&mut self.stored) {
            session.stored(seq, ticket, self);
        }
        ticket
    }
}
