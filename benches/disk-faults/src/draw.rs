//! Choice of the fault of each call.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::page::{FAILED, FULL, Page, SHORT, STALLED};

/// Number of calls that shares refer to.
const SHARE_UNIT: u64 = 10_000;

/// Kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Write,
    Sync,
    /// Changes the size or name of a file, or opens one for writing.
    Change,
}

/// Outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Passes,
    Stalls,
    /// The call fails with EIO or ENOSPC; a write may have written a part.
    Fails {
        is_full: bool,
        in_the_middle: bool,
    },
    IsShort,
}

impl Page {
    /// Chooses the outcome of the next call, and counts it.
    pub(crate) fn draw(&self, kind: CallKind) -> Fate {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let random = mix(self.seed.load(Ordering::Relaxed).wrapping_add(number));
        let in_the_middle = kind == CallKind::Write && random >> 63 == 1;
        let mut left = random % SHARE_UNIT;
        let mut is_within = |share: &AtomicU32| {
            let share = u64::from(share.load(Ordering::Relaxed));
            let is_within = left < share;
            left = left.wrapping_sub(share);
            is_within
        };
        let (fate, count) = if is_within(&self.stalls) {
            (Fate::Stalls, STALLED)
        } else if is_within(&self.errors) {
            (Fate::Fails { is_full: false, in_the_middle }, FAILED)
        } else if is_within(&self.no_space) && kind != CallKind::Sync {
            (Fate::Fails { is_full: true, in_the_middle }, FULL)
        } else if is_within(&self.short) && kind == CallKind::Write {
            (Fate::IsShort, SHORT)
        } else {
            return Fate::Passes;
        };
        self.counts[count].fetch_add(1, Ordering::Relaxed);
        fate
    }
}

/// Output function of `SplitMix64`: consecutive inputs give outputs that look unrelated.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Faults;

    fn page(seed: u64, faults: Faults) -> Page {
        Page {
            seed: seed.into(),
            stalls: faults.stalls.into(),
            errors: faults.errors.into(),
            no_space: faults.no_space.into(),
            short: faults.short.into(),
            ..Page::default()
        }
    }

    #[test]
    fn outcomes_depend_on_the_seed_and_have_the_given_shares() {
        let faults = Faults { stalls: 1_000, errors: 2_000, no_space: 3_000, short: 500, stall_ms: 0 };
        let (page, same, other) = (page(7, faults), page(7, faults), page(8, faults));
        let draw = |page: &Page| (0..10_000).map(|_| page.draw(CallKind::Write)).collect::<Vec<_>>();
        let drawn = draw(&page);
        assert_eq!(drawn, draw(&same));
        assert_ne!(drawn, draw(&other));
        for (count, share) in [(STALLED, 1_000), (FAILED, 2_000), (FULL, 3_000), (SHORT, 500)] {
            let count = page.counts[count].load(Ordering::Relaxed);
            assert!(count.abs_diff(share) < share / 5, "{count} of {share}");
        }
    }

    #[test]
    fn a_sync_is_never_short_and_never_fails_with_enospc() {
        let page = page(1, Faults { no_space: 5_000, short: 5_000, ..Faults::default() });
        assert!((0..1_000).all(|_| page.draw(CallKind::Sync) == Fate::Passes));
        assert!((0..1_000).all(|_| page.draw(CallKind::Change) != Fate::IsShort));
    }
}
