//! REST and SOAP gateways, with correct and with malicious clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::{Bus, PATIENCE, Server, bus, own};
use super::users::SERVING;

const CONFIG: &str = include_str!("../../../../config/gateway.toml");

/// Node with gateways on their own ports.
pub(super) struct Gateway {
    pub(super) rest: String,
    pub(super) soap: String,
    node: Server,
    _directory: tempfile::TempDir,
}

/// HTTP response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

/// Starts a gateway; `settings` replace `[rest.limits]` and the users.
pub(super) fn gateway(bus: &Bus, settings: &str) -> Gateway {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path(), settings);
    let mut node = bus.serve(&["--config", &config]);
    let mut address = |kind: &str| {
        let line = node.wait_for(&format!("{kind} on http://"));
        line.split("http://").nth(1).expect("an address").to_owned()
    };
    let (rest, soap) = (address("REST"), address("SOAP"));
    Gateway { rest, soap, node, _directory: directory }
}

fn config(directory: &Path, settings: &str) -> String {
    let config = directory.join("gateway.toml");
    let (before, after) = CONFIG.split_once("[rest.limits]").expect("limits");
    let (_, after) = after.split_once("# Paths of one's own").expect("routes");
    let settings =
        if settings.contains('[') { settings.to_owned() } else { format!("[rest.limits]\n{settings}") };
    let text = format!("{before}{settings}\n# Paths of one's own{after}\n[[echo]]\nname = 'echo'\n[tasks]\n");
    let text = text.replace("127.0.0.1:5151", "127.0.0.1:0").replace("127.0.0.1:8000", "127.0.0.1:0");
    std::fs::write(&config, text).expect("written");
    config.to_str().expect("UTF-8").to_owned()
}

pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

pub(crate) fn ask(address: &str, verb: &str, target: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut stream = connect(address);
    send(&mut stream, address, verb, target, headers, body);
    receive(&mut BufReader::new(stream))
}

pub(crate) fn send(
    stream: &mut TcpStream,
    host: &str,
    verb: &str,
    target: &str,
    headers: &[&str],
    body: &[u8],
) {
    let mut head = format!("{verb} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        head.extend([header, "\r\n"]);
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).expect("sent");
    // The request may have been refused after its head.
    let _ = stream.write_all(body);
}

pub(crate) fn receive(reader: &mut BufReader<TcpStream>) -> Answer {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {line:?}"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let answer = Answer { status, headers, body: String::new() };
    let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    Answer { body: String::from_utf8(body).expect("UTF-8"), ..answer }
}

pub(super) fn get(address: &str, target: &str) -> Answer {
    ask(address, "GET", target, &[], b"")
}

pub(super) const JSON: &str = "Content-Type: application/json";

#[test]
fn configured_routes_answer_like_the_original_services() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    for (target, status, body) in [
        ("/add?a=2&b=3", 200, json!({"result": 5})),
        ("/sub?a=2.0&b=3.0", 200, json!({"result": -1})),
        ("/mul?a=2&b=3", 200, json!({"result": 6})),
        ("/div?a=2&b=3", 200, json!({"result": 2.0 / 3.0})),
        ("/div?a=1&b=0", 400, json!({"error": "Division by zero"})),
        ("/add?a=1", 400, json!({"error": "Invalid input"})),
        ("/add", 400, json!({"error": "Invalid input"})),
        ("/add?a=x&b=1", 400, json!({"error": "Invalid input"})),
        ("/add?a=nan&b=1", 400, json!({"error": "Invalid input"})),
        ("/add?b=3&c=9&a=2", 200, json!({"result": 5})),
    ] {
        let answer = get(&gateway.rest, target);
        assert_eq!((answer.status, answer.json()), (status, body), "{target}");
    }
}

