//! Two nodes with one client id, on a broker that closes connections without sending the reason.

use std::time::Duration;

use rantai_client::client::random_id;
use rantai_client::session::{Address, Publish, Status};
use rantai_client::wire::topic::RegistryTopic;
use rantai_nodes::Node;
use rantai_systems::echo::{EchoObject, Plain};
use rantai_testing::{Stream, length_of_first};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split};
use tokio::net::{TcpListener, TcpStream};

use super::support::{Bus, PATIENCE, bus, until};
use super::users::{SERVING, log_in};

/// First byte of a DISCONNECT packet.
const DISCONNECT: u8 = 0xE0;

/// Starts a relay to the broker that drops the broker's DISCONNECT. Nodes connect to it by TCP, and it connects by the
/// transport under test.
async fn taciturn(bus: &Bus) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let broker = bus.place.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = broker.open().await.expect("the broker is there");
            tokio::spawn(carry(client, server));
        }
    });
    log_in(Address::local(port), SERVING)
}

async fn carry(mut client: TcpStream, server: Stream) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = split(server);
    let down = async {
        let mut bytes = Vec::new();
        while from_server.read_buf(&mut bytes).await.unwrap_or_default() > 0 {
            while let Some(length) = length_of_first(&bytes).expect("packets").filter(|l| *l <= bytes.len()) {
                let packet: Vec<u8> = bytes.drain(..length).collect();
                if packet[0] != DISCONNECT && to_client.write_all(&packet).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = down => {}
        _ = copy(&mut from_client, &mut to_server) => {}
    }
}

#[tokio::test]
async fn of_two_nodes_that_push_each_other_out_one_ends_with_an_error() {
    let bus = bus().await;
    let address = taciturn(&bus).await;
    // Tests may share their broker.
    let name = random_id("double");
    let node = async || {
        let builder = Node::builder(address.clone()).root(bus.root.clone()).name(name.clone()).patient();
        builder.connect().await.expect("a node")
    };
    let nodes = [node().await, node().await];
    let reason = |node: &Node| match &*node.status().borrow() {
        Status::Ended(reason) => Some(reason.clone()),
        _ => None,
    };
    let deadline = tokio::time::Instant::now() + Duration::from_mins(2);
    while nodes.iter().all(|node| reason(node).is_none()) {
        assert!(tokio::time::Instant::now() < deadline, "both live on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let reason = nodes.iter().find_map(reason).expect("one has ended");
    assert!(reason.contains(&format!("another node connects as \"{name}\"")), "{reason}");
}

#[tokio::test]
async fn state_of_another_start_is_repaired_and_ends_no_node() {
    let bus = bus().await;
    let node = bus.node().await;
    node.serve("echo", EchoObject(Plain)).await.expect("served");
    let client = bus.admin().await;
    let topic = RegistryTopic::Node(node.name().clone());
    for _ in 0..4 {
        let forged = Publish::new(topic.format(&bus.root), r#"{"v":1,"state":"ready","epoch":"0"}"#).retain();
        client.publish(forged).await.expect("published");
        until("it is served again", async || {
            let name = "echo".parse().expect("a name");
            let view = client.registry().find(&name).await.expect("a view");
            view.served(&name).count() == 1
        })
        .await;
    }
    assert_eq!(*node.status().borrow(), Status::Online(1));
    node.drain(PATIENCE).await;
}
