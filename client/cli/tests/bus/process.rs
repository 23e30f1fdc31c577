//! Processes of the binary, and a bus for them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rantai_client::Client;
use rantai_client::session::{Address, TlsFiles};
use rantai_testing::{Place, Transport, note_kept, server_files, socket_path};
use rustix::process::{Pid, Signal, kill_process};

use super::users::{self, ADMIN, CALLING};

/// Time limit of every wait in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Process that runs until it is told to end; killed when dropped.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

/// Result of a command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Broker, and a root of topics.
pub(crate) struct Bus {
    /// `None` if the broker is an external one.
    pub(crate) broker: Option<Server>,
    pub(crate) url: String,
    pub(crate) root: String,
}

/// Creates a command for the binary.
pub(crate) fn rantai() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rantai"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RANTAI_")) {
        command.env_remove(name);
    }
    // The contexts of the user who runs the tests are not used.
    command.env("XDG_CONFIG_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-configuration"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Server {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        if command.get_args().next().is_some_and(|subcommand| subcommand == "up" || subcommand == "demo") {
            note_kept("its broker is that of `rantai up`, as it is without a configuration");
        }
        let mut child = command.spawn().expect("the binary runs");
        let (sender, lines) = channel();
        let out = child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>);
        let err = child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>);
        for stream in [out, err].into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // Reads on even without a receiver, because a full pipe would block the process.
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line of stdout or stderr that contains `text`; returns the first one since the start.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut looked = 0;
        loop {
            if let Some(line) = self.seen[looked..].iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            looked = self.seen.len();
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no {text:?}; it said {:#?}", self.seen)
                }
            }
        }
    }

    /// Returns all output so far.
    pub(crate) fn said(&mut self) -> &[String] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_none()
    }

    /// Waits for the end of the process; returns its exit code. All its output was read then.
    pub(crate) fn exit_code(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end; it said {:#?}", self.said());
            thread::sleep(Duration::from_millis(5));
        };
        // The last lines may still be in the channel of the reading threads.
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
        status.code().expect("no signal ended it")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `rantai broker`; returns its address too. Without a configuration of the test it uses the transport under
/// test, and `--port` is a port or the result of [`port_of`].
pub(crate) fn broker(arguments: &[&str]) -> (Server, String) {
    if arguments.contains(&"--config") {
        note_kept("its broker.toml is the test's own");
        return started(rantai().arg("broker").args(arguments), Transport::Tcp);
    }
    broker_for(&[root("rantai")], arguments)
}

/// Starts `rantai broker` for the buses on these roots.
fn broker_for(roots: &[String], arguments: &[&str]) -> (Server, String) {
    let transport = Transport::chosen();
    let mut arguments = arguments.to_vec();
    let listener = (transport != Transport::Tcp).then(|| {
        let port = arguments.iter().position(|argument| *argument == "--port").expect("--port is given");
        let place = match (transport, arguments.drain(port..port + 2).nth(1).expect("it has a value")) {
            (Transport::Unix, "0") => socket_path().display().to_string(),
            (Transport::Unix, path) => path.to_owned(),
            (_, port) => format!("127.0.0.1:{port}"),
        };
        transport.listener(&place)
    });
    let mut command = rantai();
    command.arg("broker").args(arguments);
    if let Some(config) = users::broker_toml(roots, listener.as_deref()) {
        command.arg("--config").arg(config);
    }
    started(&mut command, transport)
}

/// Starts a broker by a command; returns its URL too.
fn started(command: &mut Command, transport: Transport) -> (Server, String) {
    let mut broker = Server::spawn(command);
    let line = broker.wait_for("listening on ");
    let place = line.split("listening on ").nth(1).expect("just found").trim();
    let place = match place.strip_prefix("unix:") {
        Some(path) => Place::socket(path.into()),
        None => Place::new(transport, place.parse().expect("an address")),
    };
    (broker, place.to_string())
}

/// Returns the port of a broker's URL, or the path of its socket: for `--port` of another [`broker`] in its place.
pub(crate) fn port_of(url: &str) -> String {
    let place: Place = url.parse().expect("a broker's URL");
    place.path().map_or_else(|| place.address().port().to_string(), |path| path.display().to_string())
}

/// Parses a URL, and adds the certificate authority of these tests.
pub(crate) fn address(url: &str) -> Address {
    let address: Address = url.parse().expect("an address");
    if !address.uses_tls() {
        return address;
    }
    address.with_tls(TlsFiles { ca: Some(server_files().ca.clone()), ..TlsFiles::default() })
}

/// Makes a command trust the broker at this URL.
pub(crate) fn trust(command: &mut Command, url: &str) {
    if url.starts_with("mqtts:") || url.starts_with("wss:") {
        command.env("RANTAI_CA", &server_files().ca);
    }
}

/// Creates a bus on a broker of our own, or on that of `RANTAI_TEST_BROKER`.
pub(crate) fn bus() -> Bus {
    match std::env::var("RANTAI_TEST_BROKER") {
        Ok(url) => {
            let root = format!("{}/{}", root("test"), rantai_client::client::random_id("t"));
            Bus { broker: None, url, root }
        }
        Err(_) => own(),
    }
}

/// Creates buses on one broker, each with another root below that of the test. The first one owns the broker.
pub(crate) fn buses_below(levels: impl IntoIterator<Item = String>) -> Vec<Bus> {
    let foreign = std::env::var("RANTAI_TEST_BROKER").is_ok().then(bus);
    let above = foreign.as_ref().map_or_else(|| root("rantai"), |bus| bus.root.clone());
    let roots: Vec<String> = levels.into_iter().map(|levels| format!("{above}/{levels}")).collect();
    let ours = || {
        let (broker, url) = broker_for(&roots, &["--port", "0"]);
        (Some(broker), url)
    };
    let (mut broker, url) = foreign.map_or_else(ours, |bus| (bus.broker, bus.url));
    roots.into_iter().map(|root| Bus { broker: broker.take(), url: url.clone(), root }).collect()
}

/// Creates a bus on a broker of our own, whatever `RANTAI_TEST_BROKER` is.
pub(crate) fn own() -> Bus {
    let (broker, url) = broker(&["--port", "0"]);
    Bus { broker: Some(broker), url, root: root("rantai") }
}

/// Returns the root of `RANTAI_TEST_ROOT`, or `otherwise`.
pub(crate) fn root(otherwise: &str) -> String {
    std::env::var("RANTAI_TEST_ROOT").unwrap_or_else(|_| otherwise.to_owned())
}

impl Bus {
    /// Creates a command that uses the bus.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let url = users::log_in(&self.url, users::user_of(arguments));
        let mut command = rantai();
        trust(&mut command, &url);
        command.args(arguments).env("RANTAI_BROKER", url).env("RANTAI_ROOT", &self.root);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        finish(&mut self.command(arguments))
    }

    /// Runs a command that must succeed; returns its output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done.stdout
    }

    /// Starts `rantai serve`, without waiting for anything.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        Server::spawn(self.command(&["serve"]).args(arguments))
    }

    /// Returns the broker's address with the credentials of a user, if users are enabled.
    pub(crate) fn address_for(&self, user: &str) -> Address {
        address(&users::log_in(&self.url, user))
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_of(CALLING).await
    }

    /// Connects a client of another user than [`client`](Self::client), which may do everything.
    pub(crate) async fn admin(&self) -> Client {
        self.client_of(ADMIN).await
    }

    async fn client_of(&self, user: &str) -> Client {
        let root = rantai_client::wire::name::Root::new(&self.root).expect("a root");
        Client::builder(self.address_for(user)).root(root).connect().await.expect("a client")
    }
}

pub(crate) fn finish(command: &mut Command) -> Done {
    let output = command.output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Done {
        code: output.status.code().expect("no signal ended it"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
