//! Health of the disk.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rantai_group_commit::Space;

/// Usability of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Health {
    /// All writes succeed.
    #[default]
    Healthy = 0,
    /// Free space is below the reserve: changes of existing state are written, and nothing new is accepted.
    Low = 1,
    /// The last write failed for lack of space.
    Full = 2,
    /// The last write failed for another reason.
    Failing = 3,
    /// A write has been running for too long, without success or failure.
    Stalled = 4,
}

impl Health {
    /// Names of all states.
    pub(crate) const NAMES: [&str; 5] = ["healthy", "low", "full", "failing", "stalled"];

    /// Returns the name published on `$SYS/broker/disk/state`.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Returns the Reason String for refusing new state; `None` if the disk is healthy.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Healthy => None,
            Self::Low => Some("the broker's disk is nearly full"),
            Self::Full => Some("the broker's disk is full"),
            Self::Failing => Some("the broker cannot write to its disk"),
            Self::Stalled => Some("the broker's disk does not answer"),
        }
    }

    /// Returns whether the last write has failed or does not end.
    pub(crate) fn is_failed(self) -> bool {
        matches!(self, Self::Full | Self::Failing | Self::Stalled)
    }

    fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::Healthy,
            1 => Self::Low,
            2 => Self::Full,
            3 => Self::Failing,
            _ => Self::Stalled,
        }
    }
}

/// [`Health`] and free space, set by the writer and read by all tasks.
#[derive(Debug, Default)]
pub(super) struct ReportedHealth {
    health: AtomicU8,
    free: AtomicU64,
    floor: AtomicU64,
}

impl ReportedHealth {
    pub(super) fn health(&self) -> Health {
        Health::from_bits(self.health.load(Ordering::Relaxed))
    }

    /// Sets the health, and returns the previous one.
    pub(super) fn set(&self, health: Health) -> Health {
        Health::from_bits(self.health.swap(health as u8, Ordering::Relaxed))
    }

    pub(super) fn set_space(&self, free: u64, floor: u64) {
        self.free.store(free, Ordering::Relaxed);
        self.floor.store(floor, Ordering::Relaxed);
    }

    /// Returns the free bytes and the reserve, as last measured.
    pub(super) fn space(&self) -> (u64, u64) {
        (self.free.load(Ordering::Relaxed), self.floor.load(Ordering::Relaxed))
    }
}

/// Function that measures the space of the file system that contains the store.
pub(super) type MeasureSpace = Box<dyn Fn() -> std::io::Result<Space> + Send>;

/// Comparison of free space with the reserve.
pub(super) struct SpaceWatch {
    look: MeasureSpace,
    /// Configured number of bytes to leave free, if any.
    configured: Option<u64>,
    low: bool,
}

impl SpaceWatch {
    pub(super) fn new(look: MeasureSpace, configured: Option<u64>) -> Self {
        Self { look, configured, low: false }
    }

    /// Returns the free space, the reserve, and whether free space is low: from when it falls below the reserve until
    /// it is a quarter above it, so that the state does not change with every commit. `None` if the file system does
    /// not report its space.
    pub(super) fn look(&mut self) -> Option<(Space, u64, bool)> {
        let space = (self.look)().ok()?;
        let floor = space.floor(self.configured);
        let needed = if self.low { floor.saturating_add(floor / 4) } else { floor };
        self.low = space.free < needed;
        Some((space, floor, self.low))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn space_is_low_below_the_floor_until_a_quarter_more_is_free() {
        let free = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&free);
        let look = move || Ok(Space { free: seen.load(Ordering::Relaxed), total: 1 << 30 });
        let mut watch = SpaceWatch::new(Box::new(look), Some(1_000));
        for (now, low) in
            [(1_000, false), (999, true), (1_000, true), (1_249, true), (1_250, false), (1_001, false)]
        {
            free.store(now, Ordering::Relaxed);
            let (space, floor, is_low) = watch.look().expect("looked at");
            assert_eq!((space.free, floor, is_low), (now, 1_000, low));
        }
    }

    #[test]
    fn every_state_but_healthy_has_a_refusal_that_names_the_disk() {
        for bits in 0..5 {
            let health = Health::from_bits(bits);
            assert_eq!(health as u8, bits);
            assert_eq!(health.refusal().is_none(), health == Health::Healthy);
            assert!(health.refusal().is_none_or(|text| text.contains("disk")), "{health:?}");
        }
    }
}
