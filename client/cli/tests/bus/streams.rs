//! Streamed results: printed in lines, returned by HTTP, and refused by the ledger.

use std::fs;
use std::io::Write as _;

use rustix::process::Signal;

use super::files::{Folders, folders};
use super::process::{Bus, Server, bus};

/// Serves a shared folder with a log of two lines.
fn log(bus: &Bus) -> (Folders, Server) {
    let folders = folders(65_536, None);
    fs::write(folders.shared("log"), "first \"quoted\"\nsecond\n").expect("written");
    let node = folders.serve(bus);
    (folders, node)
}

fn append(folders: &Folders, text: &str) {
    let file = fs::OpenOptions::new().append(true).open(folders.shared("log"));
    file.expect("there").write_all(text.as_bytes()).expect("written");
}

#[test]
fn items_are_lines_and_json_lines() {
    let bus = bus();
    let (_folders, _node) = log(&bus);
    assert_eq!(bus.ok(&["call", "books.tail", "log"]), "first \"quoted\"\nsecond\n");
    assert_eq!(bus.ok(&["call", "books.tail", "log", "1"]), "second\n");
    let json = bus.ok(&["call", "books.tail", "path=log", "lines=2", "--json"]);
    assert_eq!(json, "\"first \\\"quoted\\\"\"\n\"second\"\n");
    let failed = bus.run(&["call", "books.tail", "nolog"]);
    assert!(failed.code != 0 && failed.stdout.is_empty(), "{failed:?}");
}

#[test]
fn a_log_is_followed_until_ctrl_c() {
    let bus = bus();
    let (folders, _node) = log(&bus);
    let arguments = ["call", "books.tail", "path=log", "lines=1", "follow=true", "--timeout", "2s"];
    let mut call = Server::spawn(&mut bus.command(&arguments));
    call.wait_for("second");
    // Longer than the time limit for a call to begin.
    std::thread::sleep(std::time::Duration::from_secs(5));
    append(&folders, "third\n");
    call.wait_for("third");
    call.signal(Signal::INT);
    assert_eq!(call.exit_code(), 130, "{:?}", call.said());
}

#[test]
fn task_with_a_streamed_result_fails_with_a_clear_error() {
    let bus = bus();
    let (_folders, _node) = log(&bus);
    let data = tempfile::tempdir().expect("a directory");
    let data = data.path().to_str().expect("UTF-8");
    let mut tasks = bus.serve(&["tasks", "--data-dir", data]);
    tasks.wait_for("serving tasks");
    let failed = bus.run(&["task", "submit", "books.tail", "log", "--wait", "--timeout", "30s"]);
    assert!(failed.code != 0 && failed.stderr.contains("call it directly"), "{failed:?}");
}

#[cfg(feature = "gateway")]
mod by_http {
    use std::io::Read as _;
    use std::net::TcpStream;

    use super::super::gateway::{Gateway, ask, connect, gateway, get, send};
    use super::*;

    fn open(gateway: &Gateway, target: &str, accept: &str) -> TcpStream {
        let mut stream = connect(&gateway.rest);
        let accept = format!("Accept: {accept}");
        send(&mut stream, &gateway.rest, "GET", target, &[&accept, "Connection: close"], b"");
        stream
    }

    /// Reads until the response contains this text.
    fn until(stream: &mut TcpStream, expected: &str) -> String {
        let mut text = String::new();
        let mut block = [0; 1024];
        while !text.contains(expected) {
            let read = stream.read(&mut block).expect("it goes on");
            assert!(read > 0, "it ended before {expected:?}: {text}");
            text.push_str(&String::from_utf8_lossy(&block[..read]));
        }
        text
    }

    #[test]
    fn http_streams_items_as_lines_or_events_by_accept_header() {
        let bus = bus();
        let (folders, _node) = log(&bus);
        let gateway = gateway(&bus, "");
        let target = "/objects/books/tail?path=log";
        assert_eq!(get(&gateway.rest, target).json(), serde_json::json!(["first \"quoted\"", "second"]));
        let text = until(&mut open(&gateway, target, "application/x-ndjson"), "0\r\n\r\n");
        assert!(
            text.starts_with("HTTP/1.1 200") && text.contains("content-type: application/x-ndjson"),
            "{text}"
        );
        assert!(text.contains("\"first \\\"quoted\\\"\"\n") && text.contains("\"second\"\n"), "{text}");
        let text = until(&mut open(&gateway, target, "text/event-stream"), "event: end");
        assert!(text.contains("event: item\ndata: \"second\"\n\n"), "{text}");
        // A result that is not a stream is returned as usual, and so is an error before the first item.
        let sum = ask(
            &gateway.rest,
            "GET",
            "/objects/calculator/add?a=2&b=3",
            &["Accept: application/x-ndjson"],
            b"",
        );
        assert_eq!(sum.json(), serde_json::json!(5));
        let missing = "/objects/books/tail?path=nolog";
        let failed = ask(&gateway.rest, "GET", missing, &["Accept: application/x-ndjson"], b"");
        assert_eq!((failed.status, failed.json()["error"]["code"].as_i64()), (500, Some(-32000)));
        let following = "/objects/books/tail?path=log&lines=1&follow=true";
        let mut stream = open(&gateway, following, "application/x-ndjson");
        until(&mut stream, "\"second\"\n");
        append(&folders, "third\n");
        until(&mut stream, "\"third\"\n");
        // An error after some items is the last line, and the body is not terminated properly.
        fs::remove_file(folders.shared("log")).expect("removed");
        fs::create_dir(folders.shared("log")).expect("made");
        let text = until(&mut stream, "\"error\"");
        let mut rest = String::new();
        let _ = stream.read_to_string(&mut rest);
        assert!(!format!("{text}{rest}").ends_with("0\r\n\r\n"), "{text}{rest}");
    }
}
