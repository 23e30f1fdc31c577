//! Broker in a process of its own, so that memory, open files and panics can be attributed to it.

use std::io::{BufRead, BufReader, Read};
use std::net::ToSocketAddrs;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rantai_broker::Config;
use rantai_testing::{Place, Transport};

use crate::client::STEP_TIMEOUT;
use crate::listen;

const SERVE: &str = "RANTAI_HARD_SERVE";
const LISTENING: &str = "listening on ";

/// In a process started by [`Target::start`], serves until stdin is closed and exits; any panic is a failure. Does
/// nothing in other processes.
pub(crate) fn serve_if_asked(config: impl FnOnce() -> Config) {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        print(panic);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (broker, place) = listen::start(config()).await.expect("the broker starts");
        println!("{LISTENING}{place}");
        let (end, ended) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read(&mut [0]);
            end.send(())
        });
        ended.await.expect("standard input ends");
        broker.shutdown().await;
    });
    let panics = PANICS.load(Ordering::SeqCst);
    if panics > 0 {
        eprintln!("{panics} panics in the broker");
    }
    std::process::exit(i32::from(panics > 0));
}

/// Broker under test: Rantai's in another process, or the one at `RANTAI_TEST_BROKER` (host:port).
pub(crate) struct Target {
    place: Place,
    process: Option<(Child, BufReader<ChildStdout>)>,
}

impl Target {
    /// Starts the process by running the test `name` again, which calls [`serve_if_asked`] first.
    pub(crate) fn start(name: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        Self::start_by(Command::new(program), name)
    }

    /// Same as [`start`](Self::start), with a limit of file descriptors.
    pub(crate) fn start_with_descriptors(name: &str, most: usize) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]);
        shell.arg(std::env::current_exe().expect("this program has a path"));
        Self::start_by(shell, name)
    }

    #[expect(clippy::zombie_processes, reason = "`stop` and `drop` wait for it")]
    fn start_by(mut command: Command, name: &str) -> Self {
        if let Ok(address) = std::env::var("RANTAI_TEST_BROKER") {
            eprintln!("against {address}: its memory, files and panics are not looked at");
            let address = address.to_socket_addrs().ok().and_then(|mut all| all.next());
            let address = address.expect("RANTAI_TEST_BROKER is host:port");
            return Self { place: Place::new(Transport::chosen(), address), process: None };
        }
        let mut child = command
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(SERVE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs again");
        let mut output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut line = String::new();
        loop {
            line.clear();
            let count = output.read_line(&mut line).expect("the broker's output is text");
            assert!(count > 0, "the broker did not start");
            if let Some((_, place)) = line.split_once(LISTENING) {
                let place = place.trim().parse().expect("a URL follows");
                return Self { place, process: Some((child, output)) };
            }
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the resident memory in bytes: the current one, and the maximum so far.
    pub(crate) fn memory(&self) -> Option<(usize, usize)> {
        let (child, _) = self.process.as_ref()?;
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("the broker runs");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("proc(5)");
            let kilobytes = line.split_whitespace().nth(1).expect("proc(5)");
            kilobytes.parse::<usize>().expect("proc(5)") << 10
        };
        Some((field("VmRSS:"), field("VmHWM:")))
    }

    /// Returns the number of file descriptors of the broker: one per connection, besides its own.
    pub(crate) fn open_files(&self) -> Option<usize> {
        let (child, _) = self.process.as_ref()?;
        let entries = std::fs::read_dir(format!("/proc/{}/fd", child.id())).expect("the broker runs");
        Some(entries.count())
    }

    /// Waits until the broker has at most `before` open files.
    pub(crate) fn await_open_files(&self, before: Option<usize>) {
        let deadline = Instant::now() + STEP_TIMEOUT;
        while self.open_files() > before {
            assert!(
                Instant::now() < deadline,
                "the broker holds {:?} open files, {before:?} before: connections leak",
                self.open_files()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Shuts the broker down. Panics if the broker has panicked, or does not end in time.
    pub(crate) fn stop(mut self) {
        let Some((mut child, _output)) = self.process.take() else {
            return;
        };
        drop(child.stdin.take());
        let deadline = Instant::now() + STEP_TIMEOUT;
        let status = loop {
            if let Some(status) = child.try_wait().expect("the broker's process is ours") {
                break status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("the broker did not shut down");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "the broker panicked: {status}");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
