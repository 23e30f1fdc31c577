//! Telemetry: a sensor on plain topics, and commands that follow them and publish on them.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{Bus, PATIENCE, Server, broker, bus, finish, own, port_of, root};

const CONFIG: &str = include_str!("../../../../config/telemetry.toml");

/// Writes the configuration, with its own topics on a broker that others use too.
fn config(bus: &Bus, folder: &Path, period_ms: u64) -> String {
    let text = CONFIG.replace("\"sister/", &format!("\"{}/sister/", bus.root));
    let text = text.replace("period_ms = 1000", &format!("period_ms = {period_ms}"));
    let file = folder.join("telemetry.toml");
    std::fs::write(&file, text.replace("#seed = 1", "seed = 1")).expect("written");
    file.display().to_string()
}

fn topics(bus: &Bus) -> [String; 2] {
    ["temp", "humidity"].map(|name| format!("{}/sister/{name}", bus.root))
}

fn subscribed(bus: &Bus, arguments: &[&str]) -> Server {
    let mut sub = Server::spawn(&mut bus.command(&[&["sub"], arguments].concat()));
    sub.wait_for("subscribed to ");
    sub
}

/// Returns the first lines that begin with `beginning`.
fn lines(server: &mut Server, beginning: &str, count: usize) -> Vec<String> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let begin = server.said().iter().filter(|line| line.starts_with(beginning));
        let lines: Vec<String> = begin.take(count).cloned().collect();
        if lines.len() == count {
            return lines;
        }
        assert!(std::time::Instant::now() < deadline, "not {count} of {beginning:?}: {lines:#?}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("UTF-8 that is there")
}

#[test]
fn every_reading_arrives_once_in_order_and_whole() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let [temp, humidity] = topics(&bus);
    let log = folder.path().join("mqtt_messages.log");
    let mut sub = subscribed(&bus, &[&temp, &humidity, "--count", "20", "--log", &log.display().to_string()]);
    let mut sensor = bus.serve(&["--config", &config(&bus, folder.path(), 20)]);
    assert_eq!(sub.exit_code(), 0);
    sensor.wait_for("serving sister");
    let sent = lines(&mut sensor, "Mengirim", 20);
    let mut expected = Vec::new();
    for (index, line) in sent.iter().enumerate() {
        let (before, topic, range) = match index % 2 {
            0 => ("Mengirim suhu: ", &temp, 20..=35),
            _ => ("Mengirim kelembapan: ", &humidity, 30..=50),
        };
        let payload = line.strip_prefix(before).expect("in its order");
        let value = payload.trim_end_matches(['°', 'C', '%']).parse::<u8>().expect("a whole number");
        assert!(range.contains(&value), "{line}");
        expected.push(format!("Received message: {payload} (Topic: {topic})"));
    }
    let logged = text(&log);
    assert_eq!(logged.lines().collect::<Vec<_>>(), expected);
    assert!(logged.contains("°C"));
    assert_eq!(lines(&mut sub, "Received", 20), expected);
    let plain = bus.ok(&["sub", &temp, "--count", "1", "--json"]);
    let plain: Value = serde_json::from_str(&plain).expect("JSON");
    assert_eq!((&plain["qos"], &plain["retained"]), (&json!(0), &json!(false)), "{plain}");
}

#[test]
fn retained_reading_is_printed_at_once_and_seed_repeats_values() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let config = config(&bus, folder.path(), 3_600_000);
    let mut firsts = Vec::new();
    for _ in 0..2 {
        let mut sensor = bus.serve(&["--config", &config]);
        let line = sensor.wait_for("Mengirim suhu: ");
        sensor.wait_for("serving sister");
        sensor.wait_for("Mengirim kelembapan: ");
        let watched = bus.ok(&["watch", "sister", "temp", "--count", "1", "--json"]);
        let watched: Value = serde_json::from_str(&watched).expect("JSON");
        assert_eq!(line, format!("Mengirim suhu: {}°C", watched["value"]["value"]));
        assert_eq!(line, format!("Mengirim suhu: {}", watched["value"]["text"].as_str().expect("a text")));
        let read: Value = serde_json::from_str(&bus.ok(&["call", "sister.read"])).expect("JSON");
        assert_eq!(read["temp"], watched["value"]);
        assert_eq!(read.as_object().map(serde_json::Map::len), Some(2));
        firsts.push(line);
        sensor.signal(Signal::TERM);
        assert_eq!(sensor.exit_code(), 0);
    }
    assert_eq!(firsts[0], firsts[1]);
    let described = bus.run(&["serve", "--replica", "--config", &config]);
    assert!(described.code == 2 && described.stderr.contains("by one node alone"), "{described:?}");
}

