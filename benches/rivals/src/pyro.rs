//! Pyro5, in Python: its servers and its client are processes of their own, each thread of the client with a proxy of
//! its own.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::failure::Failure;
use crate::load::{self, Outcome, Plan};
use crate::process::Process;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pyro.py");

/// The client.
pub(crate) struct Pyro {
    process: Process,
}

impl Pyro {
    pub(crate) fn client(python: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(python);
        command.args([SCRIPT, "client"]).stdout(Stdio::piped());
        Ok(Self { process: Process::faithful(&mut command, "reading")? })
    }

    /// A server in one of the script's roles; what it says is its URI.
    pub(crate) fn server(python: &Path, role: &[&str]) -> Result<Process, Failure> {
        let mut command = Command::new(python);
        command.arg(SCRIPT).args(role).stdout(Stdio::null());
        Process::faithful(&mut command, "serving ")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Makes of three links a ring.
    pub(crate) fn join(&mut self, uris: [&str; 3]) -> Result<(), Failure> {
        let [a, b, c] = uris;
        self.say(&format!("join {a} {b}\njoin {b} {c}\njoin {c} {a}\n"))
    }

    /// `what` is `echo` or `chain`.
    pub(crate) fn calls(
        &mut self,
        what: &str,
        uri: &str,
        callers: usize,
        plan: Plan,
    ) -> Result<Outcome, Failure> {
        let seconds = |time: Duration| time.as_secs_f64();
        self.say(&format!("{what} {uri} {callers} {} {}\n", seconds(plan.warm_up), seconds(plan.length)))?;
        let (_, answer) = self.process.ends().ok_or_else(|| Failure::new("the client has no pipes"))?;
        let mut head = Vec::new();
        while head.last() != Some(&b'\n') {
            let mut byte = [0];
            answer.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head);
        let mut numbers = head.split_whitespace().map(|word| word.parse::<usize>().ok());
        let (Some(Some(made)), Some(Some(counted))) = (numbers.next(), numbers.next()) else {
            return Err(Failure::new(format!("the client said {head:?}")));
        };
        let mut bytes = vec![0; counted * 8];
        answer.read_exact(&mut bytes)?;
        let times: Vec<u64> = bytes.as_chunks().0.iter().map(|eight| u64::from_ne_bytes(*eight)).collect();
        Ok(load::outcome(&times, made as u64, plan))
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        let (question, _) = self.process.ends().ok_or_else(|| Failure::new("the client has no pipes"))?;
        question.write_all(line.as_bytes())?;
        Ok(question.flush()?)
    }
}
