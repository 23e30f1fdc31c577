//! Client in another language: a process that executes each line that it reads, and replies with the latencies of its calls.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use rantai_load::closed::Calls;
use rantai_load::failure::Failure;
use rantai_load::latencies::Latencies;

use crate::load::{Outcome, Plan};
use crate::process::Process;

/// Process of the client.
pub(crate) struct Script {
    process: Process,
}

impl Script {
    /// Starts the process, and waits until it writes `reading`.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        Ok(Self { process: Process::faithful(command.stdout(Stdio::piped()), "reading")? })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Sends lines that have no reply.
    pub(crate) fn say(&mut self, lines: &str) -> Result<(), Failure> {
        let (question, _) = self.process.ends().ok_or_else(|| Failure::new("the client has no pipes"))?;
        question.write_all(lines.as_bytes())?;
        Ok(question.flush()?)
    }

    /// Sends a load, followed by the two times of the plan in seconds, and returns the result.
    pub(crate) fn calls(&mut self, load: &str, plan: Plan) -> Result<Outcome, Failure> {
        self.say(&format!("{load} {} {}\n", plan.warm_up.as_secs_f64(), plan.length.as_secs_f64()))?;
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
        let mut calls = Calls { latencies: Latencies::new(), made: made as u64 };
        for eight in bytes.as_chunks().0 {
            calls.latencies.record(Duration::from_nanos(u64::from_ne_bytes(*eight)));
        }
        Ok(Outcome::of(&calls, plan))
    }
}
