//! Buffers of a batch.

use std::cell::Cell;

use bytes::BytesMut;

use crate::router::Targets;
use crate::session::Scratch;

/// Buffers for handling a batch. Each thread keeps them for its next batch.
pub(super) struct BatchBuffers {
    pub(super) input: BytesMut,
    pub(super) scratch: Scratch,
    pub(super) targets: Targets,
}

thread_local! {
    static WORK: Cell<Option<Box<BatchBuffers>>> = const { Cell::new(None) };
}

impl BatchBuffers {
    /// Takes the thread's buffers for a batch that begins at `now`.
    pub(super) fn take(now: u64) -> Box<Self> {
        let mut work = WORK.take().unwrap_or_else(|| {
            Box::new(Self { input: BytesMut::new(), scratch: Scratch::at(now), targets: Targets::new() })
        });
        work.scratch.begin_turn(now);
        work
    }

    pub(super) fn give_back(mut self: Box<Self>) {
        self.input.clear();
        WORK.set(Some(self));
    }
}
