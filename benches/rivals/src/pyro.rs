//! Pyro5, in Python: servers and client are separate processes, and each thread of the client has its own proxy.

use std::path::Path;
use std::process::{Command, Stdio};

use rantai_load::failure::Failure;

use crate::load::{Outcome, Plan};
use crate::process::Process;
use crate::script::Script;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pyro.py");

/// Client process.
pub(crate) struct Pyro(Script);

impl Pyro {
    pub(crate) fn client(python: &Path) -> Result<Self, Failure> {
        Ok(Self(Script::start(Command::new(python).args([SCRIPT, "client"]))?))
    }

    /// Starts a server in one of the script's roles; its `said` is its URI.
    pub(crate) fn server(python: &Path, role: &[&str]) -> Result<Process, Failure> {
        let mut command = Command::new(python);
        command.arg(SCRIPT).args(role).stdout(Stdio::null());
        Process::faithful(&mut command, "serving ")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Connects three links to a ring.
    pub(crate) fn join(&mut self, uris: [&str; 3]) -> Result<(), Failure> {
        let [a, b, c] = uris;
        self.0.say(&format!("join {a} {b}\njoin {b} {c}\njoin {c} {a}\n"))
    }

    /// Measures calls; `what` is `echo` or `chain`.
    pub(crate) fn calls(
        &mut self,
        what: &str,
        uri: &str,
        callers: usize,
        plan: Plan,
    ) -> Result<Outcome, Failure> {
        self.0.calls(&format!("{what} {uri} {callers}"), plan)
    }
}
