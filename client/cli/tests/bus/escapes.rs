//! Texts of a node that contain control characters for the terminal of a reader.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rantai_client::steers;
use serde_json::{Value, json};

use super::foreign::{Emitted, Foreign};
use super::process::{Bus, Done, bus, finish};
use super::terminal::terminal;

/// Text that sets the title, clears the screen by C0 and by C1 controls, deletes, and reverses the direction.
const EVIL: &str = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}2J\u{7f}\r\u{202e}y\u{2069}";
const SHOWN: &str = "x\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{9b}2J\\u{7f}\\r\\u{202e}y\\u{2069}";

fn answer(method: &str, payload: &[u8]) -> (Emitted, Result<Value, Value>) {
    let result = match method {
        "rpc.discover" => json!({
            "info": {"title": EVIL, "version": EVIL, "description": EVIL},
            "methods": [{
                "name": EVIL, "summary": EVIL, "params": [{"name": EVIL, "schema": {"type": EVIL}}],
                "result": {"schema": {"$ref": EVIL}},
            }],
            "x-events": [{"name": EVIL, "schema": {"type": [EVIL]}}],
        }),
        "result" | "welcomeMessage" | "status" => json!(EVIL),
        "lines" => json!("a\n\tb\u{1b}c"),
        "process" => {
            let hop = json!({"hop": 1, "node": EVIL, "next": EVIL, "us": 1});
            return (Some(("hop", hop)), Ok(json!([EVIL, {"a": EVIL}])));
        }
        "list" => json!({"entries": [{"path": EVIL, "size": 1, "modified_ms": 0}], "next": null}),
        "get_insults" if payload == b"[0]" => json!([EVIL]),
        "get_insults" => json!([]),
        "command" => json!({"status_code": 200, "retval": [{"a": EVIL}, EVIL]}),
        _ => return (None, Err(json!({"code": -32000, "message": EVIL, "data": {"kind": EVIL}}))),
    };
    (None, Ok(result))
}

fn evil(bus: &Bus) -> Foreign {
    let entry = json!({"methods": [EVIL, "result"], "summary": EVIL, "events": [EVIL], "version": EVIL});
    Foreign::serve(bus, "evil", &entry, answer)
}

/// Returns the output of a command on a terminal, and its exit code.
fn on_a_terminal(bus: &Bus, arguments: &[&str]) -> (String, i32) {
    let (mut ours, theirs) = terminal();
    let handle = |theirs: &OwnedFd| Stdio::from(theirs.try_clone().expect("a second handle"));
    let mut command = bus.command(arguments);
    let mut child = command.stdout(handle(&theirs)).stderr(handle(&theirs)).spawn().expect("the binary runs");
    drop((command, theirs));
    let screen = read_to_hangup(&mut ours);
    (screen, child.wait().expect("it ends").code().expect("no signal ended it"))
}

/// Reads from a terminal, which ends with an error where a pipe just ends.
fn read_to_hangup(ours: &mut File) -> String {
    let (mut screen, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(size @ 1..) = ours.read(&mut buffer) {
        screen.extend_from_slice(&buffer[..size]);
    }
    // The terminal inserts a carriage return before each line feed.
    String::from_utf8(screen).expect("UTF-8").replace("\r\n", "\n")
}

#[test]
fn control_characters_of_a_node_are_escaped_on_a_terminal() {
    let bus = bus();
    let _evil = evil(&bus);
    let sub = format!("{}/event/evil/#", bus.root);
    let folder = tempfile::tempdir().expect("a directory");
    let target = folder.path().join("file").display().to_string();
    for (arguments, code) in [
        (&["ls"][..], 0),
        (&["describe", "evil"], 0),
        (&["call", "evil.result"], 0),
        (&["call", "evil.error"], 1),
        (&["chain", "evil", "x"], 0),
        (&["chain", "evil", "x", "--trace"], 0),
        (&["files", "evil"], 0),
        (&["get", "evil", "file", "-o", &target], 1),
        (&["library", "buy", "Dune", "--object", "evil"], 0),
        (&["library", "checkout", "--object", "evil"], 1),
        (&["insult", "list", "--object", "evil"], 0),
        (&["insult", "add", "tonto", "--object", "evil"], 1),
        (&["imaging", "list_nodes", "--object", "evil"], 0),
        (&["upcall", "hello", "--object", "evil", "--no-log"], 1),
    ] {
        let (screen, exit) = on_a_terminal(&bus, arguments);
        let steered = screen.chars().find(|c| steers(*c) && *c != '\n');
        assert!(steered.is_none(), "{arguments:?}: {steered:?} in {screen:?}");
        assert!(screen.contains(SHOWN), "{arguments:?}: {screen:?}");
        assert_eq!(exit, code, "{arguments:?}: {screen:?}");
    }
    for arguments in [&["watch", "evil", "kept", "--count", "1"][..], &["sub", &sub, "--count", "1"]] {
        let (screen, exit) = on_a_terminal(&bus, arguments);
        assert!(!screen.chars().any(|c| steers(c) && c != '\n') && exit == 0, "{arguments:?}: {screen:?}");
        assert!(screen.contains("u{202e}") || screen.contains("u202e"), "{arguments:?}: {screen:?}");
    }
    let format = ["sub", &sub, "--count", "1", "--format", "\u{1b}[1m{payload}\u{1b}[0m\t|"];
    let (screen, _) = on_a_terminal(&bus, &format);
    assert!(screen.contains("\u{1b}[1m\"evil \\u001b[2J"), "the user's own format stays: {screen:?}");
    let (screen, _) = on_a_terminal(&bus, &["call", "evil.lines"]);
    assert_eq!(screen, "a\n\tb\\u{1b}c\n", "lines and tabs of a text stay");
    for arguments in [&["call", "evil.result", "--json"][..], &["describe", "evil", "--json"]] {
        let (screen, _) = on_a_terminal(&bus, arguments);
        assert!(!screen.chars().any(|c| steers(c) && c != '\n'), "{arguments:?}: {screen:?}");
        let value: Value = serde_json::from_str(&screen).expect("JSON on a terminal too");
        assert!(value == json!(EVIL) || value["info"]["title"] == EVIL, "{screen:?}");
    }
}

#[test]
fn results_are_piped_unchanged_and_errors_escaped() {
    let bus = bus();
    let _evil = evil(&bus);
    let run = |arguments: &[&str]| -> Done { finish(&mut bus.command(arguments)) };
    assert_eq!(run(&["call", "evil.result"]).stdout, format!("{EVIL}\n"));
    let json = run(&["call", "evil.result", "--json"]).stdout;
    assert_eq!(json, format!("{}\n", json!(EVIL)));
    let error = run(&["call", "evil.error"]).stderr;
    assert_eq!(error, format!("error: {SHOWN}\n"));
    let hops = run(&["chain", "evil", "x", "--trace"]).stderr;
    assert_eq!(hops, format!("{SHOWN} -> {SHOWN}  (1 us)\n"));
}
