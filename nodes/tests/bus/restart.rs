//! Restarts of the broker on the same port.

use std::time::{Duration, Instant};

use rantai_broker::Config;
use rantai_client::CallError;
use rantai_client::session::Filter;
use rantai_client::wire::topic::RegistryTopic;
use rantai_systems::echo::{EchoObject, Plain};
use serde_json::Value;

use super::support::{PATIENCE, again, embedded, until};

#[tokio::test]
async fn objects_are_callable_again_after_a_restart_of_the_broker() {
    let mut bus = embedded(Config::on_free_port()).await;
    let node = bus.node().await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let client = bus.client().await;
    let waiting = client.object("echo").deadline(PATIENCE);
    let in_flight = tokio::spawn(async move { waiting.call::<Value>("delay", (15_000, "late")).await });
    until("the call runs", async || node.objects()[0].running() == 1).await;
    bus.broker.take().expect("ours").shutdown().await;
    let ended =
        tokio::time::timeout(Duration::from_secs(12), in_flight).await.expect("no hang").expect("no panic");
    assert!(matches!(ended, Err(CallError::Lost)), "{ended:?}");
    // A connection that lasted less than a second does not reset the delays of the next attempts.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _broker = again(&bus).await;
    let began = Instant::now();
    let echo = client.object("echo").deadline(Duration::from_millis(500));
    until("it answers", async || echo.call::<String>("echo", "x").await.is_ok()).await;
    // Takes less than three seconds on an idle machine.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let view = client.registry().list().await.expect("a view");
    assert_eq!(view.all().filter(|(_, served)| *served).count(), 1);
}

#[tokio::test]
async fn idempotent_call_is_retransmitted_after_a_reconnect() {
    let mut bus = embedded(Config::on_free_port()).await;
    let node = bus.node().await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let echo = bus.client().await.object("echo").deadline(PATIENCE).idempotent();
    let in_flight = tokio::spawn(async move { echo.call::<Value>("delay", (2_000, "late")).await });
    until("the call runs", async || node.objects()[0].running() == 1).await;
    bus.broker.take().expect("ours").shutdown().await;
    let _broker = again(&bus).await;
    let result = in_flight.await.expect("no panic");
    // If the node reconnects after the client, no node can receive the repeated request yet, and the new broker's
    // registry has no entry of the object, or one of a node that is not back.
    match result {
        Ok(text) => assert_eq!(text, "late"),
        Err(error) => assert!(matches!(error.code().map(|c| c.0), Some(-32003 | -32004)), "{error}"),
    }
    assert!(node.objects()[0].running() <= 1, "it ran once");
}

#[tokio::test]
async fn claim_is_repeated_after_its_connection_was_lost() {
    let mut bus = embedded(Config::on_free_port()).await;
    let node = std::sync::Arc::new(bus.node().await);
    let claimant = node.clone();
    let claim = tokio::spawn(async move { claimant.serve("echo", EchoObject(Plain)).await });
    let client = bus.client().await;
    let entries = RegistryTopic::entries_of(&bus.root, &"echo".parse().expect("a name"));
    let mut entries = client.subscribe(vec![Filter::new(entries)]).await.expect("subscribed");
    entries.next().await.expect("an entry that is not settled");
    bus.broker.take().expect("ours").shutdown().await;
    let _broker = again(&bus).await;
    let claimed = tokio::time::timeout(PATIENCE, claim).await.expect("no hang").expect("no panic");
    claimed.expect("served");
}

#[tokio::test]
async fn a_node_ends_in_order_while_the_broker_is_away() {
    let mut bus = embedded(Config::on_free_port()).await;
    let node = bus.node().await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    bus.broker.take().expect("ours").shutdown().await;
    let mut status = node.status();
    let offline = status.wait_for(|s| *s == rantai_client::session::Status::Offline);
    tokio::time::timeout(PATIENCE, offline).await.expect("noticed").expect("open");
    let drained = tokio::time::timeout(PATIENCE / 2, node.drain(PATIENCE)).await;
    assert!(drained.is_ok(), "it waits for nobody");
}

#[tokio::test]
async fn call_made_without_a_broker_is_sent_after_the_reconnect() {
    let mut bus = embedded(Config::on_free_port()).await;
    let client = bus.client().await;
    bus.broker.take().expect("ours").shutdown().await;
    let short = client.object("echo").deadline(Duration::from_millis(200));
    let error = short.call::<Value>("echo", "x").await.expect_err("nobody there");
    assert_eq!(error.code().map(|c| c.0), Some(-32001), "it never left: {error}");
    let patient = client.object("echo").deadline(PATIENCE);
    let call = tokio::spawn(async move { patient.call::<String>("echo", "x").await });
    let _broker = again(&bus).await;
    let node = bus.node().await;
    let replica = rantai_nodes::ServeOptions {
        mode: rantai_client::wire::entry::Mode::Replica,
        ..rantai_nodes::ServeOptions::default()
    };
    node.serve_with("echo", std::sync::Arc::new(EchoObject(Plain)), replica).await.expect("served");
    let result = call.await.expect("no panic");
    // Depending on which of the two is back first, the call is answered, or fails because no node serves the object
    // yet.
    match result {
        Ok(text) => assert_eq!(text, "x"),
        Err(error) => assert!(error.is_retryable(), "{error}"),
    }
}
