//! Memory limit of the process, its current use, and the stages of reducing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::config::Limits;

/// Stage of the response to a shortage of memory; each stage includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    #[default]
    Normal = 0,
    /// Connections are refused.
    Connections = 1,
    /// New state is refused: retained messages that are new or larger, and new filters.
    Keeping = 2,
    /// The QoS 0 queues of clients that do not keep up are dropped.
    QoS0 = 3,
    /// The queues of absent sessions are cut, the largest first.
    Absent = 4,
    /// The clients that hold most are disconnected, one after the other.
    Offenders = 5,
}

/// Stages, their thresholds in percent of the limit, and texts for the log.
const STAGES: [(Stage, usize, &str); 5] = [
    (Stage::Offenders, 100, "the clients that hold most are disconnected"),
    (Stage::Absent, 97, "the queues of absent sessions are cut, the largest first"),
    (Stage::QoS0, 95, "queues at QoS 0 are dropped"),
    (Stage::Keeping, 93, "new filters and retained messages are refused"),
    (Stage::Connections, 90, "connections are refused"),
];
/// Distance below its threshold at which a stage ends, in percent of the limit. Without it, stages would begin and end
/// at every reading.
const HYSTERESIS_PERCENT: usize = 2;
/// Default limit, in percent of the memory of the machine or its control group.
const DEFAULT_PERCENT: usize = 75;

/// Memory of the process.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Limit in bytes; `usize::MAX` if there is none.
    ceiling: usize,
    /// Maximum size of all retained messages, in bytes.
    pub(crate) retained_bytes: usize,
    /// Maximum size of the filters of all sessions, in bytes.
    pub(crate) subscription_bytes: usize,
    /// Maximum number of bytes in flight to all clients.
    pub(crate) in_flight_bytes: usize,
    resident: AtomicUsize,
    stage: AtomicU8,
}

impl Memory {
    /// Creates the state with the configured limit, or else one derived from the control group or the machine.
    pub(crate) fn new(limits: &Limits) -> Self {
        let ceiling = match limits.memory_bytes {
            0 => available().map_or(usize::MAX, |bytes| bytes / 100 * DEFAULT_PERCENT),
            bytes => bytes,
        };
        let or_quarter = |bytes| if bytes == 0 { ceiling / 4 } else { bytes };
        let memory = Self {
            ceiling,
            retained_bytes: or_quarter(limits.retained_bytes),
            subscription_bytes: or_quarter(limits.total_subscription_bytes),
            in_flight_bytes: or_quarter(limits.total_in_flight_bytes),
            resident: AtomicUsize::new(0),
            stage: AtomicU8::new(0),
        };
        // The restored state may exceed a stage before any client is accepted.
        if let Some(bytes) = resident() {
            memory.note(bytes);
        }
        memory
    }

    /// Returns the limit in bytes; `usize::MAX` if there is none.
    pub(crate) fn ceiling(&self) -> usize {
        self.ceiling
    }

    /// Returns the resident size in bytes, as last read; 0 if it cannot be read.
    pub(crate) fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    pub(crate) fn stage(&self) -> Stage {
        Stage::of(self.stage.load(Ordering::Relaxed))
    }

    /// Returns whether `stage` is in effect.
    pub(crate) fn at(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Relaxed) >= stage as u8
    }

    /// Reads the memory of the process and returns the stage; logs a change of the stage.
    pub(crate) fn look(&self) -> Stage {
        resident().map_or(Stage::Normal, |bytes| self.note(bytes))
    }

    /// Returns the number of bytes by which the process exceeds the threshold of `stage`.
    pub(crate) fn excess(&self, stage: Stage) -> usize {
        let percent = STAGES.iter().find(|(of, ..)| *of == stage).map_or(100, |(_, percent, _)| *percent);
        self.resident().saturating_sub(self.ceiling / 100 * percent)
    }

    fn note(&self, bytes: usize) -> Stage {
        self.resident.store(bytes, Ordering::Relaxed);
        let before = self.stage();
        let after = stage(bytes, self.ceiling, before);
        if after != before {
            self.stage.store(after as u8, Ordering::Relaxed);
            let (resident, ceiling) = (bytes, self.ceiling);
            match STAGES.iter().find(|(stage, ..)| *stage == after) {
                Some((_, _, what)) if after > before => {
                    tracing::warn!(resident, ceiling, stage = after as u8, "memory is short: {what}");
                }
                _ => tracing::info!(resident, ceiling, stage = after as u8, "memory is less short"),
            }
        }
        after
    }
}

