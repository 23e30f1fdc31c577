//! Messages to a server that calls back.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::{Bus, Done, Server, bus, finish, own};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/upcall.toml");

fn server(bus: &Bus) -> Server {
    let mut server = bus.serve(&["--config", CONFIG]);
    server.wait_for("serving upcall");
    server
}

/// Runs the client, with its log in `folder`.
fn client(bus: &Bus, folder: &Path, arguments: &[&str]) -> Done {
    let log = folder.join("client_log.txt").display().to_string();
    bus.run(&[&["upcall", "--log", &log], arguments].concat())
}

/// Returns the log's lines without their times, which must be present.
fn logged(folder: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(folder.join("client_log.txt")).expect("UTF-8 that is there");
    let text = |line: &str| {
        let (time, text) = (&line[..19], &line[20..]);
        assert!(time.chars().filter(char::is_ascii_digit).count() == 14, "{line}");
        text.to_owned()
    };
    log.lines().map(text).collect()
}

#[test]
fn each_message_is_sent_separately_and_called_back() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let mut server = server(&bus);
    let done = client(&bus, folder.path(), &[" satu ,1984,, dua tiga ,BYE, never"]);
    let upcalls = ["satu", "1984", "dua tiga"]
        .map(|message| format!("Received upcall from server: Upcall event: Processing {message}\n"));
    assert_eq!((done.code, done.stdout), (0, upcalls.concat() + "Exiting...\n"), "{}", done.stderr);
    for message in ["satu", "1984", "dua tiga"] {
        assert_eq!(server.wait_for(message), format!("Received from client: {message}"));
    }
    let mut expected = vec![format!("Connected to server at upcall on {}", bus.url)];
    for message in ["satu", "1984", "dua tiga"] {
        expected.push(format!("Sent: {message}"));
        expected.push(format!("Received: Upcall event: Processing {message}"));
    }
    expected.push("Connection closed by user.".to_owned());
    assert_eq!(logged(folder.path()), expected);
    assert!(!server.said().iter().any(|line| line.contains("never")));
}

#[test]
fn messages_are_typed_line_by_line() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let _server = server(&bus);
    let typed = folder.path().join("typed");
    std::fs::write(&typed, "a, b\n\n c\nbye\nd\n").expect("written");
    let stdin = File::open(&typed).expect("just written");
    let done = finish(bus.command(&["upcall", "--no-log", "--json"]).stdin(stdin));
    let expected: String = ["a", "b", "c"]
        .map(|m| format!("{{\"sent\":\"{m}\"}}\n{{\"received\":\"Upcall event: Processing {m}\"}}\n"))
        .concat();
    assert_eq!((done.code, done.stdout), (0, expected), "{}", done.stderr);
}

#[test]
fn longest_message_arrives_complete_and_longer_ones_are_refused() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let mut server = server(&bus);
    // The worst case for JSON: each character takes six bytes.
    let long = "\u{1}".repeat(100 << 10) + "°end";
    let typed = folder.path().join("typed");
    std::fs::write(&typed, &long).expect("written");
    let stdin = File::open(&typed).expect("just written");
    let done = finish(bus.command(&["upcall", "--no-log", "--json"]).stdin(stdin));
    assert_eq!(done.code, 0, "{}", done.stderr);
    let received: serde_json::Value =
        serde_json::from_str(done.stdout.lines().nth(1).expect("two lines")).expect("JSON");
    assert_eq!(received["received"], format!("Upcall event: Processing {long}"));
    let line = server.wait_for("°end");
    assert_eq!(line.len(), "Received from client: ".len() + "\\u{1}".len() * (100 << 10) + "°end".len());
    std::fs::write(&typed, "x".repeat(200 << 10)).expect("written");
    let stdin = File::open(&typed).expect("just written");
    let done = finish(bus.command(&["upcall", "--no-log"]).stdin(stdin));
    assert!(done.code == 2 && done.stderr.contains("it may have 131072"), "{done:?}");
}

#[test]
fn missing_upcall_ends_the_wait_at_its_timeout() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let server = server(&bus);
    server.signal(Signal::STOP);
    let began = Instant::now();
    let done = client(&bus, folder.path(), &["x", "--timeout", "500ms"]);
    assert_eq!((done.code, &*done.stdout), (6, "Timeout: No response from server.\n"), "{done:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(logged(folder.path()), ["Timeout: No response from server."]);
    server.signal(Signal::CONT);
    drop(server);
    let nobody = client(&bus, folder.path(), &["x", "--object", "nobody"]);
    assert!(nobody.code == 5 && nobody.stderr.contains("nobody"), "{nobody:?}");
}

