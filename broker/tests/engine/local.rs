//! Connections from the broker's own process: admitted regardless of the users, with reserved client ids.

use std::time::Duration;

use rantai_broker::LocalStream;
use rantai_testing::{Packet, Will, length_of_first, read_packet, subscribe};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::Own;
use crate::support::{Connect, Publish, Version};
use Version::{V3, V5};

fn with_users(config: &mut rantai_broker::Config) {
    config.anonymous = false;
    config.users = vec![crate::support::user("ada", "a")];
}

fn local(own: &Own, version: Version, id: &str) -> Connect {
    let credentials = own.broker.local_credentials().expect("our own engine");
    Connect::new(version).id(id).user(&credentials.user).password(&credentials.password)
}

#[tokio::test]
async fn local_credentials_are_admitted_besides_users_and_guesses_are_refused() {
    let own = Own::start(with_users).await;
    let credentials = own.broker.local_credentials().expect("our own engine");
    for version in Version::BOTH {
        let mut node = own.connect(local(&own, version, "node")).await;
        node.subscribe("t", 1).await;
        let mut ada = own.connect(Connect::new(V5).user("ada").password("a")).await;
        assert_eq!(ada.publish(Publish::new("t", "x").qos(1)).await, 0);
        assert_eq!(node.message().await.text(), "x");
        let wrong = if version == V5 { 0x86 } else { 4 };
        for password in ["", "a", &credentials.password[1..]] {
            let guess = Connect::new(version).user(&credentials.user).password(password);
            assert_eq!(own.try_connect(guess).await.1, wrong, "{password:?}");
        }
        let unnamed = Connect::new(version).user("ada").password(&credentials.password);
        assert_eq!(own.try_connect(unnamed).await.1, wrong, "not another user's password");
    }
    let other = Own::start(with_users).await;
    assert_eq!(other.try_connect(local(&own, V5, "node")).await.1, 0x86, "drawn anew at each start");
    assert!(!format!("{credentials:?}").contains(&credentials.password));
}

/// Once, any client that connected with the client id of `rantai up`'s node ended all its objects.
#[tokio::test]
async fn the_client_id_of_a_local_connection_is_reserved() {
    let own = Own::start(|_| {}).await;
    // An earlier client with this id is disconnected.
    let mut squatter = own.connect(Connect::new(V5).id("node")).await;
    let mut node = own.connect(local(&own, V5, "node")).await;
    squatter.assert_refused(&[0x8e]).await;
    node.subscribe("t", 1).await;
    for (version, code) in [(V3, 2), (V5, 0x85)] {
        for connect in
            [Connect::new(version).id("node"), Connect::new(version).id("node").persistent().resume()]
        {
            assert_eq!(own.try_connect(connect).await.1, code);
        }
    }
    let mut publisher = own.client(V5).await;
    assert_eq!(publisher.publish(Publish::new("t", "x").qos(1)).await, 0);
    assert_eq!(node.message().await.text(), "x", "it is still connected");
    node.cut().await;
    assert_eq!(own.try_connect(Connect::new(V5).id("node")).await.1, 0x85, "also while it is away");
    own.connect(local(&own, V5, "node")).await;
    own.connect(Connect::new(V5).id("node-2")).await;
}

#[tokio::test]
async fn the_broker_process_is_exempt_from_the_limit_of_connections() {
    let own = Own::start(|c| c.limits.connections = 1).await;
    let _first = own.client(V5).await;
    assert_eq!(own.try_connect(Connect::new(V5)).await.1, 0x89);
    own.connect(local(&own, V5, "node")).await;
}

/// Reads one packet of a connection within the process; `None` after the broker has closed it.
async fn next(stream: &mut LocalStream, read: &mut Vec<u8>) -> Option<Packet> {
    loop {
        if let Some(length) =
            length_of_first(read).expect("well-formed").filter(|length| *length <= read.len())
        {
            let packet: Vec<u8> = read.drain(..length).collect();
            return Some(read_packet(V5, &packet).expect("well-formed"));
        }
        let count = timeout(Duration::from_secs(30), stream.read_buf(read)).await.expect("in time");
        if count.expect("closed without an error") == 0 {
            return None;
        }
    }
}

#[tokio::test]
async fn a_connection_without_a_socket_carries_mqtt_like_any_other() {
    let own = Own::start(with_users).await;
    let connector = own.broker.connector().expect("our own engine");
    // Only the process itself is admitted.
    for connect in [Connect::new(V5), Connect::new(V5).user("ada").password("a")] {
        let (mut stream, mut read) = (connector.connect().expect("it runs"), Vec::new());
        stream.write_all(&connect.encode()).await.expect("taken");
        let refused = next(&mut stream, &mut read).await;
        assert!(matches!(&refused, Some(Packet::Connack(connack)) if connack.code >= 0x80), "{refused:?}");
        assert!(next(&mut stream, &mut read).await.is_none());
    }
    let (mut stream, mut read) = (connector.connect().expect("it runs"), Vec::new());
    let will = Will::new("gone", b"x");
    stream.write_all(&local(&own, V5, "node").will(will).encode()).await.expect("taken");
    let accepted = next(&mut stream, &mut read).await;
    assert!(matches!(&accepted, Some(Packet::Connack(connack)) if connack.code == 0), "{accepted:?}");
    stream.write_all(&subscribe(V5, 1, &[("t", 1)])).await.expect("taken");
    assert!(matches!(next(&mut stream, &mut read).await, Some(Packet::Suback(_))));
    // More bytes than either side may write before the other one reads.
    let large = vec![b'x'; 1 << 20];
    let mut ada = own.connect(Connect::new(V5).user("ada").password("a")).await;
    ada.subscribe("gone", 0).await;
    assert_eq!(ada.publish(Publish::new("t", &large).qos(1)).await, 0);
    let delivered = next(&mut stream, &mut read).await;
    assert!(matches!(&delivered, Some(Packet::Publish(publish)) if publish.payload == large));
    stream.write_all(&Publish::new("t", &large).qos(0).encode(V5)).await.expect("taken");
    assert!(matches!(next(&mut stream, &mut read).await, Some(Packet::Publish(_))));
    drop(stream);
    assert_eq!(ada.message().await.text(), "x", "the will of a connection that was dropped");
    let (mut stream, mut read) = (connector.connect().expect("it runs"), Vec::new());
    stream.write_all(&local(&own, V5, "node").encode()).await.expect("taken");
    assert!(matches!(next(&mut stream, &mut read).await, Some(Packet::Connack(_))));
    own.broker.shutdown().await;
    assert!(matches!(next(&mut stream, &mut read).await, Some(Packet::Disconnect { .. })));
    assert!(next(&mut stream, &mut read).await.is_none());
    let refused = connector.connect().expect_err("it has stopped");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}
