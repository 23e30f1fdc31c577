//! Which cores the two sides of a measurement use.
//!
//! Left to the scheduler, caller, broker and responder end up on one core in one round and apart in the
//! next, and a round trip takes 27 or 65 µs by that alone. So where single messages are timed the broker
//! gets a core of its own, and the load the others.

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::LazyLock;

    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// The cores this process was started with, in order.
    static CORES: LazyLock<Vec<usize>> = LazyLock::new(|| {
        let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
    });

    fn confine(process: Option<Pid>, cores: &[usize]) {
        let mut set = CpuSet::new();
        for core in cores {
            set.set(*core);
        }
        // Where it is not permitted the scheduler decides: noisier numbers, but numbers.
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

/// Lets this thread, and what it starts from now on, run anywhere.
pub(crate) fn share() {
    #[cfg(target_os = "linux")]
    linux::share();
}

/// Gives the broker the last core, and this thread and those it starts from now on the others. With one
/// core there is nothing to give.
pub(crate) fn separate(broker: u32) {
    #[cfg(target_os = "linux")]
    linux::separate(broker);
    #[cfg(not(target_os = "linux"))]
    let _ = broker;
}

/// Lets every other thread of the load go first. On one core, whoever writes without pause would hold up the
/// thread whose wait is measured, and the faster the broker the more.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    {
        // Where it is refused the thread stays as it was.
        let _ = rustix::process::nice(19);
    }
}
