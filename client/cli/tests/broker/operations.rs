//! Operation of a broker: metrics and health by HTTP, its log as JSON and in files, and notifications to systemd.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use rantai_testing::{Version, note_kept};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::process::{Broker, PATIENCE, command};
use crate::wire::{self, Socket};

/// Runs `rantai` with these arguments; returns its output and status.
fn rantai(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rantai")).args(arguments).output().expect("the binary runs")
}

/// Starts a broker with an HTTP listener; returns the listener's address too.
fn with_http(configure: impl FnOnce(&mut Command)) -> (Broker, SocketAddr) {
    let mut command = command(None);
    command.args(["--http", "127.0.0.1:0"]);
    configure(&mut command);
    let mut broker = Broker::spawn(command);
    let line = broker.wait_for("metrics at ");
    let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/metrics"));
    (broker, address.expect("an address").parse().expect("an address"))
}

fn metrics(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

#[test]
fn connected_client_is_counted_in_the_metrics() {
    let (broker, http) = with_http(|_| {});
    let mut socket = Socket::open(&broker.place, Version::V5).expect("it listens");
    socket.log_in(&wire::connect(Version::V5, "one", true)).expect("let in");
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A response is cached for a quarter of a second.
        let metrics = metrics(http);
        // Two clients: this one, and the node of the broker's own object.
        if metrics.contains("\nrantai_broker_clients_connected 2\n") {
            assert!(metrics.contains("\nrantai_broker_clients_maximum 2\n"), "{metrics}");
            break;
        }
        assert!(Instant::now() < deadline, "{metrics}");
    }
}

#[test]
fn health_command_reports_the_state_of_the_broker() {
    let (mut broker, http) = with_http(|_| {});
    let http = http.to_string();
    for arguments in [&["health", "--http", &http][..], &["health", "--ready", "--http", &http]] {
        let done = rantai(arguments);
        assert_eq!((done.status.code(), &*done.stdout), (Some(0), &b"ok\n"[..]), "{done:?}");
    }
    broker.signal(Signal::TERM);
    broker.wait();
    let done = rantai(&["health", "--http", &http]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(3) && said.contains(&format!("--http {http}")), "{done:?}");
    let (_ill, http) = with_http(|command| {
        let directory = tempfile::tempdir().expect("a directory").keep();
        let config = directory.join("broker.toml");
        std::fs::write(&config, "[limits]\nmemory_bytes = 1000000\n").expect("written");
        command.arg("--config").arg(config);
    });
    let done = rantai(&["health", "--ready", "--http", &http.to_string()]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(1) && said.contains("memory is short"), "{done:?}");
}

#[test]
fn an_http_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = taken.local_addr().expect("bound").to_string();
    let done = rantai(&["broker", "--port", "0", "--http", &at]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains(&at) && said.contains("in use") && said.contains("--http"), "{said}");
}

/// Broker whose stderr is read as a whole when it has ended.
struct Logging {
    child: Child,
    address: SocketAddr,
    said: BufReader<std::process::ChildStderr>,
    first: Vec<String>,
}

impl Logging {
    fn start(options: &[&str]) -> Self {
        note_kept("the command of its broker is its own");
        let mut child = command(None).args(options).spawn().expect("the binary runs");
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let mut first = Vec::new();
        let address = loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).expect("text") > 0, "it has ended: {first:?}");
            let address = line.split("listening on ").nth(1).map(str::to_owned);
            first.push(line.trim_end().to_owned());
            if let Some(address) = address {
                let end = address.find(|c: char| !matches!(c, '0'..='9' | '.' | ':'));
                break address[..end.unwrap_or(address.len())].parse().expect("an address");
            }
        };
        Self { child, address, said, first }
    }

    /// Connects this number of clients, one after the other.
    fn visit(&self, number: usize) {
        let place = rantai_testing::Place::new(rantai_testing::Transport::Tcp, self.address);
        for client in 0..number {
            let mut socket = Socket::open(&place, Version::V5).expect("it listens");
            let id = format!("visitor-{client}-\u{9b}\u{202e}");
            socket.log_in(&wire::connect(Version::V5, &id, true)).expect("let in");
        }
    }

    /// Stops the broker; returns all lines of stderr.
    fn stop(mut self) -> (ExitStatus, Vec<String>) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        let rest: Vec<String> = self.said.by_ref().lines().collect::<Result<_, _>>().expect("text");
        let status = self.child.wait().expect("it ends");
        self.first.extend(rest);
        (status, std::mem::take(&mut self.first))
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn json_log_has_one_object_per_line() {
    let broker = Logging::start(&["--log-format", "json"]);
    broker.visit(2);
    let (status, lines) = broker.stop();
    assert_eq!(status.code(), Some(0));
    let objects: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    for object in &objects {
        let at = object["timestamp"].as_str().expect("a text");
        chrono::DateTime::parse_from_rfc3339(at).expect("RFC 3339");
        assert!(at.ends_with('Z') && object["level"].is_string() && object["target"].is_string(), "{object}");
        assert!(object["fields"]["message"].is_string(), "{object}");
    }
    let connected = |o: &&Value| {
        let is_visitor = o["fields"]["client"].as_str().is_some_and(|client| client.contains("visitor"));
        o["target"] == "rantai_broker::handshake" && o["fields"]["message"] == "connected" && is_visitor
    };
    assert_eq!(objects.iter().filter(connected).count(), 2, "{objects:#?}");
    let told = |text: &str| objects.iter().any(|o| o["fields"]["message"].as_str().unwrap().contains(text));
    assert!(told("listening on 127.0.0.1:") && told("stopping"), "{objects:#?}");
    // An error that ends the program has the same form.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let done = rantai(&["broker", "--port", &port, "--log-format", "json"]);
    let object: Value = serde_json::from_slice(&done.stderr).expect("one object");
    assert_eq!((done.status.code(), &object["level"]), (Some(1), &Value::from("ERROR")));
}