#[test]
fn a_message_without_an_upcall_is_told_and_the_next_one_goes_out() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let mut server = server(&bus);
    let log = folder.path().join("client_log.txt").display().to_string();
    let (input, keyboard) = rustix::pipe::pipe().expect("a pipe");
    let mut command = bus.command(&["upcall", "--log", &log, "--timeout", "1"]);
    let mut client = Server::spawn(command.stdin(std::process::Stdio::from(input)));
    let mut keyboard = File::from(keyboard);
    let mut say = |line: &str| std::io::Write::write_all(&mut keyboard, line.as_bytes()).expect("typed");
    say("before\n");
    client.wait_for("Processing before");
    server.signal(Signal::STOP);
    say("during\n");
    client.wait_for("Timeout: No response from server.");
    server.signal(Signal::CONT);
    say("after\nbye\n");
    client.wait_for("Processing after");
    assert_eq!(client.exit_code(), 6);
    server.wait_for("Received from client: after");
    let logged = logged(folder.path());
    let at = |text: &str| logged.iter().position(|line| line == text).expect(text);
    assert!(at("Sent: during") < at("Timeout: No response from server."), "{logged:#?}");
    assert!(at("Timeout: No response from server.") < at("Sent: after"), "{logged:#?}");
    assert_eq!(logged.last().map(String::as_str), Some("Connection closed by user."));
}

#[test]
fn pushed_messages_are_printed() {
    let (bus, folder) = (bus(), tempfile::tempdir().expect("a directory"));
    let _server = server(&bus);
    let logs: Vec<PathBuf> = (0..2).map(|number| folder.path().join(number.to_string())).collect();
    let mut clients: Vec<Server> = logs
        .iter()
        .map(|log| {
            let log = log.display().to_string();
            Server::spawn(&mut bus.command(&["upcall", "ready", "--listen", "--log", &log]))
        })
        .collect();
    for client in &mut clients {
        client.wait_for("Processing ready");
    }
    bus.ok(&["call", "upcall.push", "selamat pagi"]);
    for (client, log) in clients.iter_mut().zip(&logs) {
        client.wait_for("Received upcall from server: selamat pagi");
        client.signal(Signal::INT);
        assert_eq!(client.exit_code(), 0);
        let log = std::fs::read_to_string(log).expect("there");
        assert!(
            log.contains("Received: selamat pagi") && log.ends_with("Connection closed by user.\n"),
            "{log}"
        );
    }
}

#[test]
fn clients_receive_only_their_own_upcalls() {
    let bus = bus();
    let _server = server(&bus);
    let mut clients: Vec<(usize, Server)> = (0..20)
        .map(|number| {
            let messages: Vec<String> = (0..10).map(|message| format!("{number}:{message}")).collect();
            let mut command = bus.command(&["upcall", "--no-log", &messages.join(",")]);
            (number, Server::spawn(&mut command))
        })
        .collect();
    for (number, client) in &mut clients {
        assert_eq!(client.exit_code(), 0);
        client.wait_for(&format!("Processing {number}:9"));
        let upcalls: Vec<String> =
            client.said().iter().filter(|line| line.starts_with("Received")).cloned().collect();
        let expected = (0..10).map(|message| {
            format!("Received upcall from server: Upcall event: Processing {number}:{message}")
        });
        assert_eq!(upcalls, expected.collect::<Vec<_>>());
    }
}

#[test]
fn texts_are_those_of_the_configuration() {
    let (bus, folder) = (own(), tempfile::tempdir().expect("a directory"));
    let config = folder.path().join("upcall.toml");
    let text = "[[upcall]]\nname = \"meja\"\nreceived = \"dari klien: {message}\"\nupcall = \"{message}!\"\n\
                [upcall.words]\nbye = \"SELESAI\"\nupcall = \"server: {message}\"\nexiting = \"sampai jumpa\"\n";
    std::fs::write(&config, text).expect("written");
    let mut server = bus.serve(&["--config", &config.display().to_string()]);
    server.wait_for("serving meja");
    let printed = bus.ok(&["upcall", "--object", "meja", "--no-log", "bye, selesai"]);
    assert_eq!(printed, "server: bye!\nsampai jumpa\n");
    server.wait_for("dari klien: bye");
}
