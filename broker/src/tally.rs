//! Lock-free accounting of budgets that change with each message, in total and per owner.
//!
//! The rule is that of [`holdings`](crate::holdings): an owner gets more only while it holds less than twice as much
//! as is free. In addition, each owner may always hold an equal part of the limit, with one more part reserved for a
//! new owner, even if others hold so much that the rule would allow less.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of messages and their size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// Amount held by the sessions of one owner, or by all sessions.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Number of sessions that hold anything.
    sessions: AtomicUsize,
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

/// Amount that all sessions hold of one budget.
#[derive(Debug, Default)]
pub(crate) struct Total {
    all: Tally,
    /// Number of owners that hold anything.
    owners: AtomicUsize,
}

impl Held {
    pub(crate) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl Tally {
    pub(crate) fn held(&self) -> Held {
        Held { messages: self.messages.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Returns the number of sessions that hold anything, at least 1.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed).max(1)
    }

    /// Records that a session held `from` before and holds `to` now. Returns the change in the number of tallies (0 or
    /// 1 for this one) that hold anything: 0, 1, or -1 wrapped around.
    fn change(&self, from: Held, to: Held) -> usize {
        add(&self.messages, from.messages, to.messages);
        add(&self.bytes, from.bytes, to.bytes);
        let (before, after) = (usize::from(!from.is_nothing()), usize::from(!to.is_nothing()));
        if before == after {
            return 0;
        }
        let sessions = self.sessions.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        // True for the first session that holds anything, and for the last one that no longer does.
        if sessions == before { after.wrapping_sub(before) } else { 0 }
    }
}

impl Total {
    /// Records that a session of the owner whose tally is `own` held `from` before and holds `to` now.
    pub(crate) fn change(&self, own: Option<&Tally>, from: Held, to: Held) {
        if from == to {
            return;
        }
        self.all.change(from, to);
        let owners = own.map_or(0, |own| own.change(from, to));
        if owners != 0 {
            self.owners.fetch_add(owners, Ordering::Relaxed);
        }
    }

    /// Returns the tally of all sessions.
    pub(crate) fn all(&self) -> &Tally {
        &self.all
    }

    /// Returns how much the owner whose tally is `own` may hold. `limit` is the maximum for all owners together.
    pub(crate) fn share(&self, own: &Tally, limit: Held) -> Held {
        let (own, all) = (own.held(), self.all.held());
        // One part for the owner itself if it holds nothing yet, and one for a new owner.
        let parts = self.owners.load(Ordering::Relaxed).saturating_add(1 + usize::from(own.is_nothing()));
        let share = |own: usize, all: usize, limit: usize| {
            let others = all.saturating_sub(own);
            (limit.saturating_sub(others) / 3 * 2).max(limit / parts)
        };
        Held {
            messages: share(own.messages, all.messages, limit.messages),
            bytes: share(own.bytes, all.bytes, limit.bytes),
        }
    }

    #[cfg(test)]
    pub(crate) fn owners(&self) -> usize {
        self.owners.load(Ordering::Relaxed)
    }
}

fn add(counter: &AtomicUsize, from: usize, to: usize) {
    if from != to {
        counter.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(messages: usize, bytes: usize) -> Held {
        Held { messages, bytes }
    }

    #[test]
    fn an_owner_gets_two_thirds_of_the_rest_or_an_equal_part() {
        let (total, limit) = (Total::default(), held(900, 9_000));
        let owners = [Tally::default(), Tally::default(), Tally::default()];
        assert_eq!(total.share(&owners[0], limit), held(600, 6_000));
        total.change(Some(&owners[0]), held(0, 0), held(600, 6_000));
        assert_eq!(total.share(&owners[0], limit), held(600, 6_000));
        assert_eq!(total.share(&owners[1], limit), held(300, 3_000), "a newcomer's equal part");
        total.change(Some(&owners[1]), held(0, 0), held(300, 3_000));
        assert_eq!(total.share(&owners[0], limit), held(400, 4_000));
        assert_eq!(total.share(&owners[2], limit), held(225, 2_250), "though all is held");
    }

    #[test]
    fn owners_are_counted_while_any_of_their_sessions_holds_anything() {
        let (total, own) = (Total::default(), Tally::default());
        let nothing = Held::default();
        total.change(Some(&own), nothing, held(1, 10));
        total.change(Some(&own), nothing, held(0, 20));
        total.change(None, nothing, held(3, 30));
        assert_eq!((total.owners(), own.sessions(), total.all().sessions()), (1, 2, 3));
        assert_eq!((own.held(), total.all().held()), (held(1, 30), held(4, 60)));
        total.change(Some(&own), held(1, 10), nothing);
        assert_eq!((total.owners(), own.sessions()), (1, 1));
        total.change(Some(&own), held(0, 20), nothing);
        total.change(None, held(3, 30), nothing);
        assert_eq!((total.owners(), total.all().held()), (0, nothing));
    }
}