#[test]
fn sub_resubscribes_after_a_broker_restart_without_repeated_lines() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().join("data").display().to_string();
    let (first, url) = broker(&["--port", "0", "--data-dir", &data]);
    let bus = Bus { broker: None, url, root: root("rantai") };
    bus.ok(&["pub", "door", "open", "--retain"]);
    let log = folder.path().join("log").display().to_string();
    let mut sub = subscribed(&bus, &["door", "sister/#", "--count", "3", "--log", &log]);
    sub.wait_for("open");
    first.kill();
    sub.wait_for("is lost");
    let (_second, url) = broker(&["--port", &port_of(&bus.url), "--data-dir", &data]);
    assert_eq!(url, bus.url);
    sub.wait_for("connected again");
    // Repeated until the broker has processed the subscription: then one of them arrives.
    while bus.ok(&["pub", "sister/temp", "28°C", "--json"]).contains("\"unheard\":1") {}
    bus.ok(&["pub", "sister/humidity", "40%", "--qos", "0"]);
    assert_eq!(sub.exit_code(), 0);
    let expected = [("open", "door"), ("28°C", "sister/temp"), ("40%", "sister/humidity")]
        .map(|(payload, topic)| format!("Received message: {payload} (Topic: {topic})\n"));
    assert_eq!(text(Path::new(&log)), expected.concat());
}

#[test]
fn sensor_and_subscriber_wait_for_the_broker_and_go_on_when_it_comes_back() {
    let folder = tempfile::tempdir().expect("a directory");
    let (first, url) = broker(&["--port", "0"]);
    let port = port_of(&url);
    let bus = Bus { broker: None, url, root: root("rantai") };
    first.kill();
    let [temp, humidity] = topics(&bus);
    let impatient = bus.run(&["sub", &temp]);
    assert!(impatient.code == 3 && impatient.stderr.contains("rantai up"), "{impatient:?}");
    let mut sub = Server::spawn(&mut bus.command(&["sub", "--wait", &temp, &humidity]));
    let mut sensor = bus.serve(&["--config", &config(&bus, folder.path(), 20)]);
    let (second, _) = broker(&["--port", &port]);
    lines(&mut sub, "Received message: ", 10);
    second.kill();
    sub.wait_for("is lost");
    let before = sub.said().iter().filter(|line| line.starts_with("Received message: ")).count();
    let (_third, _) = broker(&["--port", &port]);
    let received = lines(&mut sub, "Received message: ", before + 10);
    sub.wait_for("connected again");
    // No line is repeated or out of order: they are a part of what was sent.
    let received: Vec<&str> = received.iter().filter_map(|line| value(line, "message: ")).collect();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut sent = sensor.said().iter().filter_map(|line| value(line, "Mengirim "));
        if received.iter().all(|received| sent.any(|sent| sent == *received)) {
            break;
        }
        // The sensor's output may arrive a little later.
        assert!(std::time::Instant::now() < deadline, "{received:#?} of {:#?}", sensor.said());
    }
}

/// Returns the measured value with its unit, from a line of the sensor or of a follower.
fn value<'a>(line: &'a str, beginning: &str) -> Option<&'a str> {
    let words = line.split_once(beginning)?.1.split([' ', ':', '(']);
    words.into_iter().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

