//! The broker ends, and comes back on the same port.

use std::time::{Duration, Instant};

use super::process::{PATIENCE, broker, own};

#[tokio::test]
async fn everybody_comes_back_within_three_seconds() {
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
    let ended = tokio::time::timeout(Duration::from_secs(5), in_flight).await.expect("no hang");
    let ended = ended.expect("no panic").expect_err("it is not known");
    assert!(ended.is_retryable() && ended.to_string().contains("the connection to the broker was lost"));
    let port = bus.url.rsplit(':').next().expect("a port");
    let (_broker, url) = broker(&["--port", port]);
    assert_eq!(url, bus.url);
    let began = Instant::now();
    let calculator = client.object("calculator").deadline(Duration::from_millis(500));
    while calculator.call::<f64>("add", (2, 3)).await.is_err() {
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            calculator.call::<f64>("add", (2, 3)).await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.registry().wait_for_name("echo", PATIENCE).await.expect("the other too");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(nodes.iter_mut().all(super::process::Server::is_running), "nobody was restarted");
}