#[test]
fn every_object_is_called_by_its_path_and_every_error_has_its_status() {
    let bus = bus();
    let gateway = gateway(&bus, "body_bytes = 10000\n");
    let rest = &*gateway.rest;
    assert_eq!(get(rest, "/objects/calculator/add?a=2&b=3").json(), json!(5));
    let post = |target: &str, body: &str| ask(rest, "POST", target, &[JSON], body.as_bytes());
    assert_eq!(post("/objects/calculator/add", r#"{"a": 2, "b": 3}"#).json(), json!(5));
    assert_eq!(post("/objects/calculator/add", "[2, 3]").json(), json!(5));
    assert_eq!(post("/objects/echo/echo", "\"é\"").json(), json!("é"));
    let shouted = ["Content-Type: Application/JSON; charset=utf-8"];
    assert_eq!(ask(rest, "POST", "/objects/calculator/add", &shouted, b"[2, 3]").json(), json!(5));
    let deep = "[".repeat(5_000);
    for (answer, status, code) in [
        (get(rest, "/objects/calculator/add?a=2"), 422, -32602),
        (get(rest, "/objects/calculator/add?a=2&b=x"), 422, -32602),
        (get(rest, "/objects/calculator/add?a=2&b=3&c=4"), 422, -32602),
        (get(rest, "/objects/calculator/add?a=2&a=2&b=3"), 400, -32600),
        (get(rest, "/objects/calculator/plus?a=2"), 404, -32601),
        (get(rest, "/objects/calculater/add?a=2"), 404, -32003),
        (get(rest, "/objects/a%20b/add"), 404, -32003),
        (get(rest, "/objects/calculator/div?a=1&b=0"), 500, -32000),
        (get(rest, "/objects/tasks/submit"), 405, -32600),
        (get(rest, "/objects/tasks/cancel?id=x"), 405, -32600),
        (get(rest, "/nothing"), 404, -32601),
        (post("/objects/calculator/add", "{\"a\": 2"), 400, -32700),
        (post("/objects/calculator/add", &deep), 400, -32700),
        (post("/objects/calculator/add?a=2", "[2, 3]"), 400, -32600),
        (post("/objects/calculator/add", &format!("[{}]", "1,".repeat(9_000))), 413, -32007),
        (post("/objects/calculator/rpc.yield", ""), 403, -32006),
        (ask(rest, "POST", "/objects/calculator/add", &["Content-Type: text/plain"], b"[2, 3]"), 415, -32600),
        (ask(rest, "POST", "/objects/calculator/add", &[], b"[2, 3]"), 415, -32600),
        (ask(rest, "DELETE", "/objects/calculator/add", &[], b""), 405, -32600),
        (ask(rest, "GET", "/add?a=1&b=2", &["Origin: http://elsewhere.example"], b""), 403, -32006),
    ] {
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (status, &json!(code)), "{answer:?}");
        assert!(error["message"].is_string() && error["data"]["retryable"].is_boolean(), "{answer:?}");
    }
    let late = ask(rest, "POST", "/objects/echo/delay", &[JSON, "Prefer: wait=1"], b"[5000, \"late\"]");
    assert_eq!((late.status, &late.json()["error"]["code"]), (504, &json!(-32002)));
    let own = format!("Origin: http://{rest}");
    assert_eq!(ask(rest, "GET", "/add?a=1&b=2", &[&own], b"").status, 200);
    // A request for a picture on a page has no origin.
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)] {
        let site = format!("Sec-Fetch-Site: {site}");
        assert_eq!(ask(rest, "GET", "/add?a=1&b=2", &[&site], b"").status, status, "{site}");
        assert_eq!(ask(rest, "GET", "/add?a=1&b=2", &[&own, &site], b"").status, 200, "{site} and {own}");
    }
    let binary = ["Content-Type: application/octet-stream"];
    let answer = ask(rest, "POST", "/objects/echo/bytes", &binary, b"\x01\x02");
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"), "{answer:?}");
    assert_eq!(answer.body.as_bytes(), b"\x01\x02");
}

