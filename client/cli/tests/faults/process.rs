//! Processes that are killed, stopped and restarted.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rantai_disk_faults::Control;
use rustix::process::{Pid, Signal, kill_process};

/// Process that can be restarted with the same command.
pub(crate) struct Process {
    pub(crate) name: String,
    disk: Option<Disk>,
    command: Box<dyn Fn() -> Command + Send>,
    child: Child,
    started: Instant,
}

/// Disk that can fail.
pub(crate) struct Disk {
    pub(crate) control: Control,
    /// Library that the process must preload for it.
    pub(crate) library: PathBuf,
}

impl Process {
    pub(crate) fn start(
        name: &str,
        disk: Option<Disk>,
        command: impl Fn() -> Command + Send + 'static,
    ) -> Self {
        let child = spawn(name, disk.as_ref(), command());
        Self { name: name.to_owned(), disk, command: Box::new(command), child, started: Instant::now() }
    }

    /// Returns the control of its disk, if that can fail.
    pub(crate) fn disk(&self) -> Option<&Control> {
        self.disk.as_ref().map(|disk| &disk.control)
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn again(&mut self) {
        self.child = spawn(&self.name, self.disk.as_ref(), (self.command)());
        self.started = Instant::now();
    }

    /// Returns the time since its start.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns how it has ended by itself, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().expect("a child").map(|status| status.to_string())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = kill_process(id.expect("a process"), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(name: &str, disk: Option<&Disk>, mut command: Command) -> Child {
    if let Some(disk) = disk {
        disk.control.preload(&mut command, &disk.library);
    }
    command.stdin(Stdio::null()).stdout(log(name)).stderr(log(name)).spawn().expect("it starts")
}

/// Returns the destination of its output: none, unless `RANTAI_FAULTS_LOGS` is set.
fn log(name: &str) -> Stdio {
    let Some(folder) = std::env::var_os("RANTAI_FAULTS_LOGS") else { return Stdio::null() };
    let file =
        File::options().append(true).create(true).open(PathBuf::from(folder).join(format!("{name}.log")));
    file.expect("the folder of RANTAI_FAULTS_LOGS has to be there").into()
}
