//! What stands of the ledger in nodes.toml.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::limits::Limits;

/// A ledger of tasks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskLedger {
    /// Where tasks are stored; a relative path begins where the file of this configuration is.
    pub file: Option<PathBuf>,
    /// Tasks carried out at the same time; 64 without it.
    pub at_once: Option<NonZeroUsize>,
    /// Of one object; 32 without it.
    pub per_object: Option<NonZeroUsize>,
    /// Of these objects, instead of that.
    #[serde(default)]
    pub objects: BTreeMap<String, NonZeroUsize>,
    /// How long ended tasks are kept; 86,400 without it.
    pub kept_s: Option<u64>,
    /// Tasks that are kept, ended ones included; 1,000,000 without it.
    pub tasks: Option<u64>,
    /// Bytes of the tasks that are kept, as they were submitted; 4 GiB without it.
    pub bytes: Option<u64>,
    /// Tasks of one caller that are kept; its fair share of `tasks` without it.
    pub per_caller: Option<u64>,
}

impl TaskLedger {
    /// How much it keeps, and does at the same time.
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
