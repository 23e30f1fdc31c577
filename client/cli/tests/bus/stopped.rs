//! Regression: a node whose process was stopped for a while (SIGSTOP, a debugger, a suspended machine) executed the
//! requests that had arrived meanwhile, even after their deadlines, because the time of a request was counted from when
//! the node read it.

use std::time::Duration;

use rantai_client::Client;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::sleep;

use super::process::{PATIENCE, bus};

/// Returns how often `echo.echo` was executed, and how many requests were refused as overdue.
async fn counts(client: &Client) -> (u64, u64) {
    let stats =
        client.object("echo").deadline(PATIENCE).call::<Value>("rpc.stats", ()).await.expect("statistics");
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    (count(&stats["methods"]["echo"]["calls"]), count(&stats["refused"]["overdue"]))
}

#[tokio::test]
async fn requests_that_expired_while_their_node_was_stopped_are_not_executed() {
    let bus = bus();
    let mut node = bus.serve(&["echo"]);
    node.wait_for("serving echo");
    let client = bus.client().await;
    let echo = client.object("echo");
    let call = |text: &'static str, deadline: Duration| {
        let echo = echo.clone().deadline(deadline);
        tokio::spawn(async move { echo.call::<String>("echo", text).await })
    };
    assert_eq!(call("before", PATIENCE).await.expect("no panic").expect("answered"), "before");

    node.signal(Signal::STOP);
    let patient = call("patient", PATIENCE);
    for _ in 0..20 {
        call("hasty", Duration::from_millis(400)).await.expect("no panic").expect_err("nobody answers");
    }
    // The caller of this request still waits when the node continues, but the request cannot be distinguished from the
    // others: it is refused, and sent again.
    let waits = call("waits", Duration::from_secs(3));
    let typed =
        bus.command(&["call", "echo.echo", "typed", "--timeout", "4"]).spawn().expect("the binary runs");
    sleep(Duration::from_millis(500)).await;
    node.signal(Signal::CONT);
    assert_eq!(patient.await.expect("no panic").expect("answered"), "patient");
    assert_eq!(waits.await.expect("no panic").expect("answered"), "waits");
    let typed = typed.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&typed.stdout), "typed\n", "{typed:?}");
    assert_eq!(counts(&client).await, (4, 22));

    // Requests that are sent now are fresh, however short their deadline.
    for _ in 0..10 {
        let fresh = call("fresh", Duration::from_secs(2)).await.expect("no panic");
        assert_eq!(fresh.expect("answered"), "fresh");
    }
    assert_eq!(counts(&client).await, (14, 22));
}