#[test]
fn levels_are_set_by_module() {
    let broker = Logging::start(&["--log", "rantai_broker::handshake=warn,debug"]);
    broker.visit(1);
    let (_, lines) = broker.stop();
    assert!(!lines.iter().any(|line| line.contains("connected")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("rantai::commands::broker: stopping")), "{lines:?}");
    let broker = Logging::start(&["--log", "rantai_broker::handshake=info"]);
    broker.visit(1);
    let (_, lines) = broker.stop();
    assert!(lines.iter().any(|line| line.contains("rantai_broker::handshake: connected")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("stopping")), "{lines:?}");
    for (options, expected) in [
        (&["--log", "inof"][..], "no level; use off, error"),
        (&["--log", "rantai_brokr=info"], "did you mean rantai_broker?"),
        (&["--log", "info", "--quiet"], "cannot be used with"),
        (&["--log-files", "2"], "--log-file"),
        (&["--log-file", "x", "--log-file-bytes", "10"], "4096"),
    ] {
        let done = rantai(&[&["broker", "--port", "0"], options].concat());
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(2) && said.contains(expected), "{options:?}: {said}");
    }
}

#[test]
fn log_file_is_rotated_and_stderr_keeps_only_start_messages() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let file = path.to_str().expect("UTF-8");
    let options =
        ["--log-file", file, "--log-file-bytes", "4096", "--log-files", "2", "--log-format", "json"];
    let broker = Logging::start(&options);
    broker.visit(120);
    let (status, lines) = broker.stop();
    assert_eq!(status.code(), Some(0));
    assert!(lines.len() == 1 && lines[0].contains("listening on"), "{lines:?}");
    let mut names: Vec<String> = std::fs::read_dir(directory.path())
        .expect("there")
        .map(|entry| entry.expect("there").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["log", "log.1", "log.2"]);
    for name in names {
        let text = std::fs::read_to_string(directory.path().join(&name)).expect("there");
        assert!(text.len() <= 4096, "{name}: {}", text.len());
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
    }
    let last = std::fs::read_to_string(&path).expect("there");
    assert!(last.lines().last().expect("a line").contains("stopping"), "{last}");
}

/// Socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Self(socket)
    }

    fn next(&self) -> String {
        let mut message = [0; 1_024];
        let length = self.0.recv(&mut message).expect("a message in time");
        String::from_utf8(message[..length].to_vec()).expect("UTF-8")
    }

    /// Returns the next message other than watchdog notifications.
    fn next_change(&self) -> String {
        std::iter::repeat_with(|| self.next()).find(|message| message != "WATCHDOG=1").expect("endless")
    }
}

#[test]
fn systemd_is_notified_of_readiness_watchdog_reloads_and_stopping() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = Manager::bind(&path);
    let config = directory.path().join("broker.toml");
    std::fs::write(&config, "").expect("written");
    let mut command = command(None);
    command.arg("--config").arg(&config).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let mut broker = Broker::spawn(command);
    assert_eq!(manager.next_change(), "READY=1");
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    assert!(began.elapsed() >= Duration::from_millis(400), "a third of the time apart");
    broker.signal(Signal::HUP);
    let reloading = manager.next_change();
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
    assert!(time.parse::<u64>().is_ok_and(|time| time > 0), "{reloading}");
    assert_eq!(manager.next_change(), "READY=1");
    // READY follows a refused reload, too.
    std::fs::write(&config, "no_such_key = 1").expect("written");
    broker.signal(Signal::HUP);
    assert!(manager.next_change().starts_with("RELOADING=1\n"));
    assert_eq!(manager.next_change(), "READY=1");
    broker.signal(Signal::TERM);
    assert_eq!(manager.next_change(), "STOPPING=1");
    assert_eq!(broker.wait().0.code(), Some(0));
}
