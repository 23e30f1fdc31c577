//! Fair queues: callers take turns, so that many queued items of one caller do not delay those of others.
//!
//! The caller with the fewest running items is next, and among equals the one whose last turn is the longest ago. A new
//! caller queues behind those that already wait, so a client gains nothing from using many names. Items of one caller are
//! ordered among themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::task::Task;

/// Caller, identified by a hash of its name. Tasks without an owner share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallerId(u64);

impl From<&Task> for CallerId {
    fn from(task: &Task) -> Self {
        let Some(owner) = &task.owner else { return Self::default() };
        let mut hasher = DefaultHasher::new();
        owner.caller.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Queues of callers that take turns.
#[derive(Debug)]
pub(super) struct Turns<T> {
    callers: BTreeMap<CallerId, CallerQueue<T>>,
    /// Callers with queued items, by the number of their running items and the number of their turn.
    order: BTreeSet<(usize, u64, CallerId)>,
    turn: u64,
}

#[derive(Debug)]
struct CallerQueue<T> {
    queued: BTreeSet<T>,
    running: usize,
    turn: u64,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { callers: BTreeMap::new(), order: BTreeSet::new(), turn: 0 }
    }
}

impl<T: Ord> Turns<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn queue(&mut self, caller: CallerId, item: T) {
        self.change(caller, |line, turn| {
            if line.queued.is_empty() {
                line.turn = turn;
            }
            line.queued.insert(item);
        });
    }

    /// Counts an item of the caller as running.
    pub(super) fn begun(&mut self, caller: CallerId) {
        self.change(caller, |line, _| line.running += 1);
    }

    /// Counts an item of the caller as ended.
    pub(super) fn ended(&mut self, caller: CallerId) {
        self.change(caller, |line, _| line.running = line.running.saturating_sub(1));
    }

    /// Removes and returns the first item of the caller whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (.., caller) = *self.order.first()?;
        let mut item = None;
        self.change(caller, |line, turn| {
            item = line.queued.pop_first();
            line.turn = turn;
        });
        item
    }

    /// Changes the queue of a caller; `change` receives the number of the next turn.
    fn change(&mut self, caller: CallerId, change: impl FnOnce(&mut CallerQueue<T>, u64)) {
        self.turn += 1;
        let line = self.callers.entry(caller).or_insert(CallerQueue {
            queued: BTreeSet::new(),
            running: 0,
            turn: 0,
        });
        let before = (line.running, line.turn, caller);
        let was_queued = !line.queued.is_empty();
        change(line, self.turn);
        let (after, is_queued) = ((line.running, line.turn, caller), !line.queued.is_empty());
        if was_queued {
            self.order.remove(&before);
        }
        if is_queued {
            self.order.insert(after);
        } else if after.0 == 0 {
            self.callers.remove(&caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn popped(turns: &mut Turns<u32>, count: usize) -> Vec<u32> {
        (0..count).map_while(|_| turns.pop()).collect()
    }

    #[test]
    fn callers_take_turns_and_each_keeps_its_own_order() {
        let mut turns = Turns::default();
        for item in [13, 11, 12, 14] {
            turns.queue(CallerId(1), item);
        }
        for item in [22, 21] {
            turns.queue(CallerId(2), item);
        }
        assert_eq!(popped(&mut turns, 3), [11, 21, 12]);
        turns.queue(CallerId(3), 31);
        assert_eq!(
            popped(&mut turns, 9),
            [22, 13, 31, 14],
            "who comes new waits for those that wait already"
        );
        assert!(turns.is_empty() && turns.callers.is_empty());
    }

    #[test]
    fn caller_with_the_fewest_running_items_is_next() {
        let mut turns = Turns::default();
        for item in 10..20 {
            turns.queue(CallerId(1), item);
            turns.queue(CallerId(2), item + 10);
        }
        for _ in 0..3 {
            turns.begun(CallerId(1));
        }
        assert_eq!(popped(&mut turns, 2), [20, 21]);
        turns.begun(CallerId(2));
        turns.begun(CallerId(2));
        turns.ended(CallerId(1));
        assert_eq!(popped(&mut turns, 2), [10, 22], "now as much of each runs");
        turns.begun(CallerId(1));
        assert_eq!(popped(&mut turns, 1), [23]);
        for _ in 0..3 {
            turns.ended(CallerId(1));
            turns.ended(CallerId(2));
        }
        assert_eq!(popped(&mut turns, 99).len(), 15);
        assert!(turns.callers.is_empty(), "nothing is left of callers that have nothing here");
    }
}
