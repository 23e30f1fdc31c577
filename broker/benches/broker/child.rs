//! What this binary does when it runs itself: each thing measured is a process of its own.
//!
//! Every child says `ready ADDRESS PID` or `failed REASON` on stdout and ends when its stdin does. A bench that is killed
//! closes that pipe too, so nothing is left behind.

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

/// The first argument of a child; its role and the role's arguments follow.
pub(crate) const MARK: &str = "--as-child";
/// Our broker; an argument is its data directory.
pub(crate) const BROKER: &str = "broker";
/// Our broker; the argument is its configuration file.
pub(crate) const CONFIGURED: &str = "configured";
/// The same configuration on rumqttd.
pub(crate) const RUMQTTD: &str = "rumqttd";
/// The TCP relay.
pub(crate) const RELAY: &str = "relay";
/// Starts the program in its arguments and ends it when its own stdin ends.
pub(crate) const GUARD: &str = "guard";

/// How long a program under guard may take to write its state and stop.
const STOPPING: Duration = Duration::from_mins(1);

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
            // The parent reports it; if the parent is gone nobody has to know.
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
        // An error would mean that the thread reading stdin is gone, and so is the parent.
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
    // TERM, not KILL: a broker with persistence writes its state now.
    let pid = Pid::from_raw(child.id().cast_signed());
    let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
    let deadline = Instant::now() + STOPPING;
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
        // The receiver is gone only when the child is ending anyway.
        let _ = sender.send(());
    });
    receiver
}

fn wait_for_stdin() {
    let mut stdin = io::stdin().lock();
    // Nobody writes here: the read returns when the parent has closed its end, or is gone.
    while stdin.read(&mut [0; 16]).is_ok_and(|read| read > 0) {}
}
