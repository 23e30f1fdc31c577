//! How much a ledger keeps, and does at the same time.

use std::collections::BTreeMap;
use std::time::Duration;

use rantai_client::shares::ShareLimits;

use super::store::KeptLimits;

/// How much a ledger keeps, and does at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tasks carried out at the same time.
    pub at_once: usize,
    /// Of one object.
    pub per_object: usize,
    /// Of these objects, instead of that.
    pub objects: BTreeMap<String, usize>,
    /// How long ended tasks are kept.
    pub kept: Duration,
    /// Tasks that are kept, ended ones included; beyond it submissions are busy.
    pub tasks: u64,
    /// Bytes of the tasks that are kept, as they were submitted.
    pub bytes: u64,
    /// Tasks of one caller that are kept, instead of its fair share of `tasks`.
    pub per_caller: Option<u64>,
    /// Schedules that are kept.
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
    /// Tasks that are kept, and what one caller may hold of them.
    pub(super) fn kept_tasks(&self) -> KeptLimits {
        let count = ShareLimits { limit: self.tasks, per_caller: self.per_caller };
        KeptLimits { count, bytes: ShareLimits::new(self.bytes) }
    }

    /// Tasks of this object that are carried out at the same time.
    pub(super) fn of(&self, object: &str) -> usize {
        self.objects.get(object).copied().unwrap_or(self.per_object)
    }
}
