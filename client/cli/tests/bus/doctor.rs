//! `rantai doctor` on brokers of ours, and on servers that resemble a broker.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rantai_testing::{
    Authority, Connect, Layers, Packet, Publish, Socket, Tunnel, Version, pingreq, subscribe,
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::process::{PATIENCE, Server, broker, finish, rantai};
use super::users::users;

/// Result of an examination: state and text of each item, by id.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) code: i32,
    pub(crate) report: Value,
    pub(crate) items: BTreeMap<String, (String, String)>,
    pub(crate) stderr: String,
}

impl Examined {
    pub(crate) fn state(&self, id: &str) -> &str {
        self.items.get(id).map_or("not there", |(state, _)| state)
    }

    pub(crate) fn states(&self, prefix: &str) -> BTreeMap<&str, &str> {
        let items = self.items.iter().filter(|(id, _)| id.starts_with(prefix));
        items.map(|(id, (state, _))| (&**id, &**state)).collect()
    }
}

/// Creates a command `rantai doctor` with JSON output. The time limit of items is longer than a busy machine needs.
pub(crate) fn doctor(url: &str, arguments: &[&str]) -> Command {
    let mut command = rantai();
    command.args(["doctor", url, "--json"]).args(arguments);
    if !arguments.contains(&"--timeout") {
        command.args(["--timeout", "10"]);
    }
    command
}

pub(crate) fn examine(url: &str, arguments: &[&str]) -> Examined {
    let done = finish(&mut doctor(url, arguments));
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("no JSON: {done:?}"));
    let items = report["items"].as_array().expect("a list").iter().map(|item| {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let advice = item["advice"].as_str().map(|advice| format!("; {advice}")).unwrap_or_default();
        (text("id"), (text("state"), text("text") + &advice))
    });
    Examined { code: done.code, items: items.collect(), stderr: done.stderr, report }
}

/// Starts a broker with this configuration.
pub(crate) fn broker_of(config: &str) -> (Server, String) {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(config.as_bytes()).expect("written");
    broker(&["--port", "0", "--config", file.path().to_str().expect("a path")])
}

pub(crate) fn socket(url: &str, user: Option<&str>) -> Socket {
    let address: SocketAddr = url.trim_start_matches("mqtt://").parse().expect("an address");
    let mut socket = Socket::open(address, Version::V5).expect("connected");
    let mut connect = Connect::new(Version::V5);
    if let Some(user) = user {
        connect = connect.user(user).password(user);
    }
    socket.send(&connect.encode()).expect("sent");
    assert!(matches!(next(&mut socket), Packet::Connack(connack) if connack.code == 0));
    socket.send(&subscribe(Version::V5, 1, &[("#", 0)])).expect("sent");
    assert!(matches!(next(&mut socket), Packet::Suback(_)));
    socket
}

pub(crate) fn next(socket: &mut Socket) -> Packet {
    socket.receive(PATIENCE).expect("connected").expect("in time")
}

/// Returns all retained messages, except those of the broker and its object.
pub(crate) fn retained(url: &str, user: Option<&str>) -> Vec<Publish> {
    let (mut socket, mut found) = (socket(url, user), Vec::new());
    socket.send(&pingreq()).expect("sent");
    loop {
        match next(&mut socket) {
            Packet::Publish(message) => found.push(message),
            Packet::Pingresp => break,
            other => panic!("{other:?}"),
        }
    }
    let nodes: Vec<String> = found
        .iter()
        .filter_map(|m| m.topic.strip_prefix("rantai/name/broker/").map(ToOwned::to_owned))
        .collect();
    let is_its = |topic: &str| nodes.iter().any(|node| topic.ends_with(&format!("/{node}")));
    found.retain(|message| !is_its(&message.topic));
    found
}

#[test]
fn an_open_broker_works_and_is_open_to_strangers() {
    let (_broker, url) = broker_of("");
    let began = Instant::now();
    let examined = examine(&url, &["--load=2000"]);
    assert_eq!(examined.code, 2, "{examined:#?}");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!((&examined.report["works"], &examined.report["open"]), (&true.into(), &true.into()));
    assert_eq!(examined.report["product"], "rantai");
    for item in examined.report["items"].as_array().expect("a list") {
        let (id, state) = (item["id"].as_str().expect("an id"), item["state"].as_str().expect("a state"));
        let expected = match id {
            "stranger-caller" => "ok",
            "stranger-sys" => "warning",
            _ if item["area"] == "strangers" => "fails",
            _ => "ok",
        };
        assert_eq!(state, expected, "{item}");
        assert_eq!(item["advice"].is_string(), state != "ok", "{item}");
    }
    assert_eq!(retained(&url, None), []);
}

