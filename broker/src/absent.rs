//! Budget of all messages queued for absent sessions, and the share of each session.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Limits;
use crate::tally::{Held, Tally, Total};

/// Queues of all absent sessions.
#[derive(Debug, Default)]
pub(crate) struct AbsentQueues {
    total: Total,
    /// Whether an owner holds more than its share, because each of its sessions with few messages may hold an equal
    /// part.
    uneven: AtomicBool,
}

fn limit(limits: &Limits) -> Held {
    Held { messages: limits.absent_messages, bytes: limits.absent_bytes }
}

/// Returns whether `held` exceeds `most` by more than an eighth. Sessions below their share may add an eighth before
/// the largest queues are cut. A limit that is only exceeded by the last message of each session does not justify a
/// cut.
fn is_over(held: Held, most: Held) -> bool {
    let over = |held: usize, most: usize| held > most.saturating_add(most / 8);
    over(held.messages, most.messages) || over(held.bytes, most.bytes)
}

impl AbsentQueues {
    /// Records that an absent session held `from` before and holds `to` now. `own` is the tally of its owner.
    pub(crate) fn change(&self, own: Option<&Tally>, from: Held, to: Held) {
        self.total.change(own, from, to);
    }

    pub(crate) fn held(&self) -> Held {
        self.total.all().held()
    }

    /// Checks whether queues have to be cut: all together exceed the limit, or an owner exceeds its share, each by an
    /// eighth. True once each time an owner has come to exceed it.
    pub(crate) fn over(&self, limits: &Limits) -> bool {
        self.uneven.swap(false, Ordering::Relaxed) || is_over(self.held(), limit(limits))
    }

    /// Returns whether a session that holds `held` may not hold more: its owner has used up its share of the budget
    /// (without an owner, the whole budget), and the session has at least an equal part of that share. A session with
    /// few messages is thus never refused because of larger ones, nor an owner because of other owners.
    pub(crate) fn no_room_for(&self, held: Held, own: Option<&Tally>, limits: &Limits) -> bool {
        let limit = limit(limits);
        let (tally, share) = match own {
            Some(own) => (own, self.total.share(own, limit)),
            None => (self.total.all(), limit),
        };
        let (together, sessions) = (tally.held(), tally.sessions());
        let full = |together: usize, held: usize, share: usize| together >= share && held >= share / sessions;
        let full = full(together.bytes, held.bytes, share.bytes)
            || full(together.messages, held.messages, share.messages);
        if !full && own.is_some() && is_over(together, share) && !self.uneven.load(Ordering::Relaxed) {
            self.uneven.store(true, Ordering::Relaxed);
        }
        full
    }

    /// Returns the limit to which the sessions of an owner are to be cut: its share, if they exceed it by an eighth.
    pub(crate) fn most_for(&self, own: &Tally, limits: &Limits) -> Held {
        let (held, share) = (own.held(), self.total.share(own, limit(limits)));
        if is_over(held, share) { share } else { held }
    }
}

/// Returns the maximum per session at which all of `held` together fit into `budget`: the largest are cut down to an
/// equal level.
pub(crate) fn level(held: impl Iterator<Item = Held>, budget: Held) -> Held {
    let (messages, bytes) = held.map(|held| (held.messages, held.bytes)).unzip();
    Held { messages: level_of(messages, budget.messages), bytes: level_of(bytes, budget.bytes) }
}

fn level_of(mut held: Vec<usize>, budget: usize) -> usize {
    held.sort_unstable();
    let mut left = budget;
    let mut count = held.len();
    for own in held {
        // All remaining sessions, including this one, then get an equal part of the remaining budget.
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

    fn held(messages: usize, bytes: usize) -> Held {
        Held { messages, bytes }
    }

    #[test]
    fn the_largest_queues_are_cut_to_an_equal_level() {
        let level = |held: &[usize], budget| level_of(held.to_vec(), budget);
        assert_eq!(level(&[], 10), usize::MAX);
        assert_eq!(level(&[3, 4], 10), usize::MAX, "within the budget");
        assert_eq!(level(&[100, 4], 10), 6, "the small one keeps all it has");
        assert_eq!(level(&[100, 1, 90, 1], 10), 4);
        assert_eq!(level(&[5, 5, 5], 3), 1);
        assert_eq!(level(&[5, 5, 5], 2), 0);
    }

    #[test]
    fn a_small_queue_has_room_although_others_exceed_the_budget() {
        let limits = Limits { absent_bytes: 100, absent_messages: 10, ..Limits::default() };
        let absent = AbsentQueues::default();
        absent.change(None, Held::default(), held(1, 95));
        assert!(!absent.no_room_for(held(1, 95), None, &limits), "within what all may hold");
        absent.change(None, Held::default(), held(1, 10));
        assert!(!absent.over(&limits));
        absent.change(None, held(1, 10), held(1, 18));
        assert!(absent.over(&limits));
        assert!(absent.no_room_for(held(1, 95), None, &limits));
        assert!(!absent.no_room_for(held(1, 10), None, &limits), "below its half");
        absent.change(None, held(1, 95), Held::default());
        absent.change(None, held(1, 18), held(10, 20));
        assert!(absent.no_room_for(held(10, 20), None, &limits), "too many messages, though small ones");
        absent.change(None, held(10, 20), Held::default());
        assert_eq!(absent.held(), Held::default());
    }

    /// Once, one owner with many small sessions took the whole budget, and the queues of other owners were cut to the
    /// size of one of those sessions.
    #[test]
    fn many_small_sessions_of_one_owner_share_its_part_of_the_budget() {
        let limits = Limits { absent_bytes: 9_000, ..Limits::default() };
        let (absent, greedy, honest) = (AbsentQueues::default(), Tally::default(), Tally::default());
        let mut sessions = vec![0_usize; 100];
        for _ in 0..200 {
            for bytes in &mut sessions {
                if !absent.no_room_for(held(1, *bytes), Some(&greedy), &limits) {
                    let before = if *bytes == 0 { Held::default() } else { held(1, *bytes) };
                    *bytes += 10;
                    absent.change(Some(&greedy), before, held(1, *bytes));
                }
            }
        }
        let share = 6_000;
        assert!((share..share + 1_000).contains(&greedy.held().bytes), "{:?}", greedy.held());
        // One session of another owner may hold far more than each of the small sessions.
        let mut bytes = 0;
        while !absent.no_room_for(held(1, bytes), Some(&honest), &limits) {
            absent.change(
                Some(&honest),
                if bytes == 0 { Held::default() } else { held(1, bytes) },
                held(1, bytes + 10),
            );
            bytes += 10;
        }
        assert_eq!(bytes, 3_000);
    }

    #[test]
    fn an_owner_above_its_share_is_cut_to_its_share() {
        let limits = Limits { absent_bytes: 9_000, ..Limits::default() };
        let (absent, own) = (AbsentQueues::default(), Tally::default());
        absent.change(Some(&own), Held::default(), held(1, 6_000));
        absent.change(Some(&own), Held::default(), held(1, 900));
        assert!(absent.no_room_for(held(1, 6_000), Some(&own), &limits) && !absent.over(&limits));
        assert!(!absent.no_room_for(held(1, 900), Some(&own), &limits), "below half of the share");
        assert!(absent.over(&limits) && !absent.over(&limits));
        assert_eq!(absent.most_for(&own, &limits).bytes, 6_000);
        absent.change(Some(&own), held(1, 6_000), held(1, 5_000));
        assert_eq!(absent.most_for(&own, &limits), own.held());
    }
}
