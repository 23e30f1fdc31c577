//! Data shared by a test and the library in another process: the first bytes of a file, which the library maps into
//! memory.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// Environment variable with the path of the file.
pub(crate) const CONTROL: &str = "RANTAI_DISK_FAULTS_CONTROL";
/// Environment variable with the directory whose files are affected.
pub(crate) const BELOW: &str = "RANTAI_DISK_FAULTS_BELOW";

/// Numbers of calls per 10,000 that have each fault; at most 10,000 in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Delayed calls: by at most `stall_ms`, and not after the end of the faults.
    pub stalls: u32,
    /// Maximum delay, in milliseconds.
    pub stall_ms: u32,
    /// Calls that fail with EIO. Half of the writes among them have written half of their bytes.
    pub errors: u32,
    /// Calls that fail with ENOSPC, half of the writes among them after half of their bytes. Syncs are not affected.
    pub no_space: u32,
    /// Writes that write half of their bytes, and return that number.
    pub short: u32,
}

/// Shared bytes. A new file contains only zeros, which means no faults.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Whether faults are on; written last when they start.
    pub(crate) on: AtomicU32,
    pub(crate) stall_ms: AtomicU32,
    pub(crate) stalls: AtomicU32,
    pub(crate) errors: AtomicU32,
    pub(crate) no_space: AtomicU32,
    pub(crate) short: AtomicU32,
    pub(crate) seed: AtomicU64,
    /// Number of calls since the faults started.
    pub(crate) calls: AtomicU64,
    pub(crate) counts: [AtomicU64; COUNTS],
}

/// Number of counters in `Page::counts`.
pub(crate) const COUNTS: usize = 5;
pub(crate) const STALLED: usize = 0;
pub(crate) const FAILED: usize = 1;
pub(crate) const FULL: usize = 2;
pub(crate) const SHORT: usize = 3;
/// Counter of the processes that have loaded the library.
pub(crate) const LOADED: usize = 4;
