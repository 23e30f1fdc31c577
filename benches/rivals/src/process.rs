//! Child processes of a comparison, which end on drop.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rantai_load::failure::Failure;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::child;

/// Time limit for a program to become ready.
const STARTING: Duration = Duration::from_secs(10);

/// Child process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Process id of the program, not of its guard.
    pub(crate) pid: u32,
    /// Rest of the output line that reported readiness.
    pub(crate) said: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("process {} cannot be waited for: {error}", self.pid);
        }
    }
}

impl Process {
    /// Starts a program under guard. It is ready once `word` has occurred in `times` lines of its stderr.
    pub(crate) fn guarded<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
        word: &str,
        times: usize,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        command.args([child::MARK, child::GUARD]).arg(program).args(arguments);
        Self::start(command.stdout(Stdio::piped()), true, word, times)
    }

    /// Starts this program in one of its child roles.
    pub(crate) fn role(arguments: &[&str], word: &str) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(child::MARK).args(arguments);
        Self::start(command.stdout(Stdio::piped()), true, word, 1)
    }

    /// Starts a program that exits by itself when its stdin is closed.
    pub(crate) fn faithful(command: &mut Command, word: &str) -> Result<Self, Failure> {
        Self::start(command, false, word, 1)
    }

    fn start(command: &mut Command, guarded: bool, word: &str, times: usize) -> Result<Self, Failure> {
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut process = Self { pid: child.id(), child, said: String::new() };
        if guarded {
            let mut pid = String::new();
            BufReader::new(process.child.stdout.take().expect("stdout is piped")).read_line(&mut pid)?;
            process.pid =
                pid.trim().parse().map_err(|_| Failure::new(format!("{command:?} did not start")))?;
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        // Reads until the end, so that the program never blocks on writing.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + STARTING;
        let (mut seen, mut last) = (0, String::new());
        while seen < times {
            let Ok(line) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
                return Err(Failure::new(format!("{command:?} is not ready; it said last: {last}")));
            };
            if let Some((_, rest)) = line.split_once(word) {
                seen += 1;
                rest.trim().clone_into(&mut process.said);
            }
            last = line;
        }
        Ok(process)
    }

    /// Returns stdin and stdout, if both are pipes.
    pub(crate) fn ends(&mut self) -> Option<(&mut ChildStdin, &mut ChildStdout)> {
        Some((self.child.stdin.as_mut()?, self.child.stdout.as_mut()?))
    }
}

/// Returns the CPU time of a process so far, in microseconds, with the resolution of clock ticks: proc(5), fields 14 and
/// 15 of `stat`.
pub(crate) fn cpu_time(pid: u32) -> Result<f64, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses, which may contain any characters.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
    let ticks: Option<u64> =
        fields.and_then(|fields| fields.skip(11).take(2).map(|field| field.parse::<u64>().ok()).sum());
    let ticks = ticks.ok_or_else(|| Failure::new(format!("the CPU time of process {pid} cannot be read")))?;
    Ok(ticks as f64 * 1e6 / rustix::param::clock_ticks_per_second() as f64)
}

/// Returns the CPU time of all processes on all cores so far, in microseconds: proc(5), first line of `/proc/stat`.
pub(crate) fn cpu_time_of_all() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks: Vec<u64> = stat.lines().next().map_or_else(Vec::new, |line| {
        line.split_whitespace().skip(1).map_while(|ticks| ticks.parse().ok()).collect()
    });
    // User, nice, system, then idle and waiting for I/O, then hardware and software interrupts.
    let [user, nice, system, _, _, hard, soft, ..] = ticks[..] else {
        return Err(Failure::new("/proc/stat cannot be read"));
    };
    Ok((user + nice + system + hard + soft) as f64 * 1e6 / rustix::param::clock_ticks_per_second() as f64)
}

/// Returns the cores that this process may use.
pub(crate) fn cores() -> Result<CpuSet, Failure> {
    Ok(sched_getaffinity(None).map_err(std::io::Error::from)?)
}

/// Returns only the first of these cores.
pub(crate) fn first(cores: &CpuSet) -> CpuSet {
    let mut one = CpuSet::new();
    if let Some(first) = (0..CpuSet::MAX_CPU).find(|core| cores.is_set(*core)) {
        one.set(first);
    }
    one
}

/// Restricts a process to these cores, including all its current threads and those that they start later.
pub(crate) fn confine(pid: u32, cores: &CpuSet) -> Result<(), Failure> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.file_name().to_str().and_then(|task| task.parse().ok()).and_then(Pid::from_raw);
        match sched_setaffinity(task, cores) {
            // The thread has ended since.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
    Ok(())
}

/// Finds a program; some distributions install programs outside a user's PATH.
pub(crate) fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|program| program.is_file())
}

/// Returns the first line of a program's version output.
pub(crate) fn version(program: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().trim().to_owned()
}
