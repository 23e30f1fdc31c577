//! The monitoring server as HTTP clients see it, in front of a broker.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rantai_broker::{Broker, BrokerThread, Config, HttpSettings, Limits};
use rantai_monitoring::MonitoringServer;
use tokio::runtime::Builder;

const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
const OPEN_METRICS: &str = "Accept: application/openmetrics-text; version=1.0.0\r\n";

fn settings() -> HttpSettings {
    HttpSettings { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..HttpSettings::default() }
}

/// Starts a broker on its own thread, and a monitoring server for it.
fn start(config: Config, settings: HttpSettings) -> (BrokerThread, MonitoringServer) {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let broker = runtime.block_on(BrokerThread::start(config)).expect("started");
    let monitor = broker.monitor().expect("this engine has one");
    let server = MonitoringServer::start(settings, monitor).expect("a free port");
    (broker, server)
}

/// Sends a request, and returns the head and the body of the answer; both are empty if the connection was closed
/// without an answer.
fn exchange(at: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("set");
    // Fails if the server has closed the connection already.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{request:?}: {error}"),
        _ => {}
    }
    let answer = String::from_utf8(answer).expect("UTF-8");
    answer.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned())).unwrap_or_default()
}

fn get(at: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    let (head, body) = exchange(at, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head, body)
}

