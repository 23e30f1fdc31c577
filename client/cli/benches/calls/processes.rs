//! Processes of a run, killed when they are dropped.

use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rantai_load::machine;

/// Process, and the rest of the line that it was waited for.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) said: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts a process, and waits until `words` has appeared in `times` lines of its stderr.
    fn start(mut command: Command, words: &str, times: usize) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (mut said, mut seen) = (String::new(), 0);
        while seen < times {
            let Some(line) = lines.next() else {
                return Err(io::Error::other(format!("{command:?} ended early: {said}")));
            };
            let line = line?;
            if let Some((_, rest)) = line.split_once(words) {
                seen += 1;
                rest.trim().clone_into(&mut said);
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, said })
    }

    /// Starts our broker; returns its URL too.
    pub(crate) fn broker() -> io::Result<(Self, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rantai"));
        command.args(["broker", "--quiet", "--port", "0"]);
        let process = Self::start(command, "listening on ", 1)?;
        let url = format!("mqtt://{}", process.said);
        Ok((process, url))
    }

    /// Starts a node with the objects `names` of the configuration `file`, which may be a built-in one.
    pub(crate) fn node(url: &str, file: impl AsRef<Path>, names: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rantai"));
        let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(file);
        command.args(["serve", "--quiet", "--broker", url, "--config"]).arg(file).args(names);
        Self::start(command, "serving ", names.len())
    }

    /// Starts a client that waits for events that nobody sends.
    pub(crate) fn watch(url: &str) -> io::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rantai"));
        command.args(["watch", "nobody", "--broker", url]);
        Self::start(command, "watching ", 1)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns a field of `/proc/PID/status`, in KiB.
    pub(crate) fn memory(&self, field: &str) -> io::Result<u64> {
        memory(self.child.id(), field)
    }

    /// Starts the relay, with a client at its far end; returns its address too.
    pub(crate) fn relay(role: &str) -> io::Result<(Vec<Self>, String)> {
        let this = std::env::current_exe()?;
        let child = |role: &str, address: &str| {
            let mut command = Command::new(&this);
            command.args([super::relay::MARK, role, address]);
            Self::start(command, "listening on ", 1)
        };
        let relay = child("relay", "-")?;
        let address = relay.said.clone();
        let responder = child(role, &address)?;
        Ok((vec![relay, responder], address))
    }

    /// Creates the command for Pyro5's circular chain and its client, which prints a line for each measured trip time
    /// in microseconds.
    pub(crate) fn pyro(python: &Path) -> Command {
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/calls/pyro_chain.py"));
        command
    }
}

/// Returns a field of `/proc/PID/status`, in KiB.
pub(crate) fn memory(pid: u32, field: &str) -> io::Result<u64> {
    let number = machine::status_kib(pid, field);
    number.ok_or_else(|| io::Error::other(format!("no {field} in the status of process {pid}")))
}
