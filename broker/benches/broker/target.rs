//! Targets of measurements, and how each is started and stopped.

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

/// Maximum time until a process without state to restore answers after its start.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of consecutive failed starts, by target. After several, no further start is attempted, because the timeouts
/// would add up to half an hour.
static START_FAILURES: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
/// Maximum time for a child to exit.
const STOP_TIMEOUT: Duration = Duration::from_secs(70);

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
    /// The broker has a core of its own: for the latency of single messages.
    Apart,
    /// The scheduler decides: for throughput, which may be best with everything on one core.
    Shared,
}

/// Running target, ended on drop.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// Process id of the broker, not of its guard.
    pub(crate) pid: u32,
    // Folder of mosquitto's configuration, kept while it runs.
    _config: Option<TempDir>,
}

impl Server {
    /// Starts the target, and waits until it answers a CONNECT. With `data_dir`, it persists its state there.
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
        // Only a process that has state to restore may take longer.
        let limit = if data_dir.is_some() { deadline } else { deadline.min(Instant::now() + START_TIMEOUT) };
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
                // The port is free at this moment; mosquitto does not report its port if it is given 0.
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

    /// Starts this program in another role, and waits until it reports that it is ready. `config` is kept while it
    /// runs.
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

    /// Returns the resident memory of the broker's process, in bytes.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        machine::resident(self.pid)
    }

    /// Stops the target and waits until it has exited.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        if self.end()? { Ok(()) } else { Err(Failure::new("it did not stop when told to")) }
    }

    fn end(&mut self) -> Result<bool, Failure> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + STOP_TIMEOUT;
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

/// Returns the address and process id in the child's `ready` line. The line is read by a thread, so that a silent
/// child causes a timeout and does not block the benchmark.
fn announced(
    stdout: impl std::io::Read + Send + 'static,
    deadline: Instant,
) -> Result<(SocketAddr, u32), Failure> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        // If the pipe cannot be read, the line is empty, which is reported.
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

/// Returns the path of mosquitto; some distributions install it outside a user's PATH.
pub(crate) fn mosquitto() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/opt/homebrew/sbin".into()])
        .map(|directory| directory.join("mosquitto"))
        .find(|program| program.is_file())
}

/// Returns a configuration for speed, with which mosquitto neither drops nor delays messages in flight.
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
