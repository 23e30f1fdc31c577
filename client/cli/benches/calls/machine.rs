//! What the numbers were measured on.

use std::fs;
use std::thread;

/// Processor, cores and kernel.
pub(crate) fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor =
        processor.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    format!("{cores} cores ({}), Linux {}.", processor.unwrap_or("unknown"), kernel.trim())
}