#[test]
fn printed_line_is_in_the_log_file_after_kill_9() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let topic = format!("{}/killed", bus.root);
    let log = folder.path().join("log");
    let mut sub =
        subscribed(&bus, &[&topic, "--log", &log.display().to_string(), "--format", "{topic}={payload}"]);
    bus.ok(&["pub", &topic, "line\n\u{1b}[2J"]);
    let line = sub.wait_for("killed=");
    sub.kill();
    assert_eq!(line, format!("{topic}=line\\n\\u{{1b}}[2J"), "it is one line and steers no terminal");
    assert_eq!(text(&log), format!("{line}\n"));
}

#[test]
fn full_log_of_sub_is_rotated() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let topic = format!("{}/much", bus.root);
    let log = folder.path().join("log");
    let path = log.display().to_string();
    let options =
        ["--log", &path, "--log-size", "1000", "--log-files", "2", "--count", "100", "--format", "{payload}"];
    let mut sub = subscribed(&bus, &[&[&*topic][..], &options].concat());
    bus.ok(&["pub", &topic, &"x".repeat(99), "--count", "100"]);
    assert_eq!(sub.exit_code(), 0);
    let files: Vec<PathBuf> =
        folder.path().read_dir().expect("there").map(|e| e.expect("there").path()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files.iter().all(|file| text(file).len() == 1_000 && text(file).lines().count() == 10));
}

#[test]
fn pub_publishes_retains_and_clears_messages() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let topic = format!("{}/state", bus.root);
    bus.ok(&["pub", &topic, "buka 本", "--retain"]);
    assert_eq!(
        bus.ok(&["sub", &topic, "--count", "1", "--format", "{payload} {retained} {qos}"]),
        "buka 本 true 1\n"
    );
    bus.ok(&["pub", &topic, "--retain"]);
    let mut sub = subscribed(&bus, &[&topic, &format!("{}/+", bus.root), "--count", "3", "--json"]);
    let file = folder.path().join("bytes");
    std::fs::write(&file, [0, 255, 16]).expect("written");
    let stdin = File::open(&file).expect("just written");
    let done = finish(bus.command(&["pub", &topic, "-"]).stdin(stdin));
    assert_eq!((done.code, &*done.stderr), (0, ""), "{done:?}");
    bus.ok(&["pub", &topic, "-1", "--count", "2", "--every", "1ms"]);
    assert_eq!(sub.exit_code(), 0);
    let lines = lines(&mut sub, "{", 3);
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        (&lines[0]["hex"], &lines[1]["payload"], &lines[2]["payload"]),
        (&json!("00ff10"), &json!("-1"), &json!("-1"))
    );
    let unheard = bus.run(&["pub", &format!("{}/nobody", bus.root), "x"]);
    assert!(unheard.code == 0 && unheard.stderr.contains("nobody subscribes"), "{unheard:?}");
}

#[test]
fn invalid_arguments_of_pub_and_sub_have_clear_errors() {
    let bus = own();
    let folder = tempfile::tempdir().expect("a directory");
    let log = folder.path().join("none/log").display().to_string();
    for (arguments, code, expected) in [
        (&["pub", "a/#", "x"][..], 2, "no topic"),
        (&["pub", "a", "x", "--qos", "2"], 2, "qos"),
        (&["pub", "a", "x", "--broker", "mqtt://127.0.0.1:1"], 3, "rantai up"),
        (&["sub", "a/#/b"], 2, "only at the end"),
        (&["sub", "$share/g/a"], 2, "leave $share/GROUP/ out"),
        (&["sub", "a", "--format", "{value}"], 2, "no field {value}"),
        (&["sub", "a", "--log", &log], 1, "cannot open"),
        (&["sub", "a", "--log", "x", "--log-size", "1"], 2, "log-size"),
        (&["sub"], 2, "TOPIC"),
    ] {
        let done = bus.run(arguments);
        assert!(done.code == code && done.stderr.contains(expected), "{arguments:?}: {done:?}");
    }
    let mut endless = Server::spawn(&mut bus.command(&["pub", "alive", "1", "--every", "10ms"]));
    let mut sub = subscribed(&bus, &["alive"]);
    sub.wait_for("Received message: 1 (Topic: alive)");
    for process in [&mut endless, &mut sub] {
        process.signal(Signal::TERM);
        assert_eq!(process.exit_code(), 0);
    }
}
