//! Restarts of the broker on the same port.

use std::time::{Duration, Instant};

use super::process::{PATIENCE, broker, own, port_of};

/// Time limit of a reconnect; it takes less than three seconds on an idle machine.
const BACK_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn nodes_and_clients_reconnect_after_a_crash_of_the_broker() {
    let mut bus = own();
    let mut nodes = [bus.serve(&["calculator"]), bus.serve(&["echo"])];
    for node in &mut nodes {
        node.wait_for("serving");
    }
    let client = bus.client().await;
    let waiting = client.object("echo").deadline(PATIENCE);
    let in_flight =
        tokio::spawn(async move { waiting.call::<serde_json::Value>("delay", (15_000, "late")).await });
    let mut busy = true;
    while busy {
        let stats: serde_json::Value = client.object("echo").call("rpc.stats", ()).await.expect("statistics");
        busy = stats["methods"]["delay"]["in_flight"] != 1;
    }
    bus.broker.take().expect("ours").kill();
    let ended = tokio::time::timeout(Duration::from_secs(12), in_flight).await.expect("no hang");
    let ended = ended.expect("no panic").expect_err("it is not known");
    assert!(ended.is_retryable() && ended.to_string().contains("the connection to the broker was lost"));
    let (_broker, url) = broker(&["--port", &port_of(&bus.url)]);
    assert_eq!(url, bus.url);
    let began = Instant::now();
    let calculator = client.object("calculator").deadline(Duration::from_millis(500));
    while calculator.call::<f64>("add", (2, 3)).await.is_err() {
        assert!(began.elapsed() < BACK_WITHIN, "{:?}", calculator.call::<f64>("add", (2, 3)).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.registry().wait_for_name("echo", PATIENCE).await.expect("the other too");
    assert!(began.elapsed() < BACK_WITHIN, "{:?}", began.elapsed());
    assert!(nodes.iter_mut().all(super::process::Server::is_running), "nobody was restarted");
}

#[test]
fn node_with_a_closed_stderr_shuts_down_in_order() {
    let mut bus = own();
    let mut command = bus.command(&["serve", "echo"]);
    let mut node = command.stdout(std::process::Stdio::null()).spawn().expect("the binary runs");
    let stderr = node.stderr.take().expect("piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    assert!(lines.any(|line| line.expect("UTF-8").contains("serving echo")));
    // Now the pipe has no reader, and the command has something to print.
    drop(lines);
    bus.broker.take().expect("ours").kill();
    std::thread::sleep(Duration::from_millis(500));
    rustix::process::kill_process(rustix::process::Pid::from_child(&node), rustix::process::Signal::TERM)
        .expect("it runs");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = node.try_wait().expect("it can be waited for") {
            break Some(status);
        }
        if Instant::now() > deadline {
            node.kill().expect("it can be killed");
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}
