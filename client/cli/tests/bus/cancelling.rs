//! Calls that are cancelled by their callers: Ctrl-C, and a closed HTTP request.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

#[cfg(feature = "gateway")]
use super::gateway::{connect, gateway, send};
use super::process::{Bus, PATIENCE, Server, bus};

/// Waits until `echo.delay` runs this many times.
pub(super) fn wait_in_flight(bus: &Bus, expected: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats: Value =
            serde_json::from_str(&bus.ok(&["call", "echo.rpc.stats", "--json"])).expect("JSON");
        let in_flight = stats["methods"]["delay"]["in_flight"].as_u64().unwrap_or(0);
        if in_flight == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{in_flight} calls, not {expected}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn ctrl_c_cancels_the_call() {
    let bus = bus();
    let mut node = bus.serve(&["echo"]);
    node.wait_for("serving echo");
    for (signal, more) in [(Signal::INT, &[][..]), (Signal::TERM, &[]), (Signal::INT, &["--all"])] {
        let arguments = [&["call", "echo.delay", "3000000", "late", "--timeout", "1h"][..], more].concat();
        let mut call = Server::spawn(&mut bus.command(&arguments));
        wait_in_flight(&bus, 1);
        call.signal(signal);
        assert_eq!(call.exit_code(), 130, "{:?}", call.said());
        call.wait_for("the call is cancelled");
        wait_in_flight(&bus, 0);
    }
}

#[cfg(feature = "gateway")]
#[test]
fn a_closed_http_request_cancels_the_call() {
    let bus = bus();
    let gateway = gateway(&bus, "");
    let mut stream = connect(&gateway.rest);
    let headers = ["Content-Type: application/json", "Prefer: wait=3000"];
    send(&mut stream, &gateway.rest, "POST", "/objects/echo/delay", &headers, b"[3000000, \"late\"]");
    wait_in_flight(&bus, 1);
    drop(stream);
    wait_in_flight(&bus, 0);
}
