//! Cores used by the broker and by the load.
//!
//! If the scheduler decides, caller, broker and responder are on one core in one round and on different ones in the
//! next, which alone changes a round trip from 27 to 65 µs. Therefore, when the time of single messages is measured,
//! the broker gets a core of its own, and the load the others.

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::LazyLock;

    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// Cores that this process may use at its start, in order.
    static CORES: LazyLock<Vec<usize>> = LazyLock::new(|| {
        let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
    });

    fn confine(process: Option<Pid>, cores: &[usize]) {
        let mut set = CpuSet::new();
        for core in cores {
            set.set(*core);
        }
        // If this is not permitted, the scheduler decides and the results vary more.
        let _ = sched_setaffinity(process, &set);
    }

    pub(crate) fn share() {
        if !CORES.is_empty() {
            confine(None, &CORES);
        }
    }

    pub(crate) fn separate(broker: u32) {
        if let [load @ .., own] = &CORES[..]
            && !load.is_empty()
        {
            confine(Pid::from_raw(broker.cast_signed()), &[*own]);
            confine(None, load);
        }
    }
}

/// Lets this thread, and everything started from it, run on all cores.
pub(crate) fn share() {
    #[cfg(target_os = "linux")]
    linux::share();
}

/// Gives the broker the last core, and this thread and those started from it the others. Does nothing with a single
/// core.
pub(crate) fn separate(broker: u32) {
    #[cfg(target_os = "linux")]
    linux::separate(broker);
    #[cfg(not(target_os = "linux"))]
    let _ = broker;
}

/// Lowers the priority of this thread. On a single core, a thread that writes without pause would otherwise delay the
/// thread whose wait is measured, the more the faster the broker is.
pub(crate) fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        // If this fails, the priority is unchanged.
        let _ = rustix::process::nice(19);
    }
}
