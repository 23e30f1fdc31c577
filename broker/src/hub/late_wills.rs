//! Retained wills that are delayed because their owner's retained messages grow too fast.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::sleep;

use super::sessions::Hub;
use crate::link::flush_all;
use crate::owner::Owner;
use crate::session::{Scratch, Session, SessionState};
use crate::wills::HeldWill;

/// Number of wills published before the task yields.
const WILLS_PER_TURN: usize = 16;

/// Delayed wills in their order, by owner. Until they are published they count against the limit for wills, which
/// bounds their number.
#[derive(Debug, Default)]
pub(super) struct LateWills(Mutex<HashMap<Arc<Owner>, VecDeque<LateWill>>>);

#[derive(Debug)]
enum LateWill {
    Will(Box<HeldWill>),
    /// Will of a session that is kept. It stays in the session, and in its record on disk, until it is published. The
    /// number is the time of the disconnect: if the session's time differs by then, the session has another will, or
    /// none.
    Session(Arc<Session>, u64),
}

impl Hub {
    /// Publishes a will that was taken out of its session, or delays it.
    pub(super) fn publish_or_delay_will(
        self: &Arc<Self>,
        will: Box<HeldWill>,
        durable: bool,
        scratch: &mut Scratch,
    ) {
        match self.owner_that_waits(&will, scratch.now) {
            // The will of a durable session is published at once, as it must be in the same commit as the session's
            // record.
            Some(owner) if !durable => self.wait_with(owner, LateWill::Will(will)),
            _ => self.router.publish_will(&will, scratch),
        }
    }

    /// Returns whether the will of a session that is kept has to be delayed.
    pub(super) fn will_waits(&self, state: &SessionState, now: u64) -> bool {
        state.will.as_ref().is_some_and(|will| self.owner_that_waits(will, now).is_some())
    }

    /// Publishes the will of a kept session, whose Will Delay Interval is over, or delays it further. `since` is the
    /// time of the client's disconnect.
    pub(super) fn publish_due_will(self: &Arc<Self>, session: &Arc<Session>, since: u64) {
        let now = self.shared.clock.now_ms();
        let owner = session.state.lock().will.as_ref().and_then(|will| self.owner_that_waits(will, now));
        match owner {
            Some(owner) => self.wait_with(owner, LateWill::Session(session.clone(), since)),
            None => self.will_is_due(session, since),
        }
    }

    /// Publishes all delayed wills; called when the broker stops.
    pub(super) fn publish_late_wills(&self) {
        let waiting: Vec<_> = self.late_wills.0.lock().drain().collect();
        let mut scratch = Scratch::at(self.shared.clock.now_ms());
        for late in waiting.into_iter().flat_map(|(_, waiting)| waiting) {
            self.leave(late, &mut scratch);
        }
    }

    fn owner_that_waits(&self, will: &HeldWill, now: u64) -> Option<Arc<Owner>> {
        let owner = will.owner().filter(|_| will.message.retain && !will.message.payload.is_empty())?;
        let waits =
            self.late_wills.0.lock().contains_key(owner) || self.shared.growth.wait(owner, now).is_some();
        waits.then(|| owner.clone())
    }

    fn wait_with(self: &Arc<Self>, owner: Arc<Owner>, late: LateWill) {
        let mut waiting = self.late_wills.0.lock();
        if let Some(waiting) = waiting.get_mut(&owner) {
            return waiting.push_back(late);
        }
        waiting.insert(owner.clone(), VecDeque::from([late]));
        drop(waiting);
        if self.shared.may_log(&self.shared.log_lines.limits) {
            tracing::warn!(%owner, "its retained wills wait: its retained messages grow fast and take much");
        }
        tokio::spawn(self.clone().publish_late(owner));
    }

    async fn publish_late(self: Arc<Self>, owner: Arc<Owner>) {
        loop {
            let now = self.shared.clock.now_ms();
            if let Some(wait) = self.shared.growth.wait(&owner, now) {
                sleep(wait).await;
                continue;
            }
            let mut scratch = Scratch::at(now);
            let left = self.publish_some(&owner, &mut scratch);
            flush_all(&mut scratch.dirty);
            if !left {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Publishes wills of `owner` until the owner has to be delayed again. Returns false if none is left.
    fn publish_some(&self, owner: &Arc<Owner>, scratch: &mut Scratch) -> bool {
        for _ in 0..WILLS_PER_TURN {
            let next = {
                let mut waiting = self.late_wills.0.lock();
                let next = waiting.get_mut(owner).and_then(VecDeque::pop_front);
                if next.is_none() {
                    waiting.remove(owner);
                }
                next
            };
            let Some(late) = next else { return false };
            self.leave(late, scratch);
            if self.shared.growth.wait(owner, scratch.now).is_some() {
                break;
            }
        }
        true
    }

    fn leave(&self, late: LateWill, scratch: &mut Scratch) {
        match late {
            LateWill::Will(will) => {
                self.router.publish_will(&will, scratch);
                scratch.settle(&self.shared);
            }
            LateWill::Session(session, since) => self.will_is_due(&session, since),
        }
    }
}
