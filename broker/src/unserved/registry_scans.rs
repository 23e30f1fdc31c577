//! Rate limit of registry scans for requests that no subscriber serves.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::holdings::{Amount, Holdings};
use crate::owner::Owner;

/// Maximum number of scans per second, of a few hundred microseconds each.
const SCANS_PER_SECOND: Amount = Amount { count: 64, bytes: usize::MAX };

/// Scans of the current second, shared fairly among owners.
#[derive(Debug, Default)]
pub(crate) struct RegistryScans(Mutex<ScansTaken>);

#[derive(Debug, Default)]
struct ScansTaken {
    second: u64,
    by_owner: Holdings,
}

impl RegistryScans {
    /// Returns whether `owner` may scan at `now`, in milliseconds on the broker's clock.
    pub(crate) fn admit(&self, owner: Option<&Arc<Owner>>, now: u64) -> bool {
        let mut taken = self.0.lock();
        let second = now / 1_000;
        if taken.second != second {
            *taken = ScansTaken { second, by_owner: Holdings::default() };
        }
        let one = Amount { count: 1, bytes: 0 };
        let admitted = taken.by_owner.admit(owner, one, SCANS_PER_SECOND).is_ok();
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
    fn frequent_scans_of_one_owner_leave_a_part_to_others_in_every_second() {
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
