//! What is queued for sessions whose clients are away, all together, and how much of it one of them may hold.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Limits;

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// The queues of all absent sessions.
#[derive(Debug, Default)]
pub(crate) struct AbsentQueues {
    /// Those that hold anything.
    sessions: AtomicUsize,
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl AbsentQueues {
    /// One of them held `from` and holds `to` now.
    pub(crate) fn change(&self, from: Held, to: Held) {
        let change = |counter: &AtomicUsize, from: usize, to: usize| {
            if from != to {
                counter.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
            }
        };
        change(&self.sessions, usize::from(from.messages > 0), usize::from(to.messages > 0));
        change(&self.messages, from.messages, to.messages);
        change(&self.bytes, from.bytes, to.bytes);
    }

    pub(crate) fn held(&self) -> Held {
        Held { messages: self.messages.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Whether together they hold more than they may by an eighth: as much as sessions below their share may add before
    /// those that hold most are cut. The last message of each may exceed the limit, and is not worth a cut.
    pub(crate) fn over(&self, limits: &Limits) -> bool {
        let held = self.held();
        let over = |held: usize, most: usize| held > most.saturating_add(most / 8);
        over(held.messages, limits.absent_messages) || over(held.bytes, limits.absent_bytes)
    }

    /// Whether one that holds `own` may not be given more: all together hold what they may, and it at least an equal
    /// share of that. So a session that holds little is never full because of those that hold much.
    pub(crate) fn no_room_for(&self, own: Held, limits: &Limits) -> bool {
        let Held { messages, bytes } = self.held();
        let sessions = self.sessions.load(Ordering::Relaxed).max(1);
        bytes >= limits.absent_bytes && own.bytes >= limits.absent_bytes / sessions
            || messages >= limits.absent_messages && own.messages >= limits.absent_messages / sessions
    }
}

/// The most that each may hold so that all together hold no more than `budget`, where each has what it holds in `held`:
/// the largest give, down to an equal level.
pub(crate) fn level(held: impl Iterator<Item = usize>, budget: usize) -> usize {
    let mut held: Vec<usize> = held.collect();
    held.sort_unstable();
    let mut left = budget;
    let mut count = held.len();
    for own in held {
        // All that are left, this one included, can be given an equal part of what is left.
        if own > left / count {
            return left / count;
        }
        left -= own;
        count -= 1;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_give_down_to_an_equal_level() {
        let level = |held: &[usize], budget| level(held.iter().copied(), budget);
        assert_eq!(level(&[], 10), usize::MAX);
        assert_eq!(level(&[3, 4], 10), usize::MAX, "within the budget");
        assert_eq!(level(&[100, 4], 10), 6, "the small one keeps all it has");
        assert_eq!(level(&[100, 1, 90, 1], 10), 4);
        assert_eq!(level(&[5, 5, 5], 3), 1);
        assert_eq!(level(&[5, 5, 5], 2), 0);
    }

    #[test]
    fn who_holds_little_has_room_though_others_hold_much() {
        let limits = Limits { absent_bytes: 100, absent_messages: 10, ..Limits::default() };
        let held = |messages, bytes| Held { messages, bytes };
        let absent = AbsentQueues::default();
        absent.change(Held::default(), held(1, 95));
        assert!(!absent.no_room_for(held(1, 95), &limits), "within what all may hold");
        absent.change(Held::default(), held(1, 10));
        assert!(!absent.over(&limits));
        absent.change(held(1, 10), held(1, 18));
        assert!(absent.over(&limits));
        assert!(absent.no_room_for(held(1, 95), &limits));
        assert!(!absent.no_room_for(held(1, 10), &limits), "below its half");
        absent.change(held(1, 95), Held::default());
        absent.change(held(1, 18), held(10, 20));
        assert!(absent.no_room_for(held(10, 20), &limits), "too many messages, though small ones");
        absent.change(held(10, 20), Held::default());
        assert_eq!((absent.held(), absent.sessions.load(Ordering::Relaxed)), (Held::default(), 0));
    }
}
