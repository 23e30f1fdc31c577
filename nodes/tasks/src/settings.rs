//! Configuration of the ledger in nodes.toml.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::limits::Limits;

/// Configuration of a ledger of tasks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskLedger {
    /// File of the tasks; a relative path starts at the folder of the configuration file.
    pub file: Option<PathBuf>,
    /// Maximum number of tasks that run at the same time; default 64.
    pub at_once: Option<NonZeroUsize>,
    /// Maximum number of running tasks per object; default 32.
    pub per_object: Option<NonZeroUsize>,
    /// Maximum number of running tasks of these objects, in place of `per_object`.
    #[serde(default)]
    pub objects: BTreeMap<String, NonZeroUsize>,
    /// How long ended tasks are kept, in seconds; default 86,400.
    pub kept_s: Option<u64>,
    /// Maximum number of kept tasks, including ended ones; default 1,000,000.
    pub tasks: Option<NonZeroU64>,
    /// Maximum size of the kept tasks as submitted, in bytes; default 4 GiB.
    pub bytes: Option<NonZeroU64>,
    /// Maximum number of kept tasks per caller; by default a fair share of `tasks`.
    pub per_caller: Option<NonZeroU64>,
}

impl TaskLedger {
    /// Returns the limits, with defaults for missing values.
    pub fn limits(&self) -> Limits {
        let known = Limits::default();
        Limits {
            at_once: self.at_once.map_or(known.at_once, NonZeroUsize::get),
            per_object: self.per_object.map_or(known.per_object, NonZeroUsize::get),
            objects: self.objects.iter().map(|(name, most)| (name.clone(), most.get())).collect(),
            kept: self.kept_s.map_or(known.kept, Duration::from_secs),
            tasks: self.tasks.map_or(known.tasks, NonZeroU64::get),
            bytes: self.bytes.map_or(known.bytes, NonZeroU64::get),
            per_caller: self.per_caller.map(NonZeroU64::get),
            ..known
        }
    }
}
