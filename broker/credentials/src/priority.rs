//! Priority of threads that compute.

/// Nice value of the threads, lower in priority than the others: they get at least a quarter of a core while every core
/// is busy, and all idle time otherwise.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Lowers the priority of the calling thread below that of the threads that route messages. On Linux a priority belongs to a
/// thread; elsewhere, and if the system refuses, the thread keeps its priority.
pub fn lower_priority() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}