/// Makes the allocator return freed memory to the system. Blocks the thread, for some milliseconds per 50 MiB.
///
/// mimalloc checks for memory to return when a block with its own mapping is freed, as are blocks of 32 MiB or more.
/// Otherwise it would keep the memory of large messages until there are other large ones. The block allocated here is
/// not written to, so that it takes addresses but no memory; other allocators map and unmap it.
pub(crate) fn return_freed() {
    const BLOCK: usize = 40 << 20;
    let mut block = Vec::<u8>::new();
    // Fails if the address space is limited; then nothing is returned.
    let _ = block.try_reserve_exact(BLOCK);
    std::hint::black_box(&block);
}

impl Stage {
    fn of(number: u8) -> Self {
        STAGES.iter().map(|(stage, ..)| *stage).find(|stage| *stage as u8 == number).unwrap_or_default()
    }
}

/// Returns the stage at `bytes`, coming from `before`.
fn stage(bytes: usize, ceiling: usize, before: Stage) -> Stage {
    let holds = |(stage, percent, _): &&(Stage, usize, &str)| {
        let percent = if *stage <= before { percent - HYSTERESIS_PERCENT } else { *percent };
        bytes / percent >= ceiling / 100
    };
    STAGES.iter().find(holds).map_or(Stage::Normal, |(stage, ..)| *stage)
}

/// Returns the memory available to the process: the least of what the machine has and its control groups allow.
fn available() -> Option<usize> {
    let machine = total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = group_limits(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    let limits = groups.into_iter().filter_map(|path| group_limit(&fs::read_to_string(path).ok()?));
    Some(limits.fold(machine, usize::min))
}

/// Returns the limit files of the control groups in /proc/self/cgroup, in versions 1 and 2, and of their ancestors,
/// all of which apply. In a container the names may be those outside it; the topmost group is then that of the
/// container.
fn group_limits(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        files.extend(above.map(|group| Path::new(root).join(group).join(file)));
    }
    files
}

/// Parses the limit of a control group. `max` means none, and so does the huge number that version 1 uses instead.
fn group_limit(text: &str) -> Option<usize> {
    text.trim().parse().ok()
}

/// Parses `MemTotal` of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1_024)
}

/// Returns the process's resident size in bytes; `None` if the system does not report it.
fn resident() -> Option<usize> {
    status(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Parses `VmRSS` of /proc/self/status, in bytes.
fn status(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::Stage::*;
    use super::*;

    #[test]
    fn stages_begin_in_order_and_end_below_their_threshold() {
        let ceiling = 1_000_000;
        let at = |percent: usize, before| stage(percent * 10_000, ceiling, before);
        let mut now = Stage::Normal;
        let mut seen = Vec::new();
        for percent in (80..=105).chain((80..=105).rev()) {
            now = at(percent, now);
            if seen.last().is_none_or(|(_, last)| *last != now) {
                seen.push((percent, now));
            }
        }
        assert_eq!(
            seen,
            [
                (80, Normal),
                (90, Connections),
                (93, Keeping),
                (95, QoS0),
                (97, Absent),
                (100, Offenders),
                (97, Absent),
                (94, QoS0),
                (92, Keeping),
                (90, Connections),
                (87, Normal),
            ]
        );
        assert_eq!(stage(usize::MAX / 2, usize::MAX, Normal), Normal, "no ceiling");
    }

    #[test]
    fn limits_are_read_as_the_system_writes_them() {
        let files = group_limits("12:cpu,memory:/docker/a\n3:cpuset:/x\n0::/user.slice/b.scope\n");
        let expected = [
            "/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/user.slice/b.scope/memory.max",
            "/sys/fs/cgroup/user.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
        assert_eq!(group_limit("max\n"), None);
        assert_eq!(group_limit("536870912\n"), Some(512 << 20));
        assert_eq!(total("MemTotal:       16316412 kB\nMemFree: 1 kB\n"), Some(16_316_412 << 10));
        assert_eq!(status("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(total("MemFree: 1 kB"), None);
    }

    #[test]
    fn a_configured_ceiling_applies_and_a_quarter_of_it_is_for_retained_messages() {
        let limits = Limits { memory_bytes: 1 << 40, ..Limits::default() };
        let memory = Memory::new(&limits);
        assert_eq!((memory.ceiling(), memory.retained_bytes), (1 << 40, 1 << 38));
        assert!(!memory.at(Stage::Connections));
        memory.note(1 << 40);
        assert!(memory.at(Stage::Offenders) && memory.at(Stage::Connections));
        assert!(memory.excess(Stage::Absent) > 0);
        memory.note(0);
        assert_eq!((memory.stage(), memory.excess(Stage::Connections)), (Stage::Normal, 0));
        let memory = Memory::new(&Limits { retained_bytes: 5, ..limits });
        assert_eq!(memory.retained_bytes, 5);
    }
}
