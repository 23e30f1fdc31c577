//! Accounting of how much each user or address holds of a shared resource, and its limit.
//!
//! The rule is that of the bus (`shares.rs` of rantai-client, on which the broker does not depend): **an owner gets
//! more only while it holds less than twice as much as is free.** So one owner holds at most two thirds of all, a
//! second one two thirds of the rest, and a new one always finds room. Amounts without an owner count against the
//! total only.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::owner::Owner;

/// Smallest limit that is shared: a part of a smaller one would be of no use.
const MIN_SHARED_LIMIT: usize = 4;

/// Number of items and their size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

/// Limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// The total would exceed its limit.
    All,
    /// The owner would exceed its share.
    Share,
}

/// Amounts held by all owners together and by each of them.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    all: Amount,
    by_owner: HashMap<Arc<Owner>, Amount>,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self { count: self.count.saturating_add(other.count), bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn minus(self, other: Self) -> Self {
        Self { count: self.count - other.count, bytes: self.bytes - other.bytes }
    }
}

impl Holdings {
    pub(crate) fn all(&self) -> Amount {
        self.all
    }

    pub(crate) fn of(&self, owner: &Arc<Owner>) -> Amount {
        self.by_owner.get(owner).copied().unwrap_or_default()
    }

    /// Checks whether `owner` may hold `more`, if all owners together may hold `limit`.
    pub(crate) fn admit(
        &self,
        owner: Option<&Arc<Owner>>,
        more: Amount,
        limit: Amount,
    ) -> Result<(), Excess> {
        let all = self.all.plus(more);
        if more.count > 0 && all.count > limit.count || all.bytes > limit.bytes {
            return Err(Excess::All);
        }
        // Usually so much is free that the owner's own amount need not be looked up.
        let Some(owner) = owner.filter(|_| !within_share(self.all, more, self.all, limit)) else {
            return Ok(());
        };
        let held = self.of(owner);
        if within_share(held, more, self.all, limit) { Ok(()) } else { Err(Excess::Share) }
    }

    pub(crate) fn add(&mut self, owner: Option<&Arc<Owner>>, amount: Amount) {
        self.all = self.all.plus(amount);
        if let Some(owner) = owner {
            let held = self.by_owner.entry(owner.clone()).or_default();
            *held = held.plus(amount);
        }
    }

    /// Removes an amount that was added for `owner`.
    pub(crate) fn remove(&mut self, owner: Option<&Arc<Owner>>, amount: Amount) {
        self.all = self.all.minus(amount);
        if let Some(owner) = owner
            && let Some(held) = self.by_owner.get_mut(owner)
        {
            *held = held.minus(amount);
            if held.count == 0 {
                self.by_owner.remove(owner);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn owners(&self) -> usize {
        self.by_owner.len()
    }
}

/// Returns whether an owner that holds `held` of `all` items, with a maximum of `limit`, may hold another one.
pub(crate) fn may_hold_another(held: usize, all: usize, limit: usize) -> bool {
    let amount = |count| Amount { count, bytes: 0 };
    within_share(amount(held), amount(1), amount(all), amount(limit))
}

fn within_share(held: Amount, more: Amount, all: Amount, limit: Amount) -> bool {
    let within = |held: usize, more: usize, all: usize, limit: usize| {
        // Number that is free when the last of the new items is added.
        let free = limit.saturating_sub(all.saturating_add(more.saturating_sub(1)));
        more == 0 || limit < MIN_SHARED_LIMIT || held.saturating_add(more) <= free.saturating_mul(2)
    };
    within(held.count, more.count, all.count, limit.count)
        && within(held.bytes, more.bytes, all.bytes, limit.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Amount = Amount { count: 1, bytes: 10 };

    fn owner(name: &'static str) -> Arc<Owner> {
        Arc::new(Owner::User(name.into()))
    }

    fn fill(holdings: &mut Holdings, owner: &Arc<Owner>, limit: Amount) -> (usize, Excess) {
        for count in 0.. {
            if let Err(excess) = holdings.admit(Some(owner), ONE, limit) {
                return (count, excess);
            }
            holdings.add(Some(owner), ONE);
        }
        unreachable!("there is a limit")
    }

    #[test]
    fn each_owner_gets_two_thirds_of_the_rest_by_count_or_bytes() {
        for limit in [Amount { count: 256, bytes: usize::MAX }, Amount { count: usize::MAX, bytes: 2_560 }] {
            let mut holdings = Holdings::default();
            let owners = ["a", "b", "c"].map(owner);
            let taken: Vec<_> = owners.iter().map(|owner| fill(&mut holdings, owner, limit)).collect();
            assert!(taken.iter().all(|(_, excess)| *excess == Excess::Share), "{taken:?}");
            let counts: Vec<_> = taken.iter().map(|(count, _)| *count).collect();
            assert!(
                counts[0].abs_diff(171) <= 1 && counts[1].abs_diff(57) <= 1 && counts[2].abs_diff(19) <= 1,
                "{counts:?}"
            );
            assert_eq!(holdings.admit(None, ONE, limit), Ok(()), "nobody's counts for all alone");
            for (owner, count) in owners.iter().zip(counts) {
                for _ in 0..count {
                    holdings.remove(Some(owner), ONE);
                }
            }
            assert_eq!((holdings.all(), holdings.owners()), (Amount::default(), 0));
        }
    }

    #[test]
    fn small_limits_are_not_shared_and_no_limit_is_exceeded() {
        let limit = Amount { count: 3, bytes: usize::MAX };
        let mut holdings = Holdings::default();
        assert_eq!(fill(&mut holdings, &owner("a"), limit), (3, Excess::All));
        assert_eq!(holdings.admit(None, ONE, limit), Err(Excess::All));
    }
}