#[test]
fn every_topic_of_sys_is_a_metric_with_help_and_type() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config { data_dir: Some(directory.path().to_owned()), ..Config::on_free_port() };
    let (_broker, server) = start(config, settings());
    let (status, head, plain) = get(server.address(), "/metrics", "");
    assert_eq!(status, 200, "{head}");
    assert!(head.contains("text/plain; version=0.0.4") && head.contains("no-store"), "{head}");
    for line in [
        "# TYPE rantai_broker_clients_connected gauge",
        "rantai_broker_clients_connected 0",
        "# HELP rantai_broker_received_bytes_total Bytes received.",
        "# TYPE rantai_broker_received_bytes_total counter",
        "rantai_broker_received_bytes_total 0",
        "rantai_broker_messages_dropped_total 0",
        "rantai_broker_memory_stage 0",
        "rantai_broker_disk_state{state=\"healthy\"} 1",
        "rantai_broker_disk_state{state=\"stalled\"} 0",
        concat!("rantai_broker_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "rantai_broker_ready 1",
    ] {
        assert!(plain.lines().any(|found| found == line), "no {line:?} in {plain}");
    }
    let (_, head, open) = get(server.address(), "/metrics", OPEN_METRICS);
    assert!(head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(open.ends_with("rantai_broker_ready 1\n# EOF\n"), "{open}");
    for line in [
        "# TYPE rantai_broker_received_bytes counter",
        "# UNIT rantai_broker_received_bytes bytes",
        "# UNIT rantai_broker_uptime_seconds seconds",
        "# TYPE rantai_broker_build info",
    ] {
        assert!(open.lines().any(|found| found == line), "no {line:?} in {open}");
    }
    // Samples of one format, without those that change between two readings.
    let samples = |text: &str| -> HashMap<String, String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.map(|line| line.rsplit_once(' ').expect("name and value"));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let (plain, open) = (samples(&plain), samples(&open));
    assert_eq!(plain.len(), open.len());
    assert!(plain.len() > 90, "{}", plain.len());
    assert!(plain.keys().all(|name| open.contains_key(name)));
}

#[test]
fn health_is_reported_and_other_requests_are_refused() {
    let (broker, server) = start(Config::on_free_port(), settings());
    let at = server.address();
    for path in ["/healthz", "/readyz", "/readyz?verbose"] {
        let (status, _, body) = get(at, path, "");
        assert_eq!((status, &*body), (200, "ok\n"), "{path}");
    }
    assert_eq!(get(at, "/", "").0, 404);
    let (head, _) = exchange(at, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 405") && head.to_lowercase().contains("allow: get, head"), "{head}");
    let (head, body) = exchange(at, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && body.is_empty(), "{head}");
    // A second request on the same connection is not served.
    let twice = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    let (head, body) = exchange(at, &twice);
    assert!(head.to_lowercase().contains("connection: close") && body == "ok\n", "{head}\n{body}");
    assert!(exchange(at, "\u{16}\u{3}\u{1}no HTTP\r\n\r\n").0.starts_with("HTTP/1.1 400"));
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(broker.shutdown());
    // An earlier answer may be reused for 250 ms.
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let stopped = loop {
        let (status, _, body) = get(at, "/healthz", "");
        if status != 200 || Instant::now() > deadline {
            break (status, body);
        }
    };
    assert_eq!(stopped, (503, "the broker has stopped\n".to_owned()));
}

#[test]
fn a_broker_that_refuses_clients_is_alive_and_not_ready() {
    // Any process uses more than 90 % of a megabyte.
    let limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
    let (_broker, server) = start(Config { limits, ..Config::on_free_port() }, settings());
    let (status, _, body) = get(server.address(), "/readyz", "");
    assert_eq!((status, &*body), (503, "memory is short: connections are refused\n"));
    assert_eq!(get(server.address(), "/healthz", "").0, 200);
    let (_, _, metrics) = get(server.address(), "/metrics", "");
    assert!(
        metrics.contains("\nrantai_broker_ready 0\n") && metrics.contains("memory_stage 5\n"),
        "{metrics}"
    );
}

#[test]
fn a_full_disk_is_not_ready() {
    let directory = tempfile::tempdir().expect("a directory");
    // No disk has this much free space.
    let limits = Limits { free_space_bytes: Some(u64::MAX), ..Limits::default() };
    let data_dir = Some(directory.path().to_owned());
    let (_broker, server) = start(Config { limits, data_dir, ..Config::on_free_port() }, settings());
    let (status, _, body) = get(server.address(), "/readyz", "");
    assert_eq!((status, &*body), (503, "the broker's disk is nearly full\n"));
}

#[test]
fn a_blocked_broker_thread_is_reported_unhealthy() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let broker = runtime.block_on(Broker::start(Config::on_free_port())).expect("started");
    let server = MonitoringServer::start(settings(), broker.monitor().expect("one")).expect("a free port");
    let at = server.address();
    // Nobody polls the broker's tasks, as if its thread were blocked.
    let began = Instant::now();
    let (status, _, body) = get(at, "/healthz", "");
    assert_eq!((status, &*body), (503, "the broker's thread has not answered within 2 s\n"));
    assert!(began.elapsed() >= Duration::from_secs(2));
    let asked = thread::spawn(move || get(at, "/healthz", ""));
    let answer = runtime.block_on(async {
        while !asked.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        asked.join().expect("it asked")
    });
    assert!(matches!(answer.0, 200 | 503), "the last answer may be used again: {answer:?}");
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        let asked = thread::spawn(move || get(at, "/healthz", "").0);
        let status = runtime.block_on(async {
            while !asked.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            asked.join().expect("it asked")
        });
        if status == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
    }
}

#[test]
fn idle_connections_cannot_exceed_the_limit() {
    let (_broker, server) = start(Config::on_free_port(), HttpSettings { connections: 2, ..settings() });
    let at = server.address();
    let silent: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(at).expect("it listens")).collect();
    // Connections are accepted in order, so the third one exceeds the limit.
    assert_eq!(get(at, "/healthz", "").0, 0, "it is closed without an answer");
    // The idle connections are closed by the time limit of the head, which frees their places.
    for mut stream in silent {
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("set");
        let mut rest = Vec::new();
        // hyper may answer 408, or only close the connection.
        let _ = stream.read_to_end(&mut rest);
    }
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    while get(at, "/healthz", "").0 != 200 {
        assert!(Instant::now() < deadline, "no room again");
    }
}
