//! What a test and the library in another process share: the first bytes of a file, which the library maps into memory.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// Environment variable with the path of the file.
pub(crate) const CONTROL: &str = "RANTAI_DISK_FAULTS_CONTROL";
/// Environment variable with the directory whose files have the faults.
pub(crate) const BELOW: &str = "RANTAI_DISK_FAULTS_BELOW";

/// How many of 10,000 calls have which fault. Together they are 10,000 at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Wait, at most for `stall_ms` and not beyond the end of the faults.
    pub stalls: u32,
    /// In milliseconds.
    pub stall_ms: u32,
    /// Fail with EIO; half of the writes among them have written half of their bytes then.
    pub errors: u32,
    /// Fail with ENOSPC, again half of the writes in their middle. Syncs do not.
    pub no_space: u32,
    /// Write half of the bytes, and say so.
    pub short: u32,
}

/// The shared bytes. A new file is all zeros: no faults.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Whether there are faults: written last when they begin.
    pub(crate) on: AtomicU32,
    pub(crate) stall_ms: AtomicU32,
    pub(crate) stalls: AtomicU32,
    pub(crate) errors: AtomicU32,
    pub(crate) no_space: AtomicU32,
    pub(crate) short: AtomicU32,
    pub(crate) seed: AtomicU64,
    /// Calls that were looked at since faults began.
    pub(crate) calls: AtomicU64,
    pub(crate) counts: [AtomicU64; COUNTS],
}

/// Numbers of `Page::counts`.
pub(crate) const COUNTS: usize = 5;
pub(crate) const STALLED: usize = 0;
pub(crate) const FAILED: usize = 1;
pub(crate) const FULL: usize = 2;
pub(crate) const SHORT: usize = 3;
/// Processes that have loaded the library.
pub(crate) const LOADED: usize = 4;