/// Regression: `cancel` is idempotent, so that GET called it, and so did HEAD of a configured path.
#[test]
fn methods_with_side_effects_require_post() {
    let bus = bus();
    let route = "[[rest.routes]]\npath = '/cancel'\nobject = 'tasks'\nmethod = 'cancel'\nparams = ['id']\n";
    let gateway = gateway(&bus, &format!("[rest.limits]\n{route}"));
    let rest = &*gateway.rest;
    let id = bus.ok(&["task", "submit", "--delay", "1h", "echo.echo", "x"]);
    let id = id.trim();
    let by_name = format!("/objects/tasks/cancel?id={id}");
    let by_route = format!("/cancel?id={id}");
    for (verb, target) in [("GET", &by_name), ("HEAD", &by_name), ("GET", &by_route), ("HEAD", &by_route)] {
        assert_eq!(status(rest, verb, target), Some(405), "{verb} {target}");
    }
    let refused = get(rest, &by_route);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("POST")), "{refused:?}");
    // HEAD is a call whose result nobody wants.
    for (verb, target) in
        [("HEAD", "/add?a=1&b=2"), ("PUT", "/add"), ("HEAD", "/objects/calculator/add?a=1&b=2")]
    {
        let head = head_of(rest, verb, target);
        assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("allow: GET, POST\r\n"), "{verb}: {head}");
    }
    let task = get(rest, &format!("/objects/tasks/get?id={id}"));
    if std::env::var_os("RANTAI_TEST_USERS").is_some() {
        // A gateway without users calls as nobody, while the task belongs to a user.
        assert_eq!(task.json()["error"]["data"]["kind"], json!("no_such_task"), "{task:?}");
        return;
    }
    assert_eq!((task.status, &task.json()["state"]), (200, &json!("queued")), "{task:?}");
    let ended = ask(rest, "POST", &by_route, &[], b"");
    assert_eq!((ended.status, ended.json()), (200, json!(true)), "{ended:?}");
}

#[test]
fn repeat_with_the_same_idempotency_key_is_executed_once() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let key = ["Idempotency-Key: 7", JSON];
    let submit = |headers: &[&str]| {
        let body = br#"{"object": "calculator", "method": "add", "params": [1, 2]}"#;
        ask(&gateway.rest, "POST", "/objects/tasks/submit", headers, body)
    };
    let first = submit(&key);
    let again = submit(&key);
    assert_eq!((first.status, first.json()), (200, again.json()), "{again:?}");
    assert_eq!(again.header("rantai-repeated"), Some("1"));
    assert_ne!(submit(&["Idempotency-Key: 8", JSON]).json(), first.json());
    let other =
        ask(&gateway.rest, "POST", "/objects/tasks/submit", &key, br#"{"object": "echo", "method": "echo"}"#);
    assert_eq!((other.status, &other.json()["error"]["code"]), (409, &json!(-32014)));
}

