//! What routing leaves to be done at the end of a batch.

use std::sync::Arc;
use std::time::Duration;

use super::Session;
use super::reads::Found;
use crate::frames::Frames;
use crate::link::Dirty;
use crate::shared::Shared;
use crate::store::{Op, Ticket};

/// Retained messages looked at in a turn, before the others get theirs: a fraction of a millisecond.
const READ_STEPS: usize = 256;

/// Steps of routing in a turn, as `Subscriptions::targets` counts them: some milliseconds at most.
const ROUTE_STEPS: usize = 4_096;

/// What a delivery leaves to be done.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// When the turn began, in milliseconds on the broker's [`Clock`](crate::clock::Clock): the time of all that is
    /// done with this.
    pub(crate) now: u64,
    pub(crate) dirty: Dirty,
    pub(crate) frames: Frames,
    /// For the store, together with whatever else belongs to the same publish.
    pub(crate) ops: Vec<Op>,
    /// Queued for sessions on disk: to be released by [`Session::stored`].
    pub(crate) stored: Vec<(Arc<Session>, u64)>,
    /// Retained messages on their way to a session.
    pub(super) found: Vec<Found>,
    /// Retained messages that may still be looked at in this turn.
    pub(super) read_steps: usize,
    /// Steps of routing taken in this turn.
    pub(crate) route_steps: usize,
    /// How long the publisher is not to be read after this turn.
    pause: Option<Duration>,
}

impl Scratch {
    /// For a turn that begins at `now`.
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

    /// Ends the turn, and has the publisher wait for `wait` before the next one.
    pub(crate) fn pause(&mut self, wait: Duration) {
        self.route_steps = ROUTE_STEPS;
        self.pause = Some(wait);
    }

    /// How long the publisher is to wait, asked at the end of its turn.
    pub(crate) fn take_pause(&mut self) -> Option<Duration> {
        self.pause.take()
    }

    /// Whether so much was routed in this turn that the others are to get theirs.
    pub(crate) fn has_routed_much(&self) -> bool {
        self.route_steps >= ROUTE_STEPS
    }

    /// The next turn begins, at `now`.
    pub(crate) fn begin_turn(&mut self, now: u64) {
        self.now = now;
        self.read_steps = READ_STEPS;
        self.route_steps = 0;
        self.pause = None;
    }

    /// Hands the operations that have gathered to the store, and what waited for that to its sessions.
    pub(crate) fn settle(&mut self, shared: &Shared) {
        while !self.ops.is_empty() {
            self.settle_for(shared, None);
        }
    }

    /// [`settle`](Self::settle) once; wakes the session with the key `wake` when it is on disk.
    pub(crate) fn settle_for(&mut self, shared: &Shared, wake: Option<u64>) -> Ticket {
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
