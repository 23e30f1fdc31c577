//! Lock-free counting of grants per asker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::owner::Owner;

/// Unused askers are removed when there are more than twice as many askers as were in use at the last check, plus this
/// number.
const SPARE_ASKERS: usize = 64;

/// Owner that asks for replies.
#[derive(Debug)]
pub(crate) struct Asker {
    owner: Arc<Owner>,
    /// Number of grants for requests of this asker.
    grants: AtomicUsize,
}

impl PartialEq for Asker {
    fn eq(&self, other: &Self) -> bool {
        self.owner == other.owner
    }
}

impl Eq for Asker {}

impl Asker {
    pub(super) fn grants(&self) -> usize {
        self.grants.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self) {
        self.grants.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self) {
        self.grants.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All askers: one per owner, for as long as another reference to it exists.
#[derive(Debug, Default)]
pub(super) struct Askers(Mutex<AskerTable>);

#[derive(Debug, Default)]
struct AskerTable {
    by_owner: HashMap<Arc<Owner>, Arc<Asker>>,
    /// Number of askers in use at the last check.
    used: usize,
}

impl AskerTable {
    fn forget_unused(&mut self) {
        // Clones are only made under this lock, so an asker with one reference stays unused until it is removed.
        self.by_owner.retain(|_, asker| Arc::strong_count(asker) > 1);
        self.used = self.by_owner.len();
        if self.used == 0 {
            self.by_owner = HashMap::new();
        }
    }
}

impl Askers {
    pub(super) fn of(&self, owner: &Arc<Owner>) -> Arc<Asker> {
        let mut known = self.0.lock();
        if let Some(asker) = known.by_owner.get(owner) {
            return asker.clone();
        }
        // Checked regularly, because a gateway may name another user with each request.
        if known.by_owner.len() > 2 * known.used + SPARE_ASKERS {
            known.forget_unused();
        }
        let asker = Arc::new(Asker { owner: owner.clone(), grants: AtomicUsize::new(0) });
        known.by_owner.insert(owner.clone(), asker.clone());
        asker
    }

    pub(super) fn forget_unused(&self) {
        self.0.lock().forget_unused();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().by_owner.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_askers_are_removed() {
        let askers = Askers::default();
        let owner = |name: usize| Arc::new(Owner::User(name.to_string().into()));
        let kept: Vec<_> = (0..10).map(|name| askers.of(&owner(name))).collect();
        for name in 10..10_000 {
            askers.of(&owner(name));
            assert!(askers.len() <= 2 * kept.len() + SPARE_ASKERS + 1, "{name}");
        }
        askers.forget_unused();
        assert_eq!(askers.len(), kept.len());
        assert!(Arc::ptr_eq(&askers.of(&owner(3)), &kept[3]), "one for each owner");
    }
}
