//! Budget of the filters of all sessions, by owner.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::holdings::{Amount, Excess, Holdings};
use crate::owner::Owner;

/// Filters of all sessions. Clones share one count.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilterBudget(Arc<Mutex<Holdings>>);

impl FilterBudget {
    /// Adds a filter of `bytes`, if all filters may take `limit` bytes and `owner` has not used up its share. Returns
    /// which limit is exceeded otherwise.
    pub(crate) fn take(&self, owner: Option<&Arc<Owner>>, bytes: usize, limit: usize) -> Result<(), Excess> {
        let (one, limit) = (Amount { count: 1, bytes }, Amount { count: usize::MAX, bytes: limit });
        let mut holdings = self.0.lock();
        holdings.admit(owner, one, limit)?;
        holdings.add(owner, one);
        Ok(())
    }

    /// Adds existing filters, regardless of the limit.
    pub(crate) fn add(&self, owner: Option<&Arc<Owner>>, amount: Amount) {
        self.0.lock().add(owner, amount);
    }

    /// Removes filters that were added for `owner`.
    pub(crate) fn give_back(&self, owner: Option<&Arc<Owner>>, amount: Amount) {
        self.0.lock().remove(owner, amount);
    }

    /// Returns the total size of all filters, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.lock().all().bytes
    }
}
