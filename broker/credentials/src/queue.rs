//! Bounded queue of passwords that wait for a thread, fair among sources.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use parking_lot::{Condvar, Mutex};

/// Bounded queue that serves its sources in turns: an item waits behind the items of its own source, and does not delay
/// those of other sources. A source may add an item only while it holds fewer than twice as many items as there are free
/// places.
#[derive(Debug)]
pub(crate) struct FairQueue<S, T> {
    state: Mutex<QueueState<S, T>>,
    changed: Condvar,
    places: usize,
}

#[derive(Debug)]
struct QueueState<S, T> {
    waiting: HashMap<S, VecDeque<T>>,
    /// Sources that have waiting items, in the order of their turns.
    turns: VecDeque<S>,
    len: usize,
    closed: bool,
}

impl<S: Copy + Eq + Hash, T> FairQueue<S, T> {
    pub(crate) fn new(places: usize) -> Self {
        let state = QueueState { waiting: HashMap::new(), turns: VecDeque::new(), len: 0, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), places }
    }

    /// Appends an item to the items of its source; returns the item if the source has no place left or the queue is closed.
    pub(crate) fn push(&self, source: S, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        let QueueState { waiting, turns, len, closed } = &mut *state;
        let held = waiting.get(&source).map_or(0, VecDeque::len);
        let free = self.places - *len;
        if *closed || free == 0 || held >= 2 * free {
            return Err(item);
        }
        if held == 0 {
            turns.push_back(source);
        }
        waiting.entry(source).or_default().push_back(item);
        *len += 1;
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Removes and returns the first item of the source whose turn it is. Blocks until there is one; `None` once the
    /// queue is closed.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(item) = state.take() {
                return Some(item);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Drops all waiting items, and makes every [`pop`](Self::pop) return `None`.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.closed = true;
            state.turns.clear();
            state.len = 0;
            std::mem::take(&mut state.waiting)
        };
        // Outside the lock: dropping an item wakes the task that waits for its result.
        drop(dropped);
        self.changed.notify_all();
    }
}

impl<S: Copy + Eq + Hash, T> QueueState<S, T> {
    fn take(&mut self) -> Option<T> {
        let source = self.turns.pop_front()?;
        let items = self.waiting.get_mut(&source).expect("a source with a turn has items");
        let item = items.pop_front();
        if items.is_empty() {
            self.waiting.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        self.len -= 1;
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_take_turns() {
        let queue = FairQueue::new(100);
        for item in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)] {
            assert_eq!(queue.push(item.0, item.1), Ok(()));
        }
        let order: Vec<i32> = (0..6).filter_map(|_| queue.pop()).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
        assert!(queue.state.lock().waiting.is_empty());
    }

    #[test]
    fn one_source_cannot_fill_the_queue() {
        let queue = FairQueue::new(9);
        let taken = (0..20).filter(|item| queue.push("a", *item).is_ok()).count();
        assert_eq!(taken, 6);
        assert_eq!(queue.push("b", 1), Ok(()));
        assert_eq!(queue.push("a", 1), Err(1));
    }

    #[test]
    fn a_closed_queue_refuses_items_and_returns_none() {
        let queue = FairQueue::new(9);
        assert_eq!(queue.push("a", 1), Ok(()));
        queue.close();
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.push("a", 2), Err(2));
    }
}
