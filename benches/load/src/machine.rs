//! What the numbers were measured on.

use std::{fs, thread};

/// Processor, cores and kernel.
pub fn describe() -> String {
    format!("{} cores ({}), Linux {}.", cores(), processor().as_deref().unwrap_or("unknown"), kernel())
}

/// Cores that this process may use; 0 where that is unknown.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(0, std::num::NonZero::get)
}

/// Model of the processor.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, name) = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "))?;
    Some(name.to_owned())
}

/// Release of the kernel; empty where that is unknown.
pub fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The load average of the last minute: other people's work, while nothing of ours runs yet.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// A field of a process's status (proc(5)) in KiB, as `VmRSS`; `None` where it cannot be read.
pub fn status_kib(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}
