//! What the filters of all sessions take, and whose they are.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::holdings::{Amount, Excess, Holdings};
use crate::owner::Owner;

/// The filters of all sessions. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilterBudget(Arc<Mutex<Holdings>>);

impl FilterBudget {
    /// Counts a filter of `bytes` where all may take `limit`, and `owner` has not had its share.
    pub(crate) fn take(&self, owner: Option<&Arc<Owner>>, bytes: usize, limit: usize) -> Result<(), Excess> {
        let (one, limit) = (Amount { count: 1, bytes }, Amount { count: usize::MAX, bytes: limit });
        let mut holdings = self.0.lock();
        holdings.admit(owner, one, limit)?;
        holdings.add(owner, one);
        Ok(())
    }

    /// Counts filters that are there already, whatever the limit is.
    pub(crate) fn add(&self, owner: Option<&Arc<Owner>>, amount: Amount) {
        self.0.lock().add(owner, amount);
    }

    /// Gives back what was taken or added for `owner`.
    pub(crate) fn give_back(&self, owner: Option<&Arc<Owner>>, amount: Amount) {
        self.0.lock().remove(owner, amount);
    }

    /// Bytes that all filters take.
    pub(crate) fn bytes(&self) -> usize {
        self.0.lock().all().bytes
    }
}
