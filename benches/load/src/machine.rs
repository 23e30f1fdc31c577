//! Description of the machine that runs a measurement.

use std::{fs, thread};

/// Returns the processor, the number of cores and the kernel, as a sentence.
pub fn describe() -> String {
    format!("{} cores ({}), Linux {}.", cores(), processor().as_deref().unwrap_or("unknown"), kernel())
}

/// Returns the number of cores that this process may use; 0 if unknown.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(0, std::num::NonZero::get)
}

/// Returns the model of the processor.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, name) = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "))?;
    Some(name.to_owned())
}

/// Returns the release of the kernel; empty if unknown.
pub fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Returns the load average of the last minute. Read before a measurement, it is the load of other processes.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// Returns a field of a process's status (proc(5)) in KiB, such as `VmRSS`; `None` if it cannot be read.
pub fn status_kib(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}
