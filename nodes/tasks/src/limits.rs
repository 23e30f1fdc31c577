//! Limits of a ledger's storage and concurrency.

use std::collections::BTreeMap;
use std::time::Duration;

use rantai_client::shares::ShareLimits;

use super::store::KeptLimits;

/// Limits of a ledger's storage and concurrency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of tasks that run at the same time. Default: 64.
    pub at_once: usize,
    /// Maximum number of running tasks per object. Default: 32.
    pub per_object: usize,
    /// Maximum number of running tasks of these objects, in place of `per_object`.
    pub objects: BTreeMap<String, usize>,
    /// How long ended tasks are kept. Default: 24 hours.
    pub kept: Duration,
    /// Maximum number of kept tasks, including ended ones; submissions beyond it are answered busy. Default: 1,000,000.
    pub tasks: u64,
    /// Maximum size of the kept tasks as submitted, in bytes. Default: 4 GiB.
    pub bytes: u64,
    /// Maximum number of kept tasks per caller. Default: a fair share of `tasks`.
    pub per_caller: Option<u64>,
    /// Maximum number of schedules. Default: 10,000.
    pub schedules: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            at_once: 64,
            per_object: 32,
            objects: BTreeMap::new(),
            kept: Duration::from_hours(24),
            tasks: 1_000_000,
            bytes: 4 << 30,
            per_caller: None,
            schedules: 10_000,
        }
    }
}

impl Limits {
    /// Returns the limits of kept tasks, in total and per caller.
    pub(super) fn kept_tasks(&self) -> KeptLimits {
        let count = ShareLimits { limit: self.tasks, per_caller: self.per_caller };
        KeptLimits { count, bytes: ShareLimits::new(self.bytes) }
    }

    /// Returns the maximum number of running tasks of this object.
    pub(super) fn of(&self, object: &str) -> usize {
        self.objects.get(object).copied().unwrap_or(self.per_object)
    }
}
