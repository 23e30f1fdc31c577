//! How often the registry is looked through for requests that nobody takes.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::holdings::{Amount, Holdings};
use crate::owner::Owner;

/// Looks at many retained messages in each second, each of which costs some hundred microseconds.
const A_SECOND: Amount = Amount { count: 64, bytes: usize::MAX };

/// Looks at many retained messages in this second, shared among those whose requests asked for them.
#[derive(Debug, Default)]
pub(crate) struct Surveys(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    second: u64,
    by_owner: Holdings,
}

impl Surveys {
    /// Whether there may be another one for `owner`, at `now` in milliseconds on the broker's clock.
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
        let surveys = Surveys::default();
        let owner = |name: &'static str| Arc::new(Owner::User(name.into()));
        let (often, seldom) = (owner("often"), owner("seldom"));
        for now in [5_000, 6_000] {
            let admitted = (0..1_000).filter(|ms| surveys.admit(Some(&often), now + ms)).count();
            assert!((32..=48).contains(&admitted), "{admitted}");
            assert!(surveys.admit(Some(&seldom), now + 999));
        }
    }
}