/// Each replica detects duplicates by itself only.
#[test]
fn a_repeat_reaches_the_replica_that_had_it() {
    let bus = bus();
    let library = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/library.toml");
    let mut replicas = [(); 3].map(|()| bus.serve(&["server", "--config", library, "--replica"]));
    for replica in &mut replicas {
        replica.wait_for("serving server");
    }
    let gateway = gateway(&bus, "");
    let mut nodes = std::collections::BTreeSet::new();
    // Each key is assigned to one of three by a hash with their random names: all go to the same one in fewer than one
    // of 10^10 runs.
    for key in 0..24 {
        let key = format!("Idempotency-Key: {key}");
        let buy =
            || ask(&gateway.rest, "POST", "/objects/server/welcomeMessage", &[JSON, &key], br#"["Dune"]"#);
        let first = buy();
        assert_eq!((first.status, first.header("rantai-repeated")), (200, None), "{first:?}");
        for _ in 0..2 {
            let again = buy();
            assert_eq!(again.header("rantai-repeated"), Some("1"), "{again:?}");
            assert_eq!(again.header("rantai-node"), first.header("rantai-node"));
        }
        nodes.extend(first.header("rantai-node").map(ToOwned::to_owned));
    }
    assert!(nodes.len() > 1, "all of it went to one of them");
}

#[test]
fn openapi_document_follows_objects_that_start_and_end() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let described = |path: &str| !get(&gateway.rest, "/openapi.json").json()["paths"][path].is_null();
    let until = |path: &str, there: bool| {
        let began = Instant::now();
        while described(path) != there {
            assert!(began.elapsed() < PATIENCE, "{path}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    assert!(described("/objects/calculator/add"), "it is there from the first moment");
    until("/objects/example.chainTopology.bandung/process", false);
    let mut city = bus.serve(&["example.chainTopology.bandung"]);
    city.wait_for("serving example");
    until("/objects/example.chainTopology.bandung/process", true);
    let named = get(&gateway.rest, "/objects").json();
    assert!(named.as_array().expect("a list").iter().any(|o| o["name"] == "example.chainTopology.bandung"));
    city.signal(rustix::process::Signal::TERM);
    assert_eq!(city.exit_code(), 0);
    until("/objects/example.chainTopology.bandung/process", false);
    let page = get(&gateway.rest, "/");
    assert!(page.body.contains("swagger-ui-bundle.js") && !page.body.contains("http"), "{page:?}");
    assert!(get(&gateway.rest, "/ui/swagger-ui-bundle.js").body.len() > 1_000_000);
}

#[test]
fn gateway_requires_login_and_limits_the_rate() {
    let users = "users = [{ name = 'ada', password = '$6$c2FsdHNhbHQxMjM0$d/5KooXCzyqGAOF4q1GTV/3P8YVDSdFim/G/QDXLp6mBUUtiHppG2I3O879YXOQrliIu8ETwnO+Utg0ZfaWLbw==' }, { name = 'kiosk', key = 'k1' }]\n\
                 [rest.limits]\nrate_per_s = 2\n";
    let bus = bus();
    let gateway = gateway(&bus, users);
    let rest = &*gateway.rest;
    let none = get(rest, "/add?a=1&b=2");
    assert_eq!(none.status, 401);
    assert!(none.header("www-authenticate").expect("a way").contains("Basic"));
    assert_eq!(ask(rest, "GET", "/objects", &["Authorization: Bearer wrong"], b"").status, 401);
    let ada = ["Authorization: Basic YWRhOnA6dw=="];
    assert_eq!(ask(rest, "GET", "/add?a=1&b=2", &ada, b"").json(), json!({"result": 3}));
    let key = ["Authorization: Bearer k1"];
    let answers: Vec<Answer> = (0..12).map(|_| ask(rest, "GET", "/add?a=1&b=2", &key, b"")).collect();
    assert!(answers[..2].iter().all(|answer| answer.status == 200), "{answers:?}");
    let busy = answers.iter().find(|answer| answer.status == 429).expect("twelve are more than two a second");
    assert_eq!(busy.header("retry-after"), Some("1"), "{busy:?}");
    assert_eq!(
        ask(rest, "GET", "/add?a=1&b=2", &ada, b"").status,
        200,
        "the other user has a rate of their own"
    );
}

#[test]
fn silent_and_slow_clients_do_not_delay_others() {
    let bus = bus();
    let gateway = gateway(&bus, "head_ms = 1500\nbody_ms = 500\n");
    let rest = &*gateway.rest;
    let mut silent: Vec<TcpStream> = (0..1_000).map(|_| connect(rest)).collect();
    for (index, stream) in silent.iter_mut().enumerate() {
        if index % 2 == 0 {
            stream.write_all(b"GET /add?a=1&b=2 HTTP/1.1\r\nHost").expect("sent");
        }
    }
    let began = Instant::now();
    assert_eq!(get(rest, "/add?a=1&b=2").json(), json!({"result": 3}));
    assert!(began.elapsed() < PATIENCE, "the next caller is served: {:?}", began.elapsed());
    let mut slow = connect(rest);
    let head = format!(
        "POST /objects/calculator/add HTTP/1.1\r\nHost: {rest}\r\n{JSON}\r\nContent-Length: 5\r\n\r\n[2"
    );
    slow.write_all(head.as_bytes()).expect("sent");
    let answer = receive(&mut BufReader::new(slow));
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")), "{answer:?}");
    for stream in &mut silent {
        // Closed by the gateway, with or without a response.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains("200"));
    }
    let stats = get(rest, "/stats").json();
    assert_eq!((&stats["connections"], &stats["refused"]["too_slow"]), (&json!(1), &json!(1)), "{stats}");
}

#[tokio::test]
async fn a_gateway_whose_name_another_client_takes_ends_and_says_so() {
    let mut bus = own();
    let mut gateway = gateway(&bus, "");
    let broker = bus.broker.as_mut().expect("ours");
    let line = broker.wait_for("client-");
    let id = line.split("client=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an id");
    let id = rantai_client::wire::name::ClientId::new(id).expect("a name");
    let address = bus.address_for(SERVING);
    let root = rantai_client::wire::name::Root::new(&bus.root).expect("a root");
    let builder = rantai_client::Client::builder(address).root(root).client_id(id);
    let taken = builder.connect().await.expect("connected");
    gateway.node.wait_for("the gateways have no connection any more");
    assert_eq!(gateway.node.exit_code(), 1);
    taken.close().await;
}

#[test]
fn connections_have_a_limit() {
    let bus = bus();
    let gateway = gateway(&bus, "connections = 4\nhead_ms = 60000\n");
    // Accepted in the order in which they connect.
    let kept: Vec<TcpStream> = (0..4).map(|_| connect(&gateway.rest)).collect();
    let mut turned_away = connect(&gateway.rest);
    let mut said = Vec::new();
    let _ = turned_away.read_to_end(&mut said);
    assert!(said.is_empty(), "{said:?}");
    drop(kept);
    let began = Instant::now();
    while get_or_nothing(&gateway.rest).is_none() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn get_or_nothing(address: &str) -> Option<u16> {
    status(address, "GET", "/stats")
}

/// Returns the status only: a response to HEAD has no body, whatever its length says.
fn status(address: &str, verb: &str, target: &str) -> Option<u16> {
    let mut stream = connect(address);
    send(&mut stream, address, verb, target, &[], b"");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    std::str::from_utf8(&answer[9..]).ok()?.parse().ok()
}

/// All that is sent before a body.
fn head_of(address: &str, verb: &str, target: &str) -> String {
    let mut stream = connect(address);
    send(&mut stream, address, verb, target, &[], b"");
    let lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    lines.take_while(|line| !line.is_empty()).map(|line| line + "\r\n").collect()
}

#[test]
fn event_streams_deliver_and_release_their_place_when_closed() {
    let bus = bus();
    let gateway = gateway(&bus, "streams = 1\n");
    let mut stream = connect(&gateway.rest);
    send(&mut stream, &gateway.rest, "GET", "/events/tasks?event=state", &[], b"");
    let mut reader = BufReader::new(stream);
    let answer = receive(&mut reader);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(get(&gateway.rest, "/events/tasks").status, 429, "there is one place");
    assert_eq!(get(&gateway.rest, "/events/tasks?event=nothing").status, 404);
    let id = bus.ok(&["task", "submit", "calculator.add", "1", "2"]);
    let mut states = Vec::new();
    while states.len() < 3 {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if let Some(data) = line.strip_prefix("data: ") {
            let task: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(task["id"], id.trim());
            states.push(task["state"].as_str().expect("a state").to_owned());
        }
    }
    assert_eq!(states, ["queued", "running", "succeeded"]);
    drop(reader);
    let began = Instant::now();
    loop {
        // The gateway notices that the listener is gone only when it sends something.
        bus.ok(&["task", "submit", "calculator.add", "1", "2"]);
        if get(&gateway.rest, "/stats").json()["streams"] == 0 {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
}

/// The gateway does not wait for the content of a frame that exceeds the limit.
#[test]
fn a_socket_that_announces_a_large_frame_is_closed() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let mut stream = connect(&gateway.rest);
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    send(&mut stream, &gateway.rest, "GET", "/events/tasks", &upgrade, b"");
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    assert_eq!(receive(&mut reader).status, 101);
    let one_mebibyte = [0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4];
    stream.write_all(&one_mebibyte).expect("sent");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    reader.read_to_end(&mut Vec::new()).expect("the end of the connection");
}

#[test]
fn gateway_shuts_down_in_order_with_open_streams() {
    let bus = bus();
    let mut gateway = gateway(&bus, "");
    let mut stream = connect(&gateway.rest);
    send(&mut stream, &gateway.rest, "GET", "/events/tasks", &[], b"");
    let mut reader = BufReader::new(stream);
    assert_eq!(receive(&mut reader).status, 200);
    gateway.node.signal(rustix::process::Signal::TERM);
    let mut left = String::new();
    reader.read_to_string(&mut left).expect("the end of the stream");
    assert!(left.ends_with("0\r\n\r\n"), "ended, and not cut off: {left:?}");
    assert_eq!(gateway.node.exit_code(), 0);
}