#[test]
fn rules_keep_strangers_and_users_out() {
    let people = [("ada", "roles = ['caller']"), ("pi", "roles = ['node']"), ("root", "roles = ['admin']")];
    let (_broker, url) = broker_of(&users(&people));
    let user =
        |name: &str, more: &[&str]| examine(&url.replace("mqtt://", &format!("mqtt://{name}:{name}@")), more);
    let nobody = examine(&url, &[]);
    assert_eq!((nobody.code, nobody.state("reachable")), (1, "fails"), "{nobody:#?}");
    assert!(nobody.items["reachable"].1.contains("log in with --user"), "{nobody:#?}");
    assert!(nobody.states("stranger-").values().all(|state| *state == "ok"), "{nobody:#?}");
    assert_eq!(nobody.states("stranger-").len(), 8, "{nobody:#?}");

    let ada = user("ada", &[]);
    assert_eq!(ada.code, 0, "{ada:#?}");
    assert!(ada.report["works"].is_null() && ada.report["open"].is_null(), "{ada:#?}");
    assert_eq!(ada.states("user-").len(), 8, "with user-properties: {ada:#?}");
    for (id, state) in ada.states("") {
        // A caller may not serve, and therefore receives only replies.
        let expected = match id {
            "reachable" | "versions" | "no-subscribers" | "encryption" => "ok",
            // The examination did not see that the broker sets it.
            "user-caller" => "untested",
            _ if id.starts_with("stranger-") || id.starts_with("user-") && id != "user-properties" => "ok",
            _ => "untested",
        };
        assert_eq!(state, expected, "{id}: {ada:#?}");
    }

    for name in ["pi", "root"] {
        let served = user(name, &["--trusted"]);
        assert_eq!(served.code, 0, "{served:#?}");
        assert!(served.states("").values().all(|state| *state == "ok"), "{served:#?}");
        assert_eq!(served.stderr.lines().filter(|line| line.contains("not removed")).count(), 0);
    }
    let root = user("root", &[]);
    assert_eq!((root.code, root.state("user-everything"), root.state("user-caller")), (2, "fails", "ok"));
    assert!(root.items["user-everything"].1.contains("--trusted"), "{root:#?}");
    assert_eq!(retained(&url, Some("root")), []);
}

#[test]
fn clients_without_a_login_do_what_their_roles_say() {
    let (_broker, url) = broker_of(&format!("anonymous = true\n{}", users(&[("root", "roles = ['admin']")])));
    let examined = examine(&url.replace("mqtt://", "mqtt://root:root@"), &["--trusted"]);
    assert_eq!(examined.code, 0, "{examined:#?}");
    assert!(examined.states("").values().all(|state| *state == "ok"), "{examined:#?}");
    assert!(examined.items["stranger-caller"].1.contains("removed"), "{examined:#?}");
    assert!(examined.items["stranger-client-id"].1.contains("0x85"), "{examined:#?}");
}

#[test]
fn nothing_is_left_after_ctrl_c() {
    let (_broker, url) = broker_of("");
    let mut watching = socket(&url, None);
    let mut doctor = Server::spawn(&mut doctor(&url, &["--load=20000"]));
    // While many retained names, wills and sessions exist.
    loop {
        if let Packet::Publish(message) = next(&mut watching)
            && String::from_utf8_lossy(&message.payload).contains("one of many names")
        {
            break;
        }
    }
    drop(watching);
    doctor.signal(Signal::INT);
    assert_eq!(doctor.exit_code(), 130, "{:?}", doctor.said());
    assert_eq!(retained(&url, None), []);
}

#[test]
fn silent_broker_costs_doctor_one_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("mqtt://{}", silent.local_addr().expect("an address"));
    let began = Instant::now();
    let examined = examine(&url, &["--timeout", "300ms"]);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!((examined.code, examined.items.len()), (1, 1), "{examined:#?}");
    assert!(examined.items["reachable"].1.starts_with("a CONNACK did not come in time"), "{examined:#?}");

    drop(silent);
    let examined = examine(&url, &[]);
    assert_eq!(examined.code, 1, "{examined:#?}");
    let text = &examined.items["reachable"].1;
    assert!(text.contains("cannot reach the broker") && text.contains("rantai up"), "{examined:#?}");
}

#[test]
fn doctor_prints_a_table_with_advice() {
    let (_broker, url) = broker_of("");
    let done = finish(rantai().args(["doctor", &url, "--timeout", "10"]));
    assert_eq!(done.code, 2, "{done:?}");
    for text in ["WHAT TO DO", "\nretained ", " ok ", "[[users]]", "The bus works, and is open to strangers."]
    {
        assert!(done.stdout.contains(text), "{text}: {done:?}");
    }
    assert!(!done.stderr.contains("error:"), "{done:?}");
}

