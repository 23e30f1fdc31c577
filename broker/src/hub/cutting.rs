//! Cutting the queues of absent sessions that exceed their limits.

use std::sync::Arc;

use hashbrown::HashMap;

use super::sessions::Hub;
use crate::absent::level;
use crate::counters::Counters;
use crate::owner::{Account, Owner};
use crate::session::{Scratch, Session};
use crate::tally::Held;

/// Absent sessions of one owner.
#[derive(Default)]
struct OwnerSessions {
    account: Option<Arc<Account>>,
    /// Number and bytes of the messages in the queue of each session.
    sessions: Vec<Held>,
    /// Number and bytes that each session may keep.
    each: Held,
}

impl OwnerSessions {
    fn held(&self) -> Held {
        self.sessions.iter().fold(Held::default(), |sum, held| Held {
            messages: sum.messages + held.messages,
            bytes: sum.bytes + held.bytes,
        })
    }
}

impl Hub {
    /// Cuts the queues of absent sessions if they exceed the limit together, or if an owner exceeds its share: the
    /// owners that hold most first, and of their sessions the largest.
    ///
    /// The largest sessions rather than the oldest: otherwise a client that begins many sessions could displace those
    /// of others.
    pub(crate) fn cut_absent(&self, scratch: &mut Scratch) {
        let limits = self.shared.limits();
        if self.shared.absent.over(limits) {
            let most = Held { messages: limits.absent_messages, bytes: limits.absent_bytes };
            let share = |account: &Account| self.shared.absent.most_for(&account.absent, limits);
            self.cut_absent_to(most, share, scratch);
        }
    }

    /// Cuts about `bytes` from the queues of absent sessions, beginning with the owners that hold most. Returns the
    /// number of bytes that were cut.
    pub(crate) fn cut_absent_by(&self, bytes: usize, scratch: &mut Scratch) -> usize {
        let held = self.shared.absent.held();
        if bytes == 0 || held.bytes == 0 {
            return 0;
        }
        let most = Held { messages: usize::MAX, bytes: held.bytes.saturating_sub(bytes) };
        self.cut_absent_to(most, |account| account.absent.held(), scratch);
        held.bytes.saturating_sub(self.shared.absent.held().bytes)
    }

    /// Cuts the queues of absent sessions until together they hold at most `most`, and each owner at most the result of
    /// `share`. A session without an owner is cut as if it had an owner of its own.
    fn cut_absent_to(&self, most: Held, share: impl Fn(&Account) -> Held, scratch: &mut Scratch) {
        let absent = self.sessions_where(|session| {
            let state = session.state.lock();
            let held = state.held();
            (state.link.is_none() && !state.ended && !held.is_nothing())
                .then(|| (held, state.account.clone()))
        });
        let mut groups: Vec<OwnerSessions> = Vec::new();
        let mut by_owner: HashMap<Arc<Owner>, usize> = HashMap::new();
        let mut cut = Vec::with_capacity(absent.len());
        for (session, (held, account)) in absent {
            let new = groups.len();
            let group = match &account {
                Some(account) => *by_owner.entry(account.owner.clone()).or_insert(new),
                None => new,
            };
            if group == new {
                groups.push(OwnerSessions { account, ..OwnerSessions::default() });
            }
            groups[group].sessions.push(held);
            cut.push((session, held, group));
        }
        let may_hold = |group: &OwnerSessions| match &group.account {
            Some(account) => share(account),
            None => group.held(),
        };
        let may_hold: Vec<Held> = groups.iter().map(may_hold).collect();
        let owner = level(may_hold.iter().copied(), most);
        for (group, may_hold) in groups.iter_mut().zip(may_hold) {
            let most = Held {
                messages: may_hold.messages.min(owner.messages),
                bytes: may_hold.bytes.min(owner.bytes),
            };
            group.each = level(group.sessions.iter().copied(), most);
        }
        for (session, held, group) in cut {
            let each = groups[group].each;
            if held.messages > each.messages || held.bytes > each.bytes {
                self.cut(&session, each, scratch);
            }
        }
    }

    fn cut(&self, session: &Session, each: Held, scratch: &mut Scratch) {
        let mut state = session.state.lock();
        if state.link.is_some() || state.ended {
            return;
        }
        let dropped = state.cut(session.key, each, &self.shared, scratch);
        if dropped > 0 {
            Counters::add(&self.shared.counters.dropped_absent, dropped);
            state.note_dropped(&session.client_id, dropped, scratch.now, &self.shared);
        }
        drop(state);
        scratch.settle(&self.shared);
    }
}
