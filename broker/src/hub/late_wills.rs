//! Retained wills that wait because those of their owner have made its retained messages grow fast.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::sleep;

use super::sessions::Hub;
use crate::link::flush_all;
use crate::owner::Owner;
use crate::session::{Scratch, Session, State};
use crate::wills::HeldWill;

/// Wills published before the others get their turn.
const AT_ONCE: usize = 16;

/// The wills that wait, in their order. They count among all wills meanwhile, so that they bound themselves.
#[derive(Debug, Default)]
pub(super) struct LateWills(Mutex<HashMap<Arc<Owner>, VecDeque<Late>>>);

#[derive(Debug)]
enum Late {
    Will(Box<HeldWill>),
    /// The will of a session that is kept: it has it, in its record on disk too, until it is published. With the time since
    /// which its client is away: once that has changed, the session has another will, or none.
    Session(Arc<Session>, u64),
}

impl Hub {
    /// Publishes the will of a session that is not kept, or has it wait.
    pub(super) fn leave_will(self: &Arc<Self>, will: Box<HeldWill>, durable: bool, scratch: &mut Scratch) {
        match self.owner_that_waits(&will, scratch.now) {
            // What is on disk of its session goes in the same commit.
            Some(owner) if !durable => self.wait_with(owner, Late::Will(will)),
            _ => self.router.publish_will(&will, scratch),
        }
    }

    /// Whether the will of a session that is kept has to wait.
    pub(super) fn will_waits(&self, state: &State, now: u64) -> bool {
        state.will.as_ref().is_some_and(|will| self.owner_that_waits(will, now).is_some())
    }

    /// The delay is over of the will of a kept session whose client is away `since` then: publishes it, or has it wait.
    pub(super) fn leave_due_will(self: &Arc<Self>, session: &Arc<Session>, since: u64) {
        let now = self.shared.clock.now_ms();
        let owner = session.state.lock().will.as_ref().and_then(|will| self.owner_that_waits(will, now));
        match owner {
            Some(owner) => self.wait_with(owner, Late::Session(session.clone(), since)),
            None => self.will_is_due(session, since),
        }
    }

    /// Publishes all wills that wait: the broker stops.
    pub(super) fn leave_late_wills(&self) {
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

    fn wait_with(self: &Arc<Self>, owner: Arc<Owner>, late: Late) {
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

    /// Publishes wills of `owner` until it has to wait again; false where none are left.
    fn publish_some(&self, owner: &Arc<Owner>, scratch: &mut Scratch) -> bool {
        for _ in 0..AT_ONCE {
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

    fn leave(&self, late: Late, scratch: &mut Scratch) {
        match late {
            Late::Will(will) => {
                self.router.publish_will(&will, scratch);
                scratch.settle(&self.shared);
            }
            Late::Session(session, since) => self.will_is_due(&session, since),
        }
    }
}
