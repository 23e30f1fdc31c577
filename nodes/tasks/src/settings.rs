//! Configuration of the ledger in nodes.toml.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
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
    pub tasks: Option<u64>,
    /// Maximum size of the kept tasks as submitted, in bytes; default 4 GiB.
    pub bytes: Option<u64>,
    /// Maximum number of kept tasks per caller; by default a fair share of `tasks`.
    pub per_caller: Option<u64>,
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
            tasks: self.tasks.unwrap_or(known.tasks),
            bytes: self.bytes.unwrap_or(known.bytes),
            per_caller: self.per_caller,
            ..known
        }
    }
}
