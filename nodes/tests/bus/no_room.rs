//! The broker has no room for a node's entry or state, as on a full disk: the node is served once there is room,
//! without a new connection.
//!
//! Regression: the node gave the name up, and its state remained that of its last will.

use std::sync::Arc;
use std::time::Duration;

use rantai_broker::Config;
use rantai_client::object::Answer;
use rantai_client::wire::name::ObjectName;
use rantai_testing::{Connect, Packet, Publish, Stream, Version, length_of_first, read_packet};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use super::support::{PATIENCE, Run, open};

const ROOM: u16 = 4;

/// Sends a packet, and returns the response.
async fn ask(socket: &mut Stream, packet: &[u8]) -> Packet {
    socket.write_all(packet).await.expect("sent");
    socket.flush().await.expect("sent");
    let mut read = Vec::new();
    loop {
        assert_ne!(socket.read_buf(&mut read).await.expect("an answer"), 0);
        if length_of_first(&read).expect("a packet").is_some_and(|length| length == read.len()) {
            return read_packet(Version::V5, &read).expect("a packet");
        }
    }
}

/// Publishes a retained message on a topic with this number; an empty payload removes it. Returns the reason code.
async fn retain(socket: &mut Stream, number: u16, payload: &str) -> u8 {
    let publish = Publish::new(&format!("filler/{number}"), payload).qos(1).retain().id(number);
    let Packet::Puback(puback) = ask(socket, &publish.encode(Version::V5)).await else { panic!("no PUBACK") };
    puback.code
}

#[tokio::test]
async fn a_node_is_served_once_the_broker_has_room_for_its_entry() {
    let mut config = Config::on_free_port();
    config.limits.retained = ROOM.into();
    let bus = open(config).await;
    let mut socket = bus.open().await;
    assert!(matches!(ask(&mut socket, &Connect::new(Version::V5).encode()).await, Packet::Connack(_)));
    // As many connections as one address may have.
    let mut count = 0;
    while retain(&mut socket, count + 1, "x").await < 0x80 {
        count += 1;
    }
    assert!((1..=ROOM).contains(&count), "{count}");

    let node = Arc::new(bus.node().await);
    let run = Run(|_| async { Ok(Answer::Value(json!(7))) });
    let serving = tokio::spawn({
        let node = node.clone();
        async move { node.serve("late", run).await }
    });
    sleep(Duration::from_millis(500)).await;
    assert!(!serving.is_finished(), "it waits for room");
    for number in 1..=count {
        assert!(retain(&mut socket, number, "").await < 0x80);
    }
    timeout(PATIENCE, serving).await.expect("served").expect("no panic").expect("served");
    // Served according to its entry and its state.
    let client = bus.client().await;
    let name = ObjectName::any("late").expect("a name");
    client.registry().wait_for(&name, PATIENCE).await.expect("a node that is ready");
    assert_eq!(client.object("late").call::<u64>("run", ()).await.expect("answered"), 7);
}
