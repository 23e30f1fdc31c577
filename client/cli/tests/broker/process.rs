//! A broker in a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No wait in these tests is longer.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// `rantai broker`, killed when dropped.
pub(crate) struct Broker {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    pub(crate) address: SocketAddr,
}

/// The command on a free port, with a data directory where one is given.
pub(crate) fn command(data_dir: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rantai"));
    command.args(["broker", "--port", "0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(dir) = data_dir {
        command.arg("--data-dir").arg(dir);
    }
    command
}

impl Broker {
    pub(crate) fn start(data_dir: Option<&Path>) -> Self {
        Self::spawn(command(data_dir))
    }

    /// Starts it and waits until it says where it listens.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    // Read on all the same: a full pipe would hold the broker up.
                }
            }
        });
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut broker = Self { child, lines, log: Vec::new(), address: unknown };
        let line = broker.wait_for("listening on ");
        let address = line.split("listening on ").nth(1).expect("just found").trim();
        broker.address = address.parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
        broker
    }

    /// The first line, from the start, that has `text` in it.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        if let Some(line) = self.log.iter().find(|l| l.contains(text)) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.log.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?} in time; stderr: {:#?}", self.log),
                Err(RecvTimeoutError::Disconnected) => panic!("no {text:?}; stderr: {:#?}", self.log),
            }
        }
    }

    /// Every line so far.
    pub(crate) fn log(&mut self) -> &[String] {
        self.log.extend(self.lines.try_iter());
        &self.log
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the broker runs");
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Its exit status, and how long that took; everything it said is read by then.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let ended = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break (status, start.elapsed());
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(2));
        };
        // Its last lines may still be on their way through the thread that reads them.
        while let Ok(line) = self.lines.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
            self.log.push(line);
        }
        ended
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
