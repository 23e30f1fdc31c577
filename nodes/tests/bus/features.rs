//! Broker features announced in CONNACK: they apply to the connection, and nodes trust user properties accordingly.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rantai_broker::Config;
use rantai_client::Client;
use rantai_client::object::Answer;
use rantai_client::session::Address;
use rantai_client::wire::user::User;
use rantai_nodes::Node;
use rantai_testing::{Place, Property, Stream, frame, length_of_first};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::support::{Run, open, until};

/// Relay in front of a broker that announces features in its CONNACK. Clients connect to it by TCP, and it connects by
/// the transport under test.
struct Relay {
    address: Address,
    features: Arc<Mutex<&'static str>>,
    cut: Arc<Notify>,
}

impl Relay {
    async fn start(broker: Place, features: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = Address::local(listener.local_addr().expect("bound").port());
        let (features, cut) = (Arc::new(Mutex::new(features)), Arc::new(Notify::new()));
        let relay = Self { address, features: features.clone(), cut: cut.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = broker.open().await.expect("the broker is there");
                let (features, cut) = (*features.lock(), cut.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(client, server, features) => {}
                        () = cut.notified() => {}
                    }
                });
            }
        });
        relay
    }
}

async fn carry(mut client: TcpStream, server: Stream, features: &str) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = split(server);
    let down = async {
        let mut bytes = Vec::new();
        let length = loop {
            if let Some(length) = length_of_first(&bytes).expect("a packet").filter(|l| *l <= bytes.len()) {
                break length;
            }
            if from_server.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
                return;
            }
        };
        // Fixed header of two bytes, flags, reason code, and fewer than 128 bytes of properties.
        let mut connack = bytes[2..4].to_vec();
        let mut properties = Property::user("rantai", features).encode();
        properties.extend(&bytes[5..length]);
        connack.push(u8::try_from(properties.len()).expect("few"));
        connack.extend(properties);
        bytes.splice(..length, frame(0x20, &connack));
        let _ = to_client.write_all(&bytes).await;
        let _ = copy(&mut from_server, &mut to_client).await;
    };
    tokio::select! {
        () = down => {}
        _ = copy(&mut from_client, &mut to_server) => {}
    }
}

#[tokio::test]
async fn caller_is_trusted_according_to_the_last_connack() {
    // A broker without features for the bus passes `caller` on unchanged, and has no users that could act for others.
    let mut config = Config::on_free_port();
    config.bus_roots.clear();
    let bus = open(config).await;
    let relay = Relay::start(bus.place.clone(), "teleport,caller").await;
    let builder = Node::builder(relay.address.clone()).root(bus.root.clone());
    let node = builder.connect().await.expect("a node");
    let who = Run(|call: rantai_client::object::Call| async move {
        let context = &call.context;
        Answer::value(&json!([context.caller().map(User::as_str), context.via().map(User::as_str)]))
    });
    node.serve("who", who).await.expect("served");
    let client: Client = bus.client().await;
    let ada = User::new("ada").expect("a user name");
    let proxy = client.object("who").for_user(&ada).property("via", "gateway");
    // A request that the node had when its connection was cut gets no reply.
    let proxy = proxy.deadline(Duration::from_secs(2));
    assert_eq!(proxy.call::<Value>("run", ()).await.expect("answered"), json!(["ada", "gateway"]));
    *relay.features.lock() = "grants";
    relay.cut.notify_waiters();
    until("the node is back on a broker that stamps nothing", async || {
        proxy.call::<Value>("run", ()).await.is_ok_and(|answer| answer == json!([null, null]))
    })
    .await;
    *relay.features.lock() = "caller";
    relay.cut.notify_waiters();
    until("the node is back on a broker that stamps it", async || {
        proxy.call::<Value>("run", ()).await.is_ok_and(|answer| answer == json!(["ada", "gateway"]))
    })
    .await;
}
