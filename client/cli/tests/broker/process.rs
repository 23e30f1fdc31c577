//! Broker as a process.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rantai_testing::{Place, Transport, note_kept, socket_path};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

/// Time limit of every wait in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// `rantai broker`, killed when dropped.
pub(crate) struct Broker {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    pub(crate) place: Place,
}

/// Creates the command of a broker on a free port, with a data directory if one is given.
pub(crate) fn command(data_dir: Option<&Path>) -> Command {
    let mut command = command_without_port(data_dir);
    command.args(["--port", "0"]);
    command
}

fn command_without_port(data_dir: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rantai"));
    command.arg("broker").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(dir) = data_dir {
        command.arg("--data-dir").arg(dir);
    }
    command
}

impl Broker {
    /// Starts a broker on the transport under test.
    pub(crate) fn start(data_dir: Option<&Path>) -> Self {
        let transport = Transport::chosen();
        if transport == Transport::Tcp {
            return Self::spawn_by(command(data_dir), transport);
        }
        let place = match transport {
            Transport::Unix => socket_path().display().to_string(),
            _ => "127.0.0.1:0".to_owned(),
        };
        let mut config = NamedTempFile::new().expect("a file");
        config.write_all(transport.listener(&place).as_bytes()).expect("written");
        let mut command = command_without_port(data_dir);
        command.arg("--config").arg(config.path());
        Self::spawn_by(command, transport)
    }

    /// Starts a broker by the test's own command, which listens on TCP.
    pub(crate) fn spawn(command: Command) -> Self {
        note_kept("the command of its broker is its own");
        Self::spawn_by(command, Transport::Tcp)
    }

    /// Starts it, and waits until it prints its address.
    fn spawn_by(mut command: Command, transport: Transport) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    // Reads on, because a full pipe would block the broker.
                }
            }
        });
        let unknown = Place::socket("unknown".into());
        let mut broker = Self { child, lines, log: Vec::new(), place: unknown };
        let line = broker.wait_for("listening on ");
        let place = line.split("listening on ").nth(1).expect("just found").trim();
        broker.place = match place.strip_prefix("unix:") {
            Some(path) => Place::socket(path.into()),
            None => Place::new(transport, place.parse().expect("an address")),
        };
        broker
    }

    /// Waits for a line that contains `text`; returns the first one since the start.
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

    /// Returns all lines so far.
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

    /// Waits for the end of the process; returns its exit status and the waiting time. All its output was read then.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let ended = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break (status, start.elapsed());
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(2));
        };
        // The last lines may still be in the channel of the reading thread.
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
