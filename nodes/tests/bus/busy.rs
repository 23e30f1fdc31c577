//! The nodes' queues at the broker are full: callers are answered at once that the object is busy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rantai_broker::Config;
use rantai_client::CallError;
use rantai_client::wire::fault::Code;
use rantai_nodes::kind::Output;
use rantai_site::config::{Config as NodesConfig, Configured};
use rantai_testing::{Connect, Publish, Version, disconnect, subscribe};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Bus, embedded};
use super::users::{CALLING, SERVING, log_in_raw};

/// Creates a disconnected persistent session of MQTT 3.1.1, the only one that is subscribed to the calls of `object`.
async fn sleeper(bus: &Bus, object: &str) {
    let mut socket = bus.open().await;
    let filter = format!("$share/{object}/{}/call/{object}/#", bus.root);
    let connect = log_in_raw(Connect::new(Version::V3).id("sleeper"), SERVING).resume().encode();
    let subscribe = subscribe(Version::V3, 1, &[(&filter, 1)]);
    socket.write_all(&[connect, subscribe].concat()).await.expect("sent");
    socket.flush().await.expect("sent");
    let mut acknowledged = [0; 9];
    socket.read_exact(&mut acknowledged).await.expect("CONNACK and SUBACK");
    assert_eq!((acknowledged[3], acknowledged[8]), (0, 1), "let in and granted");
    socket.write_all(&disconnect(Version::V3, 0, &[])).await.expect("DISCONNECT");
    socket.flush().await.expect("DISCONNECT");
    assert_eq!(socket.read(&mut [0]).await.expect("closed"), 0);
}

#[tokio::test]
async fn call_with_full_node_queues_is_answered_busy_at_once() {
    let mut config = Config::on_free_port();
    config.limits.queue_messages = 1;
    let bus = embedded(config).await;
    sleeper(&bus, "sleepy").await;
    let client = bus.client().await;
    // Without an expiry, because expired messages would make room.
    let topic = format!("{}/call/sleepy/run", bus.root);
    let mut publisher = bus.open().await;
    let connect = log_in_raw(Connect::new(Version::V5), CALLING).encode();
    let publish = Publish::new(&topic, "queued").qos(1).id(1).encode(Version::V5);
    publisher.write_all(&[connect, publish].concat()).await.expect("sent");
    publisher.flush().await.expect("sent");
    let mut read = Vec::new();
    while !read.ends_with(&[0x40, 2, 0, 1]) {
        assert_ne!(publisher.read_buf(&mut read).await.expect("CONNACK and PUBACK"), 0);
    }
    let began = Instant::now();
    let sleepy = client.object("sleepy").deadline(Duration::from_hours(1));
    let busy = sleepy.call::<Value>("run", ("refused",)).await.expect_err("no room");
    assert!(began.elapsed() < Duration::from_mins(1), "not left to its deadline");
    assert_eq!(busy.code(), Some(Code::BUSY), "{busy}");
    assert!(busy.is_retryable());
    assert!(busy.fault().expect("a fault").data["retry_after_ms"].is_u64());

    // A chain reports a busy next link in the same way.
    let node = bus.node().await;
    let chain = "[[chain]]\nprefix = ''\nname = 'first'\nnext = 'sleepy'\npassing = 'p'\nclosing = 'c'\n";
    let config = NodesConfig::from_toml(chain, "it").expect("a configuration");
    let output: Output = Arc::new(|_| {});
    for Configured { name, object, options, .. } in config.objects("it", &output).expect("objects") {
        node.serve_with(name.as_str(), object, options).await.expect("served");
    }
    let error: CallError =
        client.object("first").call::<Value>("process", (vec!["x"],)).await.expect_err("no room");
    assert_eq!(error.code(), Some(Code::BUSY), "{error}");
    assert_eq!(error.fault().expect("a fault").data["hop"], "sleepy");
}
