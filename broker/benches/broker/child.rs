//! Roles of this binary as a child process: everything that is measured has its own process.
//!
//! Every child prints `ready ADDRESS PID` or `failed REASON` on stdout, and exits when its stdin is closed, which also
//! happens when the benchmark is killed.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rantai_broker::{Broker, Config, Engine};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::relay;

/// First argument of a child; followed by its role and the role's arguments.
pub(crate) const MARK: &str = "--as-child";
/// Role: Rantai's broker; the argument is its data directory.
pub(crate) const BROKER: &str = "broker";
/// Role: Rantai's broker; the argument is its configuration file.
pub(crate) const CONFIGURED: &str = "configured";
/// Role: rumqttd with the same configuration.
pub(crate) const RUMQTTD: &str = "rumqttd";
/// Role: the TCP relay.
pub(crate) const RELAY: &str = "relay";
/// Role: starts the program in the arguments, and ends it when stdin is closed.
pub(crate) const GUARD: &str = "guard";

/// Maximum time for a guarded program to save its state and stop.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) fn run(role: &str, arguments: &[String]) -> ExitCode {
    let outcome = match role {
        BROKER => broker(on_free_port(Engine::Rantai, arguments)),
        RUMQTTD => broker(on_free_port(Engine::Rumqttd, arguments)),
        CONFIGURED => configuration(arguments).and_then(broker),
        RELAY => relay(),
        GUARD => guard(arguments),
        _ => Err(io::Error::other(format!("no role {role}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Fails if the parent is gone, which then needs no report.
            let _ = writeln!(io::stdout(), "failed {error}");
            ExitCode::FAILURE
        }
    }
}

fn on_free_port(engine: Engine, arguments: &[String]) -> Config {
    Config { data_dir: arguments.first().map(PathBuf::from), engine, ..Config::on_free_port() }
}

fn configuration(arguments: &[String]) -> io::Result<Config> {
    let path = arguments.first().ok_or_else(|| io::Error::other("no configuration file is named"))?;
    Config::load(path).map_err(io::Error::other)
}

fn broker(config: Config) -> io::Result<()> {
    runtime()?.block_on(async {
        let stopped = stdin_ended();
        let broker = Broker::start(config).await.map_err(io::Error::other)?;
        let address = broker.addresses().first().copied();
        ready(address.ok_or_else(|| io::Error::other("the broker listens nowhere"))?, std::process::id())?;
        // Fails if the thread that reads stdin has ended, which means that the parent is gone.
        let _ = stopped.await;
        broker.shutdown().await;
        Ok(())
    })
}

fn relay() -> io::Result<()> {
    runtime()?.block_on(async {
        let stopped = stdin_ended();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        ready(listener.local_addr()?, std::process::id())?;
        tokio::select! {
            served = relay::serve(listener) => served,
            _ = stopped => Ok(()),
        }
    })
}

fn guard(arguments: &[String]) -> io::Result<()> {
    let [address, program, arguments @ ..] = arguments else {
        return Err(io::Error::other("the guard needs an address and a program"));
    };
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    ready(address, child.id())?;
    wait_for_stdin();
    // TERM instead of KILL, so that a broker with persistence saves its state.
    let pid = Pid::from_raw(child.id().cast_signed());
    let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
    let deadline = Instant::now() + STOP_TIMEOUT;
    while asked && Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn ready(address: SocketAddr, pid: u32) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ready {address} {pid}")?;
    stdout.flush()
}

fn stdin_ended() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        wait_for_stdin();
        // Fails only if the child is already ending.
        let _ = sender.send(());
    });
    receiver
}

fn wait_for_stdin() {
    let mut stdin = io::stdin().lock();
    // Nothing is written to this pipe: the read returns when the parent has closed its end or has died.
    while stdin.read(&mut [0; 16]).is_ok_and(|read| read > 0) {}
}
