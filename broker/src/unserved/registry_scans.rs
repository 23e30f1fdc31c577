//! Rate limit of registry scans for requests without a server.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::holdings::{Amount, Holdings};
use crate::owner::Owner;

/// Scans per second, of a few hundred microseconds each.
const A_SECOND: Amount = Amount { count: 64, bytes: usize::MAX };

/// Scans of the current second, shared fairly among owners.
#[derive(Debug, Default)]
pub(crate) struct RegistryScans(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    second: u64,
    by_owner: Holdings,
}

impl RegistryScans {
    /// Admits a scan for `owner` at `now`, in milliseconds of the broker's clock.
    pub(crate) fn admit(&self, owner: Option<&Arc<Owner>>, now: u64) -> bool {
        let mut taken = self.0.lock();
        let second = now / 1_000;
        if taken.second != second {
            *taken = Taken { second, by_owner: Holdings::default() };
        }
        let one = Amount { count: 1, bytes: 0 };
        let admitted = taken.by_owner.admit(owner, one, A_SECOND).is_ok();
        if admitted {
            taken.by_owner.add(owner, one);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_often_leaves_some_to_the_others_in_every_second() {
        let registry_scans = RegistryScans::default();
        let owner = |name: &'static str| Arc::new(Owner::User(name.into()));
        let (often, seldom) = (owner("often"), owner("seldom"));
        for now in [5_000, 6_000] {
            let admitted = (0..1_000).filter(|ms| registry_scans.admit(Some(&often), now + ms)).count();
            assert!((32..=48).contains(&admitted), "{admitted}");
            assert!(registry_scans.admit(Some(&seldom), now + 999));
        }
    }
}