#[test]
fn doctor_json_has_the_documented_keys() {
    let (_broker, url) = broker_of("");
    let done = finish(&mut doctor(&url, &[]));
    assert_eq!((done.code, done.stdout.lines().count()), (2, 1), "{done:?}");
    let report: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&report), ["broker", "items", "open", "product", "user", "works"]);
    for item in report["items"].as_array().expect("a list") {
        assert_eq!(keys(item), ["advice", "area", "id", "state", "text"]);
    }
    // An address with several brokers is refused.
    let done = finish(&mut doctor(&format!("{url},mqtt://localhost:1"), &[]));
    let report: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(done.code, 2, "{done:?}");
    assert_eq!(
        report["error"]["message"], "several brokers are named; examine one after the other",
        "{done:?}"
    );
}

#[test]
fn expired_certificate_is_reported_with_the_clock() {
    let (_broker, url) = broker_of("");
    let broker: SocketAddr = url.trim_start_matches("mqtt://").parse().expect("an address");
    let authority = Authority::new("lab");
    let ca = authority.file();
    let (now, day) = (SystemTime::now(), Duration::from_hours(24));
    for (from, until) in [(now - 2 * day, now - day), (now + day, now + 2 * day)] {
        let certificate = authority.issue_with(&["localhost"], move |certificate| {
            (certificate.not_before, certificate.not_after) = (from.into(), until.into());
        });
        let tunnel = Tunnel::start(Layers::Tls(certificate.server(None)), broker).expect("a tunnel");
        let url = format!("mqtts://localhost:{}", tunnel.port());
        let examined = examine(&url, &["--ca", ca.to_str().expect("a path")]);
        assert_eq!(examined.code, 1, "{examined:#?}");
        assert!(examined.items["reachable"].1.contains("is the clock right?"), "{examined:#?}");
    }
}

#[test]
fn doctor_examines_every_transport_and_its_certificate() {
    let (_broker, url) = broker_of("");
    let broker: SocketAddr = url.trim_start_matches("mqtt://").parse().expect("an address");
    let authority = Authority::new("lab");
    let ca = authority.file();
    let ca = ca.to_str().expect("a path");
    let days = |days: u32| {
        let until = SystemTime::now() + days * Duration::from_hours(24);
        authority
            .issue_with(&["localhost"], move |certificate| certificate.not_after = until.into())
            .server(None)
    };
    let socket = authority.folder().join("mqtt.sock");
    for (layers, url, certificate) in [
        (Layers::Tls(days(90)), "mqtts://localhost", "ok"),
        (Layers::Tls(days(5)), "mqtts://localhost", "warning"),
        (Layers::Web(Some(days(90))), "wss://localhost", "ok"),
        (Layers::Web(None), "ws://localhost", "not there"),
        (Layers::Unix(socket.clone()), "unix:", "not there"),
    ] {
        let is_unix = matches!(layers, Layers::Unix(_));
        let tunnel = Tunnel::start(layers, broker).expect("a tunnel");
        let url =
            if is_unix { format!("unix:{}", socket.display()) } else { format!("{url}:{}", tunnel.port()) };
        let examined = examine(&url, &["--ca", ca]);
        assert_eq!(examined.code, 2, "{url}: {examined:#?}");
        assert_eq!(examined.state("certificate"), certificate, "{url}: {examined:#?}");
        let bus = examined.report["items"].as_array().expect("a list").iter();
        for item in bus.filter(|item| item["area"] == "bus" || item["id"] == "encryption") {
            assert_eq!(item["state"], "ok", "{url}: {item}");
        }
        if certificate == "warning" {
            assert!(examined.items["certificate"].1.starts_with("valid for 4 more days; "), "{examined:#?}");
        }
    }
    let elsewhere = authority.issue(&["pi.local"]).server(None);
    let tunnel = Tunnel::start(Layers::Tls(elsewhere), broker).expect("a tunnel");
    for (arguments, text) in [
        (&["--ca", ca][..], "is for pi.local, not for localhost; use one of those in the address"),
        (&[], "does not trust; name the file of its authority's certificate with --ca"),
    ] {
        let examined = examine(&format!("mqtts://localhost:{}", tunnel.port()), arguments);
        assert_eq!(examined.code, 1, "{examined:#?}");
        assert!(examined.items["reachable"].1.contains(text), "{examined:#?}");
    }
}
