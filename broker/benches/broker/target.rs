//! What is measured, and how each of them is started and stopped.

use std::env;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rantai_load::connection::Connection;
use rantai_load::failure::Failure;
use tempfile::TempDir;

use crate::child;
use crate::cores;
use crate::machine;

/// How long a process with nothing to restore may take until it answers.
const STARTING: Duration = Duration::from_secs(5);
/// By target: starts that failed, one after the other. Waiting for each again would take half an hour.
static START_FAILURES: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
/// How long a child may take to end once it was told to.
const STOPPING: Duration = Duration::from_secs(70);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Rantai,
    Mosquitto,
    Rumqttd,
    Relay,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rantai => "rantai",
            Self::Mosquitto => "mosquitto",
            Self::Rumqttd => "rumqttd",
            Self::Relay => "TCP relay",
        })
    }
}

/// Whether broker and load share the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    /// The broker has one for itself: for the time that one message takes.
    Apart,
    /// The scheduler decides: for rates, which packing all on one core may well serve best.
    Shared,
}

/// A running target. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// Of the broker, not of its guard.
    pub(crate) pid: u32,
    // Holds mosquitto's configuration while it runs.
    _config: Option<TempDir>,
}

impl Server {
    /// Starts it and waits until it answers a CONNECT. With `data_dir` it keeps its state there.
    pub(crate) fn start(
        target: Target,
        data_dir: Option<&Path>,
        cores: Cores,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let failures = &START_FAILURES[target as usize];
        if failures.load(Ordering::Relaxed) >= 2 {
            return Err(Failure::new(format!("{target} did not start twice before")));
        }
        // Restoring a large state takes its time; a process with nothing to restore does not.
        let limit = if data_dir.is_some() { deadline } else { deadline.min(Instant::now() + STARTING) };
        let server = Self::spawn(target, data_dir, cores, limit)
            .map_err(|failure| failure.during(&format!("{target} did not start")));
        match &server {
            Ok(_) => failures.store(0, Ordering::Relaxed),
            Err(_) if data_dir.is_none() => {
                failures.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        server
    }

    fn spawn(
        target: Target,
        data_dir: Option<&Path>,
        cores: Cores,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        cores::share();
        let mut command = Command::new(env::current_exe()?);
        command.arg(child::MARK);
        let mut config = None;
        match target {
            Target::Rantai => command.arg(child::BROKER).args(data_dir),
            Target::Rumqttd => command.arg(child::RUMQTTD).args(data_dir),
            Target::Relay => command.arg(child::RELAY),
            Target::Mosquitto => {
                let program = mosquitto().ok_or_else(|| Failure::new("mosquitto is not installed"))?;
                let directory = tempfile::tempdir()?;
                // Free at this moment; mosquitto cannot say which port it took if it is given 0.
                let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
                let path = directory.path().join("mosquitto.conf");
                std::fs::write(&path, mosquitto_config(address.port(), data_dir))?;
                config = Some(directory);
                command.arg(child::GUARD).arg(address.to_string()).arg(program).arg("-c").arg(path)
            }
        };
        let server = match target {
            Target::Relay => Self::launch(command, config, deadline)?,
            _ => Self::launch_broker(command, config, deadline)?,
        };
        if cores == Cores::Apart {
            cores::separate(server.pid);
        }
        Ok(server)
    }

    /// Starts this program in another role, and waits until it says that it is ready. Keeps `config` while it runs.
    fn launch(mut command: Command, config: Option<TempDir>, deadline: Instant) -> Result<Self, Failure> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut server =
            Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), pid: 0, _config: config };
        (server.address, server.pid) = announced(stdout, deadline)?;
        Ok(server)
    }

    /// Starts a broker by this program in another role, and waits until it answers a CONNECT.
    pub(crate) fn launch_broker(
        command: Command,
        config: Option<TempDir>,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let mut server = Self::launch(command, config, deadline)?;
        server.wait_until_it_answers(deadline)?;
        Ok(server)
    }

    fn wait_until_it_answers(&mut self, deadline: Instant) -> Result<(), Failure> {
        loop {
            let Err(failure) = Connection::mqtt(self.address, "bench-probe", deadline) else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(failure);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(Failure::new(format!("it ended with {status}")));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resident memory of the broker's process, in bytes.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        machine::resident(self.pid)
    }

    /// Tells it to stop and waits until it has.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        if self.end()? { Ok(()) } else { Err(Failure::new("it did not stop when told to")) }
    }

    fn end(&mut self) -> Result<bool, Failure> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + STOPPING;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(false)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(failure) = self.end() {
            eprintln!("a child could not be ended: {failure}");
        }
    }
}

/// The address and process id in the child's `ready` line. A thread reads it, so that a child which says
/// nothing costs a deadline and not the bench.
fn announced(
    stdout: impl std::io::Read + Send + 'static,
    deadline: Instant,
) -> Result<(SocketAddr, u32), Failure> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        // An unreadable pipe leaves the line empty, which is reported as such.
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = receiver
        .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .map_err(|_| Failure::new("it was not ready in time"))?;
    if let Some(reason) = line.strip_prefix("failed ") {
        return Err(Failure::new(reason.trim()));
    }
    let mut words = line.split_whitespace();
    match (words.next(), words.next().map(str::parse), words.next().map(str::parse)) {
        (Some("ready"), Some(Ok(address)), Some(Ok(pid))) => Ok((address, pid)),
        _ => Err(Failure::new("it ended before it was ready")),
    }
}

/// Where mosquitto is; distributions put it outside a user's PATH.
pub(crate) fn mosquitto() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/opt/homebrew/sbin".into()])
        .map(|directory| directory.join("mosquitto"))
        .find(|program| program.is_file())
}

/// Set for speed, and so that it neither drops nor holds back what the load has in flight.
fn mosquitto_config(port: u16, data_dir: Option<&Path>) -> String {
    let persistence = data_dir.map_or_else(
        || "persistence false\n".to_owned(),
        |directory| format!("persistence true\npersistence_location {}/\n", directory.display()),
    );
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n\
         max_inflight_messages 0\nset_tcp_nodelay true\nlog_type none\n{persistence}"
    )
}
